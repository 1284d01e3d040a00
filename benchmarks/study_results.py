"""Results of a study as lines of JSON, so that a stopped study goes on where it was."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def noted(path: Path) -> list[dict[str, Any]]:
    """Read the results, in the order of the file. A line that a stop cut short counts as not measured."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


def note(path: Path, found: dict[str, Any]) -> None:
    """Write a result as a line of its own, at once, so that several studies can share the file; and print it."""
    line = json.dumps(found)
    with path.open("ab+") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        cut_short = file.read() not in (b"", b"\n")
        file.write(b"\n" * cut_short + line.encode() + b"\n")
    print(line, flush=True)
