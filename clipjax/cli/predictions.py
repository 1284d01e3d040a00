"""Predictions for people and machines: for each image its best class, the probability, the runners-up."""

import contextlib
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np
from jaxtyping import Float, Int

from clipjax.outputs import new_file

RUNNERS_UP = 4


@dataclass(frozen=True)
class Prediction:
    """The best classes of one image with their probabilities, and its true class where that is known."""

    id: str
    best: tuple[tuple[str, float], ...]
    label: str | None = None

    def document(self) -> dict[str, Any]:
        """Say the same in JSON types."""
        label = {} if self.label is None else {"label": self.label}
        return {"id": self.id, **label, "classes": [{"class": name, "probability": p} for name, p in self.best]}


def predictions(
    ids: Sequence[str],
    class_names: Sequence[str],
    scores: Float[np.ndarray, "images classes"],
    labels: Int[np.ndarray, " images"] | None = None,
) -> list[Prediction]:
    """Turn scores (scaled logits) into the best few classes of each image."""
    shown = min(1 + RUNNERS_UP, len(class_names))
    scores = np.asarray(scores, np.float64)
    found = []
    for row, (image, own) in enumerate(zip(ids, scores)):
        probabilities = np.exp(own - own.max())
        probabilities /= probabilities.sum()
        best = np.argsort(-own, kind="stable")[:shown]
        label = None if labels is None else class_names[int(labels[row])]
        found.append(Prediction(image, tuple((class_names[int(i)], float(probabilities[i])) for i in best), label))
    return found


def write_predictions(path: str | None, found: Sequence[Prediction], *, overwrite: bool) -> None:
    """Write CSV to `path`, or to standard output when it is None.

    Raises:
      OutputError: the file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        if path is None:
            file: TextIO = sys.stdout
        else:
            staged = stack.enter_context(new_file(path, overwrite=overwrite))
            file = stack.enter_context(staged.open("w", encoding="utf-8", newline=""))
        _write(file, found)


def _write(file: TextIO, found: Sequence[Prediction]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    labelled = found[0].label is not None
    header = ["id", "label"] if labelled else ["id"]
    for place in range(1, len(found[0].best) + 1):
        header += ["class", "probability"] if place == 1 else [f"class_{place}", f"probability_{place}"]
    writer.writerow(header)
    for one in found:
        cells = [cell for name, probability in one.best for cell in (name, f"{probability:.6f}")]
        writer.writerow([one.id, *([one.label] if labelled else []), *cells])
