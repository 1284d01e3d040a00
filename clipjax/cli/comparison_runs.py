"""One run of a comparison: `clipjax adapt` in a process of its own, what it came to, and what it cost."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from clipjax.cli.comparison_cells import Cell

NOTE = "comparison.json"
"""What a run of a comparison came to, in the run's directory."""


class AtWork:
    """The processes that are at work, which `stop` ends; from then on none begins."""

    def __init__(self):
        self._children: set[subprocess.Popen] = set()
        self._stopped = False
        self._lock = threading.Lock()  # a process that begins while others are being stopped is among them

    @contextlib.contextmanager
    def process(self, *words: str, **options: Any) -> Iterator[subprocess.Popen]:
        """Begin a process, which is among those at work until the context ends.

        Raises:
          InterruptedError: they were stopped.
        """
        with self._lock:
            if self._stopped:
                raise InterruptedError("the comparison was stopped")
            child = subprocess.Popen(words, **options)
            self._children.add(child)
        try:
            with child:
                yield child
        finally:
            with self._lock:
                self._children.discard(child)

    def stop(self) -> None:
        """Ask all processes to end."""
        with self._lock:
            self._stopped = True
            for child in self._children:
                child.terminate()


def result_of(cell: Cell, at_work: AtWork, lock: int | None = None) -> dict[str, Any]:
    """Run a cell, or read what it came to; a failure is a result, too. `at_work` holds its process meanwhile."""
    from clipjax.cli.sessions import versions
    from clipjax.evaluation.run_record import SESSIONS_FILE

    if (known := known_result(cell)) is not None:
        return known
    found: dict[str, Any] = {
        "problem": cell.problem, "row": cell.row, "method": cell.method, "seed": cell.seed, "run": str(cell.folder),
    }  # fmt: skip
    if cell.lacks:
        return {**found, "status": "skipped", "reason": f"the problem has no {cell.lacks}"}
    start = time.monotonic()
    with at_work.process(
        sys.executable, "-m", "clipjax.cli.main", *cell.words,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace",
        pass_fds=() if lock is None else (lock,),
    ) as child, ThreadPoolExecutor(1) as reader:  # fmt: skip
        said = reader.submit(child.stderr.read)  # pyright: ignore[reportOptionalMemberAccess]
        printed = child.stdout.read()  # pyright: ignore[reportOptionalMemberAccess]
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    found["seconds"] = round(time.monotonic() - start, 1)
    if child.returncode != 0:
        last = (said.result().strip().splitlines() or [f"exit status {child.returncode}"])[-1]
        return {**found, "status": "failed", "reason": last.removeprefix("clipjax: error: ")}
    document = json.loads(printed.strip().splitlines()[-1])
    made_with = versions()
    unit = 1 if sys.platform == "darwin" else 1024
    found |= {
        "status": "done",
        "top1": document["after"]["top1"],
        "top1_zero_shot": document["before"]["top1"],
        "mean_per_class": document["after"]["mean_per_class"],
        "ece": document["after"]["ece"],
        "images": document["images"],
        "texts": _count(cell.store),
        "training_seconds": _training_seconds(cell.folder / "metrics.jsonl"),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_memory_mb": round(used.ru_maxrss * unit / 1e6),
        "versions": ", ".join(f"{name} {made_with[name]}" for name in ("clipjax", "jax") if name in made_with),
    }
    found |= _costs_of_several_sessions(cell.folder / SESSIONS_FILE, found["seconds"])
    note = cell.folder / NOTE
    note.parent.mkdir(parents=True, exist_ok=True)
    kept = {**found, "words": cell.words, "files": _files(cell)}
    note.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return found


def known_result(cell: Cell) -> dict[str, Any] | None:
    """Read what a cell came to; None where it was not run, or other words or files were read."""
    try:
        found = json.loads((cell.folder / NOTE).read_text(encoding="utf-8"))
        same = (tuple(found.pop("words")), found.pop("files")) == (cell.words, _files(cell))
        return found if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _files(cell: Cell) -> dict[str, list[int]]:
    """Return size and time of each file that a run reads: another store or tar under the same name is another run."""
    found = {}
    for word in cell.words:
        path = Path(word.partition(":")[0] if ":" in word and not Path(word).exists() else word)
        with contextlib.suppress(OSError, ValueError):  # most words are no paths
            if path.is_file():
                about = path.stat()
                found[str(path)] = [about.st_size, about.st_mtime_ns]
    return found


def _costs_of_several_sessions(path: Path, seconds: float) -> dict[str, Any]:
    """Add up what a run took that was stopped and went on; of one that did not, there is nothing to add.

    `seconds` are those of the last part; earlier ones are known from when work began. A part that was killed left no
    note, so that the sum is not known.
    """
    if not path.is_file():
        return {}
    unknown: dict[str, Any] = {"seconds": None, "processor_seconds": None, "peak_memory_mb": None}
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        starts = sum(entry["event"] == "start" for entry in entries)
        ends = [(entry["seconds"], entry["peak_memory_mb"]) for entry in entries if entry["event"] != "start"]
        if starts < 2:
            return {}
        if len(ends) != starts:
            return unknown
        whole, memory = sum(taken for taken, _ in ends[:-1]) + seconds, max(memory for _, memory in ends)
    except (OSError, ValueError, KeyError, TypeError):
        return unknown
    return {**unknown, "seconds": round(whole, 1), "peak_memory_mb": memory}


def _training_seconds(path: Path) -> float | None:
    """Add up the seconds of all steps, without waiting for data: what the devices were needed for."""
    total, before = 0.0, {}
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return None
    for entry in entries:
        steps = entry["step"] - before.get(entry["stage"], 0)
        before[entry["stage"]] = entry["step"]
        total += steps * (entry.get("step_seconds") or 0.0) * (1 - (entry.get("wait_share") or 0.0))
    return round(total, 1)


def _count(store: str | None) -> int:
    """Count the texts that a method could read."""
    from clipjax.texts.collected import read_texts

    if store is None:
        return 0
    return sum(len(texts) for written in read_texts(store).of_kind.values() for texts in written.values())
