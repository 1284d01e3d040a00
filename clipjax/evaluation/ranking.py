"""Rank images by a sentence that says how a first image differs from a second, and compare rankings.

The sentence is asked about pairs: an image and each of some anchors, or of all other images. Host-side NumPy.
"""

import numpy as np
from jaxtyping import Float, Int

from clipjax.errors import DataError
from clipjax.evaluation.directions import directions

_ROWS_AT_A_TIME = 512


def difference_scores(
    images: Float[np.ndarray, "images dim"],
    sentence: Float[np.ndarray, " dim"],
    anchors: Float[np.ndarray, "anchors dim"] | None = None,
) -> Float[np.ndarray, " images"]:
    """Average, over anchors, the cosine of a sentence and the difference of an image and the anchor.

    High is what the sentence says of the first image, low what it says of the second. Without `anchors` all images are
    compared with each other. Embeddings need not be of unit length; an image that equals an anchor scores 0 against it.

    Raises:
      DataError: no images or anchors, embeddings of different widths, or a sentence without a direction.
    """
    rows = directions(images, "images")
    others = rows if anchors is None else directions(anchors, "anchors")
    direction = directions(np.asarray(sentence)[None], "the sentence")[0]
    if rows.shape[1] != len(direction) or others.shape[1] != len(direction):
        raise DataError(
            f"images, anchors and sentence have {rows.shape[1]}, {others.shape[1]} and {len(direction)} numbers; "
            "embed all with one model"
        )
    along, along_others = rows @ direction, others @ direction
    scores = np.empty(len(rows))
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        # the length of a difference of unit vectors, from their cosine
        length = np.sqrt(np.maximum(2 - 2 * rows[part] @ others.T, 0.0))
        gaps = along[part, None] - along_others[None, :]
        cosines = np.divide(gaps, length, out=np.zeros_like(gaps), where=length > 1e-6)
        scores[part] = cosines.mean(axis=1)
    return scores


def ranked(scores: Float[np.ndarray, " images"]) -> Int[np.ndarray, " images"]:
    """Order positions by falling score, equal scores by position."""
    return np.argsort(-np.asarray(scores, np.float64), kind="stable")


def kendall_tau(scores: Float[np.ndarray, " images"], truth: Float[np.ndarray, " images"]) -> float:
    """Compare two rankings: 1 where they agree on every pair, -1 where on none, near 0 where they are unrelated.

    This is tau-b (Kendall 1945): pairs that are equal in one of both count for neither side, and the divisor is made
    smaller for them. NaN where all values of one are equal.

    Raises:
      DataError: fewer than two values, different numbers of them, or a value that is not a number.
    """
    a, b = (np.asarray(values, np.float64) for values in (scores, truth))
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise DataError(f"rankings have the shapes {a.shape} and {b.shape}; give two values or more, as many of both")
    if np.isnan(a).any() or np.isnan(b).any():
        raise DataError("a ranking holds NaN; leave out what has no value")
    agreement = decided_a = decided_b = 0
    for start in range(0, len(a), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        by_a, by_b = (np.sign(values[part, None] - values[None, :]).astype(np.int8) for values in (a, b))
        agreement += int(np.sum(by_a * by_b, dtype=np.int64))
        decided_a, decided_b = decided_a + np.count_nonzero(by_a), decided_b + np.count_nonzero(by_b)
    return agreement / (decided_a * decided_b) ** 0.5 if decided_a and decided_b else float("nan")
