"""Read `manifest.csv`: one line per image with its path and, where known, label, class name and split.

The header names the columns; `path` is the only one that must be there, and columns that mean
nothing to us are kept for selection.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from clipjax.data.source import MOST_CLASSES, UNKNOWN, ImageSource, ImageStore, name_labels
from clipjax.data.textfile import examples
from clipjax.errors import DataError

MANIFEST = "manifest.csv"


class Manifest(NamedTuple):
    """The columns of a manifest, and the line each image stands on."""

    name: str
    paths: list[str]
    lines: list[int]
    labels: Int[np.ndarray, " images"]
    classnames: list[str]
    splits: list[str]
    columns: dict[str, list[str]]
    explicit_labels: bool


def read_manifest(text: str, name: str) -> Manifest:
    """Read the text of a manifest that is called `name` in messages.

    Raises:
      DataError: no `path` column, a line with the wrong number of fields, a path given twice, a
        label that is not a class position; the message names the line.
    """
    header, rows, lines = _rows(text, name)
    table = {column: [row[place] for row in rows] for place, column in enumerate(header)}
    paths = [path.removeprefix("./") for path in table.pop("path")]
    _check_paths(paths, lines, name)
    classnames = table.pop("classname", [""] * len(rows))
    splits = table.pop("split", [""] * len(rows))
    explicit = "label" in table
    if explicit:
        labels = np.array(
            [_label(value, f"{name}: line {line}") for value, line in zip(table.pop("label"), lines)],
            np.int64,
        )
    else:
        label_of = {known: label for label, known in enumerate(sorted(set(classnames) - {""}))}
        labels = np.array([label_of.get(known, UNKNOWN) for known in classnames], np.int64)
    return Manifest(name, paths, lines, labels, classnames, splits, table, explicit)


def manifest_source(
    manifest: Manifest,
    store: ImageStore,
    entries: Mapping[str, int],
    sizes: Sequence[int],
    stamps: Sequence[int],
    name: str,
) -> ImageSource:
    """Join a manifest with what is really there: `entries` maps each relative path to its position.

    Raises:
      DataError: the manifest lists images that are not there, or one label under two names.
    """
    missing = [path for path in manifest.paths if path not in entries]
    if missing:
        line = manifest.lines[manifest.paths.index(missing[0])]
        raise DataError(
            f"{manifest.name}: line {line} lists {missing[0]}, which is not in {name} "
            f"({len(missing)} of {len(manifest.paths)} images are missing); add them or drop their lines"
        )
    positions = np.array([entries[path] for path in manifest.paths], np.int64)
    return ImageSource(
        name=name,
        store=store,
        positions=positions,
        ids=manifest.paths,
        labels=manifest.labels,
        classnames=manifest.classnames,
        splits=manifest.splits,
        sizes=np.asarray(sizes, np.int64)[positions],
        stamps=np.asarray(stamps, np.int64)[positions],
        columns=manifest.columns,
        label_names=name_labels(manifest.labels, manifest.classnames, manifest.name),
        explicit_labels=manifest.explicit_labels,
    )


def _rows(text: str, name: str) -> tuple[list[str], list[list[str]], list[int]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        header = [column.strip() for column in next(reader, [])]
        _check_header(header, name)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{name}: line {reader.line_num} has {len(row)} fields where the header names "
                    f"{len(header)}; put fields that hold a comma in double quotes"
                )
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{name}: line {reader.line_num} is not CSV ({error}); mend the line") from None
    if not rows:
        raise DataError(f"{name}: lists no image; give one line per image")
    return header, rows, lines


def _check_header(header: list[str], name: str) -> None:
    if "path" not in header:
        raise DataError(
            f"{name}: line 1 names no column `path` (it reads {examples(header, 8)}); "
            "begin with a header such as path,label,classname,split"
        )
    if len(set(header)) < len(header):
        raise DataError(f"{name}: line 1 names a column twice ({examples(header, 8)}); rename one of them")


def _check_paths(paths: list[str], lines: list[int], name: str) -> None:
    first_line: dict[str, int] = {}
    for path, line in zip(paths, lines):
        if first_line.setdefault(path, line) != line:
            raise DataError(
                f"{name}: line {line} lists {path} again (first on line {first_line[path]}); drop one of the lines"
            )


def _label(value: str, place: str) -> int:
    value = value.strip()
    if not value:
        return UNKNOWN
    # the length is bounded first: converting thousands of digits is slow, then refused
    if not re.fullmatch(r"-?[0-9]{1,18}", value):
        raise DataError(f"{place}: label {value[:40]!r} is not an integer; write the class position, or -1")
    label = int(value)
    if not UNKNOWN <= label < MOST_CLASSES:
        raise DataError(f"{place}: label {label} is not a class position; write 0 to {MOST_CLASSES - 1}, or -1")
    return label
