"""A list of a checkpoint's files with their sizes and CRCs: whether it is whole is known before anybody parses it."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

_NAME = "files.json"
_PIECE = 1 << 22


def write(folder: Path, *, without: Sequence[str] = ()) -> None:
    """List all files below a folder, except those that are still going to change."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    facts = {name: _facts(folder / name) for name in names if name not in without}
    (folder / _NAME).write_text(json.dumps(facts), encoding="utf-8")


def damage(folder: Path, *, share: int = 0, shares: int = 1, below: str = "") -> str | None:
    """Say what is wrong with a folder, None if nothing is.

    Each of several readers checks its share of the files. Only names that begin with `below` are read.
    """
    try:
        facts = json.loads((folder / _NAME).read_bytes())
        for name in sorted(name for name in facts if name.startswith(below))[share::shares]:
            if _facts(folder / name) != facts[name]:
                return f"{name} has changed"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"{_NAME} or a file it lists cannot be read: {error}"
    return None


def _facts(path: Path) -> list[int]:
    crc, size = 0, 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            crc, size = zlib.crc32(piece, crc), size + len(piece)
    return [size, crc]
