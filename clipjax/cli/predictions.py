"""Write predictions as CSV: one row for each image, its best class, the probability, the runners-up."""

import contextlib
import csv
import sys
from collections.abc import Sequence
from typing import TextIO

import numpy as np

from clipjax.outputs import new_file

RUNNERS_UP = 4


def write_predictions(
    path: str | None, ids: Sequence[str], class_names: Sequence[str], scores: np.ndarray, *, overwrite: bool
) -> None:
    """Write to `path`, or to standard output when it is None.

    Raises:
      OutputError: the file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        if path is None:
            file: TextIO = sys.stdout
        else:
            staged = stack.enter_context(new_file(path, overwrite=overwrite))
            file = stack.enter_context(staged.open("w", encoding="utf-8", newline=""))
        _write(file, ids, class_names, scores)


def _write(file: TextIO, ids: Sequence[str], class_names: Sequence[str], scores: np.ndarray) -> None:
    writer = csv.writer(file, lineterminator="\n")
    shown = min(1 + RUNNERS_UP, len(class_names))
    header = ["id", "class", "probability"]
    for place in range(2, shown + 1):
        header += [f"class_{place}", f"probability_{place}"]
    writer.writerow(header)
    for image, row in zip(ids, np.asarray(scores, np.float64)):
        exponentials = np.exp(row - row.max())
        probabilities = exponentials / exponentials.sum()
        best = np.argsort(-row, kind="stable")[:shown]
        writer.writerow([image, *(cell for i in best for cell in (class_names[i], f"{probabilities[i]:.6f}"))])
