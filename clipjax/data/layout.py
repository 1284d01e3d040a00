"""Tell classes and splits from where images lie, for folders and archives that carry no manifest."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from clipjax.data.source import UNKNOWN

IMAGE_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".gif",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
    )
)
SPLIT_FOLDERS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))


class Layout(NamedTuple):
    """What the folders say about each image."""

    labels: Int[np.ndarray, " images"]
    classnames: list[str]
    splits: list[str]


def is_image_path(path: str) -> bool:
    """Say whether a relative path names an image that is not hidden, by its suffix in any case."""
    parts = PurePosixPath(path).parts
    hidden = any(part.startswith(".") and part not in (".", "..") for part in parts)
    return not hidden and PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def read_layout(paths: Sequence[str]) -> Layout:
    """Name each image's class after its topmost folder; the label is that name's sorted position.

    Two habits of people who pack data sets are allowed for: one folder around everything is looked
    through when class folders follow, and where every topmost folder is called train, val or test
    it is the split and the class is the folder below. Images under no folder are unlabelled.
    """
    folders = [PurePosixPath(path).parts[:-1] for path in paths]
    while folders and _is_wrapped(folders):
        folders = [parts[1:] for parts in folders]
    splits = [""] * len(folders)
    if folders and all(parts and parts[0].lower() in SPLIT_FOLDERS for parts in folders):
        splits = [parts[0] for parts in folders]
        folders = [parts[1:] for parts in folders]
    classnames = [parts[0] if parts else "" for parts in folders]
    label_of = {name: label for label, name in enumerate(sorted(set(classnames) - {""}))}
    labels = np.array([label_of.get(name, UNKNOWN) for name in classnames], np.int64)
    return Layout(labels, classnames, splits)


def _is_wrapped(folders: list[tuple[str, ...]]) -> bool:
    first = folders[0][0] if folders[0] else ""
    if first.lower() in SPLIT_FOLDERS:
        return False
    return all(len(parts) > 1 and parts[0] == first for parts in folders)


def printable(path: str) -> str:
    """Spell a path that is not valid UTF-8 so that it can be written to any file."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
