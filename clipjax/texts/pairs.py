"""Which images and which pairs of them are asked about, besides pairs at random (`groups.draw_pairs`)."""

import numpy as np
from jaxtyping import Float, Int

from clipjax.errors import DataError

SMALLEST_DIFFERENCE = 1e-6
"""Below this two unit embeddings are of the same image, and their difference has no direction."""

_ROWS_AT_A_TIME = 1024


def choose_images(images: int, count: int | None, *, seed: int = 0) -> Int[np.ndarray, " chosen"]:
    """Draw `count` different images, or take all where that is None or no fewer; in their order.

    The pairs of few images are many: PC-CLIP (arXiv 2409.09721) takes all 499,500 of 1,000.
    """
    if count is None or count >= images:
        return np.arange(images)
    return np.sort(np.random.default_rng(seed).choice(images, count, replace=False))


def hard_pairs(embeddings: Float[np.ndarray, "images dim"], count: int) -> Int[np.ndarray, "pairs 2"]:
    """Return the `count` pairs of images that are most alike and yet differ, the most alike first.

    What a sentence says of such a pair can be guessed least from either image alone. Each unordered pair occurs once,
    the earlier image first.

    Raises:
      DataError: fewer than two images.
    """
    if len(embeddings) < 2:
        raise DataError(f"{len(embeddings)} images make no pair; give at least two")
    rows = np.asarray(embeddings, np.float64)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    best, likeness = np.empty((0, 2), np.int64), np.empty(0)
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        block = rows[start : start + _ROWS_AT_A_TIME] @ rows.T
        first, second = np.nonzero(np.arange(len(rows))[None, :] > np.arange(start, start + len(block))[:, None])
        pairs, alike = np.stack([first + start, second], axis=1), block[first, second]
        # the squared length of a difference of unit vectors
        differ = 2 - 2 * alike >= SMALLEST_DIFFERENCE**2
        best, likeness = np.concatenate([best, pairs[differ]]), np.concatenate([likeness, alike[differ]])
        kept = np.argsort(-likeness, kind="stable")[:count]
        best, likeness = best[kept], likeness[kept]
    return best
