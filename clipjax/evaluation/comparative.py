"""Comparative prompting: class weights corrected by sentences about confused pairs, and what that changes.

Which pairs to write about is chosen from a confusion matrix. One of the images that are measured is the paper's
protocol, and not zero-shot; one of a validation split, or pairs fixed beforehand, are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from clipjax.errors import DataError
from clipjax.evaluation.classification import confusion_matrix, top_k_accuracy
from clipjax.evaluation.directions import directions
from clipjax.methods.pcclip.algorithm import comparative_weights, confused_pairs, difference_distance

ALPHAS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Comparative(NamedTuple):
    """Accuracy with weights corrected at one alpha; at 1.0 it is that of the weights as they are.

    `subset` is the accuracy on the images whose class is in some pair, among the classes of the pairs; NaN where
    there are no such images.
    """

    alpha: float
    accuracy: float
    subset: float


def pairs_of_confusion(
    images: Float[np.ndarray, "images dim"],
    labels: Int[np.ndarray, " images"],
    weights: Float[np.ndarray, "classes dim"],
    count: int = 3,
) -> Int[np.ndarray, "pairs 2"]:
    """Name the `count` most frequent confusions (true class, predicted class) of these images."""
    return confused_pairs(confusion_matrix(np.asarray(images) @ np.asarray(weights).T, labels), count)


def comparative_prompting(
    images: Float[np.ndarray, "images dim"],
    labels: Int[np.ndarray, " images"],
    weights: Float[np.ndarray, "classes dim"],
    pairs: Int[np.ndarray, "pairs 2"],
    differences: Float[np.ndarray, "pairs dim"],
    *,
    alphas: Sequence[float] = ALPHAS,
) -> list[Comparative]:
    """Measure corrected weights for several alphas.

    Args:
      weights: class embeddings of unit length.
      differences: embeddings of the sentences about the pairs, in their order.

    Raises:
      DataError: not one sentence for each pair, a pair of classes that do not exist, or an embedding without direction.
    """
    images, labels, pairs = np.asarray(images), np.asarray(labels), np.asarray(pairs)
    differences = directions(differences, "sentences")
    if pairs.shape != (len(differences), 2) or pairs.min() < 0 or pairs.max() >= len(weights):
        raise DataError(
            f"pairs {pairs.tolist()} and {len(differences)} sentences; give one sentence for each pair of two of the "
            f"{len(weights)} classes, counted from 0"
        )
    concerned = np.unique(pairs)
    inside = np.isin(labels, concerned)
    found = []
    for alpha in alphas:
        moved = comparative_weights(weights, pairs, differences, alpha=alpha)  # pyright: ignore[reportArgumentType]
        scores = images @ np.asarray(moved).T
        subset = float("nan")
        if inside.any():
            places = np.searchsorted(concerned, labels[inside])
            subset = top_k_accuracy(scores[inside][:, concerned], places, 1)
        found.append(Comparative(alpha, top_k_accuracy(scores, labels, 1), subset))
    return found


def best_alpha(found: Sequence[Comparative]) -> float:
    """Choose the alpha of the highest accuracy; of equals the largest, which changes the weights least."""
    return max(found, key=lambda one: (one.accuracy, one.alpha)).alpha


def mean_difference_distance(
    texts: Float[np.ndarray, "classes dim"],
    pairs: Int[np.ndarray, "pairs 2"],
    differences: Float[np.ndarray, "pairs dim"],
) -> float:
    """Average how far sentences are from the differences of their classes' text embeddings.

    The paper also reports the distance to the reversed difference; it is two minus this.
    """
    return float(np.mean(np.asarray(difference_distance(texts, pairs, differences))))  # pyright: ignore[reportArgumentType]
