"""Difference classification: does a sentence say of two images, in this order, what is true of them?"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from clipjax.errors import DataError
from clipjax.evaluation.directions import directions


class SeedSummary(NamedTuple):
    """Accuracies of several draws: their mean, and the standard error of it as the paper reports it."""

    mean: float
    standard_error: float


def differences_right(
    images: Float[np.ndarray, "images dim"],
    pairs: Int[np.ndarray, "pairs 2"],
    texts: Float[np.ndarray, "pairs dim"],
) -> Bool[np.ndarray, " pairs"]:
    """Say for each pair whether its sentence is more like the first image than like the second; a tie is wrong.

    As images are of unit length, this is a cosine above zero between the sentence and their difference. Chance is one
    half (Sam et al., arXiv 2409.09721, section on difference-based classification).

    Raises:
      DataError: not one sentence for each pair, a pair of images that do not exist, or an embedding without direction.
    """
    pairs = np.asarray(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) != len(texts) or not len(pairs):
        raise DataError(
            f"pairs {pairs.shape} and {len(texts)} sentences; give one sentence for each pair of two images"
        )
    if pairs.min() < 0 or pairs.max() >= len(images):
        wrong = pairs.min() if pairs.min() < 0 else pairs.max()
        raise DataError(f"a pair names image {wrong} of {len(images)}, counted from 0; leave it out")
    rows, said = directions(images, "images"), directions(texts, "sentences")
    return np.sum((rows[pairs[:, 0]] - rows[pairs[:, 1]]) * said, axis=1) > 0


def over_seeds(accuracies: Sequence[float]) -> SeedSummary:
    """Average accuracies of several draws; the error is the deviation (of all, not all but one) over root n.

    Raises:
      DataError: there are none.
    """
    if not len(accuracies):
        raise DataError("no accuracy to average; give one for each seed")
    return SeedSummary(float(np.mean(accuracies)), float(np.std(accuracies) / len(accuracies) ** 0.5))
