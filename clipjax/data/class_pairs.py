"""Sentences about two classes, how a first looks other than a second, from a CSV that people write by hand."""

import csv
import io
import os
from typing import NamedTuple

from clipjax.data.classes import ClassList, positions_by_name
from clipjax.data.textfile import examples, read_text
from clipjax.errors import DataError

HEADER = ("first", "second", "sentence")


class ClassSentence(NamedTuple):
    """A sentence about two classes by their position, in this order."""

    first: int
    second: int
    text: str


def read_class_pairs(path: str | os.PathLike, classes: ClassList) -> list[ClassSentence]:
    """Read lines of first,second,sentence below that header; a pair may have several sentences.

    Class names match as labels do, whatever their case, underscores and hyphens.

    Raises:
      DataError: another layout, a class that is not in the list, or a pair without a sentence.
    """
    positions_of = positions_by_name(classes)

    def position(name: str, number: int) -> int:
        match sorted(positions_of(name.strip())):
            case [only]:
                return only
            case []:
                problem = f"is none of the classes ({examples(classes.names)})"
            case several:
                problem = f"stands for several classes ({examples([classes.names[place] for place in several])})"
        raise DataError(f"{path}: line {number}: {name.strip()!r} {problem}; write a name of the class list")

    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    found = []
    try:
        header = next(reader, [])
        if tuple(name.strip().lower() for name in header) != HEADER:
            raise DataError(f"{path}: line 1 reads {','.join(header)[:60]!r}; begin with {','.join(HEADER)}")
        for row in reader:
            if not any(map(str.strip, row)):
                continue
            number = reader.line_num
            if len(row) != len(HEADER):
                raise DataError(
                    f"{path}: line {number} has {len(row)} fields; write {','.join(HEADER)}, and put a sentence that "
                    "holds commas in quotes"
                )
            first, second = position(row[0], number), position(row[1], number)
            if first == second:
                raise DataError(f"{path}: line {number} compares {row[0].strip()!r} with itself; name two classes")
            if not row[2].strip():
                raise DataError(
                    f"{path}: line {number} has no sentence; write how {row[0].strip()!r} looks other than "
                    f"{row[1].strip()!r}"
                )
            found.append(ClassSentence(first, second, " ".join(row[2].split())))
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} is no CSV ({error}); write it again") from None
    if not found:
        raise DataError(f"{path}: holds no sentence; write lines of {','.join(HEADER)}")
    return found
