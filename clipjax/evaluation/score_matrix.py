"""Matrices of scores: checked once, then read in blocks of rows.

A similarity of 5,000 images to 25,000 captions is half a gigabyte; every metric passes over it
block by block, so that its temporaries stay small whatever the size.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from clipjax.errors import DataError

BLOCK_ELEMENTS = 1 << 21


def score_matrix(scores: Float[np.ndarray, "rows columns"], what: str) -> Float[np.ndarray, "rows columns"]:
    """Take `scores` as a matrix of real numbers; `what` names it in messages.

    Raises:
      DataError: not a matrix, no rows or no columns, or not real numbers.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2:
        raise DataError(f"{what} must be a matrix, got an array of shape {scores.shape}")
    if 0 in scores.shape:
        raise DataError(f"{what} of shape {scores.shape} hold nothing to measure")
    if not np.can_cast(scores.dtype, np.float64, casting="same_kind"):
        raise DataError(f"{what} must be real numbers, got {scores.dtype}")
    return scores


def index_vector(indices: Int[np.ndarray, " n"], size: int, below: int, what: str) -> Int[np.ndarray, " n"]:
    """Take `indices` as `size` integers from 0 to `below` - 1; `what` names them in messages.

    Raises:
      DataError: wrong shape, not integers, or out of range.
    """
    indices = np.asarray(indices)
    if indices.shape != (size,):
        raise DataError(f"{what} must have shape ({size},) to match the scores, got {indices.shape}")
    if indices.dtype.kind not in "iu":
        raise DataError(f"{what} must be integers, got {indices.dtype}")
    outside = indices[(indices < 0) | (indices >= below)]
    if outside.size:
        raise DataError(f"{what} must lie between 0 and {below - 1}, got {outside[0]}")
    return indices.astype(np.int64)


def row_blocks(
    scores: Float[np.ndarray, "rows columns"], what: str
) -> Iterator[tuple[slice, Float[np.ndarray, "block columns"]]]:
    """Yield consecutive blocks of rows with their place in the matrix.

    Raises:
      DataError: a score is NaN, so that nothing can be said about its rank.
    """
    rows = max(1, BLOCK_ELEMENTS // scores.shape[1])
    for start in range(0, len(scores), rows):
        block = scores[start : start + rows]
        if block.dtype.kind not in "fiub":
            block = block.astype(np.float32)  # bfloat16: exact, and NumPy's own loops are much faster
        missing = np.isnan(block).any(axis=1)
        if missing.any():
            raise DataError(f"{what} are NaN in row {start + int(np.argmax(missing))}; check the model's outputs")
        yield slice(start, start + len(block)), block


def counted_first(k: int) -> int:
    """Take `k` as the number of places that count as a hit.

    Raises:
      DataError: `k` is not a whole number of at least one.
    """
    if not isinstance(k, int | np.integer) or k < 1:
        raise DataError(f"k must be a whole number of at least 1, got {k!r}")
    return int(k)
