"""Search by vector arithmetic: this image, but at night."""

import numpy as np
from jaxtyping import Float, Int

from clipjax.errors import DataError
from clipjax.evaluation.directions import directions


def moved_queries(
    images: Float[np.ndarray, "queries dim"], difference: Float[np.ndarray, " dim"], *, strength: float = 1.0
) -> Float[np.ndarray, "queries dim"]:
    """Move image embeddings along the embedding of a difference sentence, and scale them to unit length again.

    With the sentence "the first image is at night, the second by day", a query finds what the image would be as first.
    For two descriptions take the difference of their embeddings.
    """
    moved = directions(images, "images") + strength * directions(np.asarray(difference)[None], "the difference")
    return directions(moved, "moved images")


def likeness(
    queries: Float[np.ndarray, "queries dim"], gallery: Float[np.ndarray, "images dim"]
) -> Float[np.ndarray, "queries images"]:
    """Compare each query with each image: their cosine."""
    return directions(queries, "queries") @ directions(gallery, "images").T


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
    scores = likeness(queries, gallery)
    if left_out is not None:
        scores[np.arange(len(scores)), left_out] = -np.inf
    if not 1 <= count <= scores.shape[1] - (left_out is not None):
        raise DataError(f"{count} images asked for, of {scores.shape[1]} in the gallery; ask for fewer, and at least 1")
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]
