"""Read the small text and JSON files people write by hand: class lists, captions, splits, manifests.

Nothing here knows what a file means; every failure names the file and, where there is one, the line.
"""

import json
import os
from pathlib import Path
from typing import Any

from clipjax.errors import DataError


def read_text(path: str | os.PathLike) -> str:
    """Read a UTF-8 text file, with or without a byte order mark.

    Raises:
      DataError: the file is missing, unreadable or not UTF-8.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    return decode_text(content, str(path))


def decode_text(content: bytes, name: str) -> str:
    """Decode UTF-8 bytes that came from `name`.

    Raises:
      DataError: the bytes are not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{name}: line {line} is not UTF-8 text; save the file as UTF-8") from None


def parse_json(text: str, name: str) -> Any:
    """Parse JSON strictly: a key given twice in one object is an error, not a silent overwrite.

    Raises:
      DataError: the text is not JSON, or repeats a key.
    """

    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            keys = [key for key, _ in pairs]
            repeated = next(key for key in keys if keys.count(key) > 1)
            raise DataError(f"{name}: the key {repeated!r} is given twice in one object; keep one of them")
        return mapping

    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{name}: line {error.lineno} is not valid JSON ({error.msg}); mend or rewrite the file"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: not usable JSON ({error}); rewrite the file") from None


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file, strictly.

    Raises:
      DataError: see `read_text` and `parse_json`.
    """
    return parse_json(read_text(path), str(path))


def split_key(spec: str | os.PathLike) -> tuple[Path, str | None]:
    """Take `FILE` or `FILE:KEY` apart; a file whose name holds a colon is found before a key is.

    Raises:
      DataError: no part of `spec` names a file.
    """
    spec = str(spec)
    head, key = spec, None
    while True:
        path = existing_path(head)
        if path is not None and path.is_file():
            return path, key
        head, colon, tail = head.rpartition(":")
        if not colon:
            raise DataError(f"{spec}: no such file; check the path (FILE, or FILE:KEY for one entry of a file)")
        key = tail if key is None else f"{tail}:{key}"


def existing_path(name: str | os.PathLike) -> Path | None:
    """Return the path that a person named, `~` expanded, or None where nothing can be of that name."""
    try:
        path = Path(name).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):
        # too long, or the home of nobody: text that is not a path at all
        return None


def looks_like_json(text: str) -> bool:
    """Tell a JSON list or object from plain lines of text."""
    return text.lstrip()[:1] in ("[", "{")


def examples(values: list[str] | tuple[str, ...], limit: int = 3) -> str:
    """Quote the first few values for an error message, and say how many more there are."""
    shown = ", ".join(repr(value) for value in values[:limit])
    return shown if len(values) <= limit else f"{shown} and {len(values) - limit} more"
