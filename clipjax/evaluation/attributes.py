"""Classes by their attributes: images are ranked by a difference sentence for each, and classes told by the ranks.

Only a table of what each class has is needed, and no image of any class: "the first image is brighter" ranks the images
by light, and a class that is bright should be among the first.
"""

import numpy as np
from jaxtyping import Float, Shaped

from clipjax.errors import DataError
from clipjax.evaluation.ranking import difference_scores


def attribute_ranks(
    images: Float[np.ndarray, "images dim"],
    sentences: Float[np.ndarray, "attributes dim"],
    anchors: Float[np.ndarray, "anchors dim"] | None = None,
) -> Float[np.ndarray, "images attributes"]:
    """Say for each image where it stands in the ranking by each sentence: 1 is first, -1 is last, equals share a place.

    Ranks and not scores are kept, as sentences differ in how far they spread images. `anchors` are what images are
    compared with in place of each other; the places are still among the images.

    Raises:
      DataError: see `difference_scores`; or fewer than two images.
    """
    if len(images) < 2:
        raise DataError(f"{len(images)} images have no ranking; give at least two")
    return np.stack([_places(difference_scores(images, sentence, anchors)) for sentence in sentences], axis=1)


def attribute_classifier_scores(
    ranks: Float[np.ndarray, "images attributes"], table: Shaped[np.ndarray, "classes attributes"]
) -> Float[np.ndarray, "images classes"]:
    """Score classes by how well what they have agrees with the ranks: the cosine of both.

    `table` says how much of each attribute a class has, in numbers or as true and false. What counts is how a class
    differs from the mean of the classes: an attribute that all share tells nothing, and a class with many attributes is
    not favoured.

    Raises:
      DataError: shapes that do not fit, or a class that is like the mean of all in every attribute.
    """
    wanted = np.asarray(table, np.float64)
    if wanted.ndim != 2 or wanted.shape[1] != np.shape(ranks)[1]:
        raise DataError(f"ranks {np.shape(ranks)} and table {wanted.shape}; give the table a column for each attribute")
    centred = wanted - wanted.mean(0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    if not (lengths > 1e-12).all():
        raise DataError(f"class {int(lengths.argmin())} is like the mean of all classes; give it another attribute")
    return _unit(np.asarray(ranks, np.float64)) @ (centred / lengths).T


def _places(scores: Float[np.ndarray, " images"]) -> Float[np.ndarray, " images"]:
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # the mean position of equals, counted from 0
    middle = np.cumsum(counts) - (counts + 1) / 2
    return 2 * middle[place] / (len(scores) - 1) - 1


def _unit(rows: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, "rows dim"]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
