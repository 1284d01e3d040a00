"""How often the right class wins: top-k and per-class accuracy, and who is taken for whom.

The higher score ranks first; equal scores rank in the order of their class index, so that a
model which scores every class alike is right about class 0 only. Host-side NumPy.
"""

import numpy as np
from jaxtyping import Float, Int

from clipjax.evaluation.score_matrix import counted_first, index_vector, row_blocks, score_matrix


def top_k_accuracy(logits: Float[np.ndarray, "samples classes"], labels: Int[np.ndarray, " samples"], k: int) -> float:
    """Measure how often the label is among the `k` best-scored classes (all of them when fewer exist).

    Raises:
      DataError: shapes that differ, labels out of range, no samples, NaN scores, or k below 1.
    """
    k = counted_first(k)
    logits = score_matrix(logits, "logits")
    labels = index_vector(labels, len(logits), logits.shape[1], "labels")
    classes = np.arange(logits.shape[1])
    hits = 0
    for rows, block in row_blocks(logits, "logits"):
        label = labels[rows, None]
        own = np.take_along_axis(block, label, axis=1)
        better = np.count_nonzero(block > own, axis=1)
        earlier = np.count_nonzero((block == own) & (classes < label), axis=1)
        hits += int(np.count_nonzero(better + earlier < k))
    return hits / len(labels)


def confusion_matrix(
    logits: Float[np.ndarray, "samples classes"], labels: Int[np.ndarray, " samples"]
) -> Int[np.ndarray, "classes classes"]:
    """Count the samples of each true class (row) that were taken for each class (column).

    Raises:
      DataError: shapes that differ, labels out of range, no samples, or NaN scores.
    """
    logits = score_matrix(logits, "logits")
    labels = index_vector(labels, len(logits), logits.shape[1], "labels")
    classes = logits.shape[1]
    counts = np.zeros((classes, classes), np.int64)
    for rows, block in row_blocks(logits, "logits"):
        np.add.at(counts, (labels[rows], np.argmax(block, axis=1)), 1)
    return counts


def per_class_accuracy(
    logits: Float[np.ndarray, "samples classes"], labels: Int[np.ndarray, " samples"]
) -> Float[np.ndarray, " classes"]:
    """Measure the accuracy on the samples of each class; NaN for a class without samples.

    Raises:
      DataError: shapes that differ, labels out of range, no samples, or NaN scores.
    """
    counts = confusion_matrix(logits, labels)
    samples = counts.sum(axis=1)
    return np.where(samples > 0, np.diagonal(counts) / np.maximum(samples, 1), np.nan)


def mean_per_class_accuracy(logits: Float[np.ndarray, "samples classes"], labels: Int[np.ndarray, " samples"]) -> float:
    """Average the accuracies of the classes, each class counting alike; those without samples are left out.

    Raises:
      DataError: shapes that differ, labels out of range, no samples, or NaN scores.
    """
    return float(np.nanmean(per_class_accuracy(logits, labels)))
