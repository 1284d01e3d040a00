"""Everything that is said about a classifier's scores on labelled images, in per cent."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from clipjax.evaluation.calibration import expected_calibration_error
from clipjax.evaluation.classification import confusion_matrix, top_k_accuracy


@dataclass(frozen=True)
class ClassAccuracy:
    """One class: its images, the share found in per cent, and the class it is most often taken for, with how often."""

    name: str
    images: int
    accuracy: float
    taken_for: tuple[str, int] | None


@dataclass(frozen=True)
class AccuracyReport:
    """Accuracies and the calibration error in per cent; `confusion` counts, true classes in rows."""

    images: int
    top1: float
    top5: float
    mean_per_class: float
    ece: float
    class_names: tuple[str, ...]
    confusion: Int[np.ndarray, "classes classes"]

    def classes(self) -> list[ClassAccuracy]:
        """List the classes that have images, the weakest first."""
        rows = []
        for i, name in enumerate(self.class_names):
            counts = self.confusion[i]
            if not counts.any():
                continue
            wrong = np.where(np.arange(len(counts)) == i, 0, counts)
            most = int(wrong.argmax())
            taken_for = (self.class_names[most], int(wrong[most])) if wrong.any() else None
            rows.append(ClassAccuracy(name, int(counts.sum()), 100 * float(counts[i] / counts.sum()), taken_for))
        return sorted(rows, key=lambda row: row.accuracy)

    def document(self) -> dict[str, Any]:
        """Say the same in JSON types; classes without images have no accuracy."""
        accuracies: dict[str, float | None] = dict.fromkeys(self.class_names)
        accuracies |= {row.name: row.accuracy for row in self.classes()}
        return {**asdict(self), "per_class": accuracies, "confusion": self.confusion.tolist()}


def accuracy_report(
    scores: Float[np.ndarray, "images classes"], labels: Int[np.ndarray, " images"], class_names: Sequence[str]
) -> AccuracyReport:
    """Measure a classifier by its scores: logits, scaled as their softmax is meant.

    Raises:
      DataError: shapes that differ, labels out of range, no images, or NaN scores.
    """
    confusion = confusion_matrix(scores, labels)
    counts = confusion.sum(axis=1)
    per_class = np.diagonal(confusion)[counts > 0] / counts[counts > 0]
    return AccuracyReport(
        images=len(labels),
        top1=100 * top_k_accuracy(scores, labels, 1),
        top5=100 * top_k_accuracy(scores, labels, 5),
        mean_per_class=100 * float(per_class.mean()),
        ece=100 * expected_calibration_error(scores, labels),
        class_names=tuple(class_names),
        confusion=confusion,
    )
