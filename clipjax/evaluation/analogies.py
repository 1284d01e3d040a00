"""Search by vector arithmetic: this image, but at night."""

import numpy as np
from jaxtyping import Float, Int

from clipjax.errors import DataError


def moved_queries(
    images: Float[np.ndarray, "queries dim"], difference: Float[np.ndarray, " dim"], *, strength: float = 1.0
) -> Float[np.ndarray, "queries dim"]:
    """Move image embeddings along the embedding of a difference sentence, and scale them to unit length again.

    With the sentence "the first image is at night, the second by day", a query finds what the image would be as first.
    For two descriptions take the difference of their embeddings.
    """
    return _unit(_unit(np.asarray(images)) + strength * _unit(np.asarray(difference)[None]))


def nearest(
    queries: Float[np.ndarray, "queries dim"],
    gallery: Float[np.ndarray, "images dim"],
    count: int,
    *,
    left_out: Int[np.ndarray, " queries"] | None = None,
) -> Int[np.ndarray, "queries count"]:
    """Find the `count` images most like each query, the first of equals first.

    `left_out` names an image of the gallery for each query that it may not find, such as the one it was made from.

    Raises:
      DataError: fewer images than asked for.
    """
    scores = _unit(np.asarray(queries)) @ _unit(np.asarray(gallery)).T
    if left_out is not None:
        scores[np.arange(len(scores)), left_out] = -np.inf
    if not 1 <= count <= scores.shape[1] - (left_out is not None):
        raise DataError(f"{count} images asked for, of {scores.shape[1]} in the gallery; ask for fewer, and at least 1")
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def _unit(rows: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, "rows dim"]:
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    if not (lengths > 0).all():
        raise DataError("an embedding is zero and has no direction; leave it out")
    return wide / lengths
