"""Whether a confidence of 80 % means right in 80 % of cases: reliability bins and the calibration error."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from clipjax.errors import DataError
from clipjax.evaluation.score_matrix import index_vector, row_blocks, score_matrix


@dataclass(frozen=True)
class ReliabilityBins:
    """Samples grouped by confidence in bins of equal width; an empty bin reads 0 throughout.

    Bin b takes the confidences above `edges[b]`, up to and including `edges[b + 1]`.
    """

    edges: Float[np.ndarray, " edges"]
    counts: Int[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]

    @property
    def expected_error(self) -> float:
        """The gap between accuracy and confidence, averaged over samples."""
        return float(np.sum(self.counts * np.abs(self.accuracy - self.confidence)) / np.sum(self.counts))

    @property
    def largest_error(self) -> float:
        """The gap between accuracy and confidence in the worst bin."""
        return float(np.max(np.abs(self.accuracy - self.confidence)))


def reliability_bins(
    logits: Float[np.ndarray, "samples classes"], labels: Int[np.ndarray, " samples"], bins: int = 15
) -> ReliabilityBins:
    """Compare the predicted class's softmax probability with how often the prediction is right.

    The logits must be scaled as the classifier uses them: cosines without the logit scale give
    confidences that mean nothing.

    Raises:
      DataError: shapes that differ, labels out of range, no samples, bins below 1, or logits whose
        softmax does not exist (NaN, or a row whose largest value is infinite).
    """
    logits = score_matrix(logits, "logits")
    labels = index_vector(labels, len(logits), logits.shape[1], "labels")
    probability, right = np.zeros(len(logits)), np.zeros(len(logits), bool)
    for rows, block in row_blocks(logits, "logits"):
        predicted = np.argmax(block, axis=1)
        highest = np.take_along_axis(block, predicted[:, None], axis=1).astype(np.float64)
        if not np.isfinite(highest).all():
            row = rows.start + int(np.argmin(np.isfinite(highest)))
            raise DataError(f"the largest logit of row {row} is infinite and has no softmax; check the model's outputs")
        probability[rows] = 1.0 / np.sum(np.exp(block - highest), axis=1)
        right[rows] = predicted == labels[rows]
    return confidence_bins(probability, right, bins)


def confidence_bins(
    probability: Float[np.ndarray, " samples"], right: Bool[np.ndarray, " samples"], bins: int = 15
) -> ReliabilityBins:
    """Compare the probabilities of predicted classes, above 0, with how often the predictions are right.

    Raises:
      DataError: bins below 1.
    """
    if not isinstance(bins, int | np.integer) or bins < 1:
        raise DataError(f"bins must be a whole number of at least 1, got {bins!r}")
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.digitize(np.minimum(probability, 1.0), edges, right=True) - 1
    counts, correct, confidence = (
        np.bincount(index, weights, minlength=bins) for weights in (None, np.asarray(right, float), probability)
    )
    occupied = np.maximum(counts, 1)
    return ReliabilityBins(edges, counts, correct / occupied, confidence / occupied)


def expected_calibration_error(
    logits: Float[np.ndarray, "samples classes"], labels: Int[np.ndarray, " samples"], bins: int = 15
) -> float:
    """Average over samples the gap between a bin's accuracy and its mean confidence.

    Bins of equal width (Guo et al., arXiv 1706.04599, section 2).

    Raises:
      DataError: as `reliability_bins`.
    """
    return reliability_bins(logits, labels, bins).expected_error
