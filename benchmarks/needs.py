"""What benchmarks need besides clipjax, and the line that says what is missing."""

import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path

DATA = Path(os.environ.get("CLIPJAX_TEST_DATA", Path(__file__).resolve().parents[2] / "shared"))

_REMEDIES = {
    "torch": "PyTorch and transformers are not installed: pip install '.[parity]'",
    "flatbuffers": "flatbuffers is not installed: pip install '.[export]'",
    "testbed": f"no test data at {DATA / 'testbed'}: set CLIPJAX_TEST_DATA to the folder that holds it",
}


def missing(needs: Iterable[str]) -> list[str]:
    """Say in one line for each thing that is not there how to get it."""
    return [_REMEDIES[need] for need in needs if not _present(need)]


def require(*needs: str) -> None:
    """End the program with status 2 and one line where something is missing."""
    absent = missing(needs)
    if absent:
        print("; ".join(absent), file=sys.stderr)
        sys.exit(2)


def _present(need: str) -> bool:
    if need == "testbed":
        return (DATA / "testbed").is_dir()
    modules = ("torch", "transformers") if need == "torch" else (need,)
    return all(importlib.util.find_spec(module) for module in modules)
