"""Animals with Attributes 2: which class has which attribute, from the text files that come with the images."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from clipjax.data.textfile import read_text
from clipjax.errors import DataError

TEST_CLASSES = (
    "chimpanzee", "giant+panda", "hippopotamus", "humpback+whale", "leopard", "persian+cat", "pig", "raccoon", "rat",
    "seal",
)  # fmt: skip
"""The ten test classes of the standard split."""

_FILES = ("classes.txt", "predicates.txt", "predicate-matrix-binary.txt")


class AttributeTable(NamedTuple):
    """Classes and attributes in the files' order, and which class has which."""

    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    has: Bool[np.ndarray, "classes attributes"]

    def of(self, classname: str) -> tuple[str, ...]:
        """Return the attributes of a class.

        Raises:
          DataError: there is no such class.
        """
        if classname not in self.classes:
            raise DataError(f"the attribute table has no class {classname!r}; its classes are named as in classes.txt")
        return tuple(np.array(self.attributes)[self.has[self.classes.index(classname)]].tolist())


def read_attributes(folder: str | os.PathLike) -> AttributeTable:
    """Read the attribute table of the folder that the data set was unpacked to.

    Raises:
      DataError: a file is missing, or they do not fit together.
    """
    folder = Path(folder)
    absent = [name for name in _FILES if not (folder / name).is_file()]
    if absent:
        raise DataError(
            f"{folder}: lacks {', '.join(absent)}; give the folder of Animals with Attributes 2 that holds "
            f"{', '.join(_FILES)} and JPEGImages/"
        )
    classes, attributes = (_numbered(folder / name) for name in _FILES[:2])
    rows = [line.split() for line in read_text(folder / _FILES[2]).splitlines() if line.strip()]
    if len(rows) != len(classes) or any(len(row) != len(attributes) or set(row) - {"0", "1"} for row in rows):
        raise DataError(
            f"{folder / _FILES[2]}: expected {len(classes)} lines of {len(attributes)} zeros and ones, one line for "
            "each class; unpack the data set again"
        )
    return AttributeTable(classes, attributes, np.array(rows) == "1")


def _numbered(path: Path) -> tuple[str, ...]:
    """Read lines of a number and a name."""
    names = []
    for number, line in enumerate(filter(str.strip, read_text(path).splitlines()), 1):
        match line.split():
            case [place, name] if place == str(number):
                names.append(name)
            case _:
                raise DataError(f"{path}: line {number} is {line.strip()[:40]!r}; expected {number} and a name")
    return tuple(names)
