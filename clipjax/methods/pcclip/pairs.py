"""Which pairs of images are asked about: of few distinct images all, so many of those, or those that are most alike.

What comes out are positions of images, each unordered pair once, the lower position first.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from clipjax.errors import DataError
from clipjax.methods.pcclip.algorithm import SMALLEST_DIFFERENCE

ROWS_AT_A_TIME = 65_536
"""So many differences are in memory at once."""

_LIKE_AT_A_TIME = 1024


def choose_images(images: int, count: int | None, *, seed: int = 0) -> Int[np.ndarray, " chosen"]:
    """Draw `count` different images, or take all where that is None or no fewer; in their order."""
    if count is None or count >= images:
        return np.arange(images)
    return np.sort(np.random.default_rng(seed).choice(images, count, replace=False))


def mine_pairs(
    images: int, *, most_images: int | None = 1000, most: int | None = None, seed: int = 0
) -> Int[np.ndarray, "pairs 2"]:
    """Draw distinct images and return all their pairs, or `most` of them, drawn evenly.

    The paper takes all 499,500 pairs of 1,000 images. With the same seed, fewer pairs are among those of more.

    Raises:
      DataError: fewer than two images.
    """
    chosen = choose_images(images, most_images, seed=seed)
    if len(chosen) < 2:
        raise DataError(f"{len(chosen)} images make no pair; give at least two")
    first, second = np.triu_indices(len(chosen), 1)
    places = np.arange(len(first))
    if most is not None and most < len(first):
        places = np.sort(np.random.default_rng((seed, 1)).permutation(len(first))[:most])
    return np.stack([chosen[first[places]], chosen[second[places]]], axis=1)


def hard_pairs(embeddings: Float[np.ndarray, "images dim"], count: int) -> Int[np.ndarray, "pairs 2"]:
    """Return the `count` pairs of images that are most alike and yet differ, the most alike first.

    Their differences are what a sentence can least guess from either image alone (an extension of the paper).

    Raises:
      DataError: fewer than two images.
    """
    if len(embeddings) < 2:
        raise DataError(f"{len(embeddings)} images make no pair; give at least two")
    rows = unit_float64(embeddings)
    best = np.empty((0, 2), np.int64)
    likeness = np.empty(0)
    for start in range(0, len(rows), _LIKE_AT_A_TIME):
        block = rows[start : start + _LIKE_AT_A_TIME] @ rows.T
        first, second = np.nonzero(np.arange(len(rows))[None, :] > np.arange(start, start + len(block))[:, None])
        found = np.stack([first + start, second], axis=1)
        alike = block[first, second]
        # squared length of a difference of unit vectors
        differ = 2 - 2 * alike >= SMALLEST_DIFFERENCE**2
        best, likeness = np.concatenate([best, found[differ]]), np.concatenate([likeness, alike[differ]])
        kept = np.argsort(-likeness, kind="stable")[:count]
        best, likeness = best[kept], likeness[kept]
    return best


def have_difference(
    embeddings: Float[np.ndarray, "images dim"], pairs: Int[np.ndarray, "pairs 2"]
) -> Bool[np.ndarray, " pairs"]:
    """Say of which pairs the unit embeddings differ; a copy of an image has no difference to it."""
    rows = unit_float64(embeddings)
    parts = [np.linalg.norm(rows[part[:, 0]] - rows[part[:, 1]], axis=1) for part in _pieces(pairs)]
    return np.concatenate([np.zeros(0), *parts]) >= SMALLEST_DIFFERENCE


def unit_float64(embeddings: Float[np.ndarray, "images dim"]) -> Float[np.ndarray, "images dim"]:
    """Scale rows to unit length, in float64."""
    wide = np.asarray(embeddings, np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def _pieces(pairs: Int[np.ndarray, "pairs 2"]) -> Iterator[Int[np.ndarray, "piece 2"]]:
    for start in range(0, len(pairs), ROWS_AT_A_TIME):
        yield pairs[start : start + ROWS_AT_A_TIME]
