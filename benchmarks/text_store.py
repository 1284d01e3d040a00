"""Writing, opening and reading a store of a million captions.

    python -m benchmarks.text_store

Prints one JSON line: seconds, and the memory that the open store takes.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

from benchmarks.timing import machine
from clipjax.texts.record import TextRecord
from clipjax.texts.store import TextStore

_AT_ONCE = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.jsonl"
        seconds = {"write_s": timed(lambda: write(path, args.records))}
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        store = TextStore(path, create=True)
        seconds["open_s"] = timed(lambda: TextStore(path))
        seconds["read_s"] = timed(lambda: sum(1 for _ in store.records()))
        size = path.stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = {"benchmark": "text_store", "records": args.records, "file_mb": round(size / 1e6), **seconds}
    print(json.dumps({**report, "peak_growth_mb": round((peak - before) / 1e3), **machine()}))


def write(path: Path, count: int) -> None:
    """Write captions such as a model writes them."""
    store = TextStore(path, create=True)
    for start in range(0, count, _AT_ONCE):
        store.append(caption(number) for number in range(start, min(start + _AT_ONCE, count)))


def caption(number: int) -> TextRecord:
    """Make the caption of one image."""
    text = f"a photo of dog number {number} on a wet beach with some grass"
    asked = {"prompt": "image-caption", "prompt_fingerprint": "abcdef012345"}
    decoding = {"temperature": 0.0, "max_tokens": 77}
    return TextRecord("caption", (f"{number:08d}.jpg",), text, "llava", **asked, decoding=decoding, time="2026-11-21")


def timed(work) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    work()
    return round(time.perf_counter() - start, 2)


if __name__ == "__main__":
    main()
