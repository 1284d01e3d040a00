"""Peak of this process's anonymous memory: what it allocated, without files mapped or cached by the system."""

import threading
from pathlib import Path

_INTERVAL = 0.002


def anonymous_bytes() -> int:
    """Return the anonymous memory of this process now (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not report anonymous memory; run on Linux")


class PeakMemory:
    """Sample anonymous memory while a `with` block runs; `peak` is its maximum above that at the start, in bytes."""

    def __enter__(self) -> "PeakMemory":
        self.peak = 0
        self._start = anonymous_bytes()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._done.set()
        self._thread.join()
        self._update()

    def _sample(self) -> None:
        while not self._done.wait(_INTERVAL):
            self._update()

    def _update(self) -> None:
        self.peak = max(self.peak, anonymous_bytes() - self._start)
