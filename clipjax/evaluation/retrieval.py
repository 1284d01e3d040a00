"""Finding captions by image and images by caption: recall at k and the median rank.

The higher score ranks first, equal scores in index order. An image is found at the rank of its
best caption, a caption at the rank of its one image. Host-side NumPy, and nothing is sorted: a
rank is the number of candidates ahead.
"""

import numpy as np
from jaxtyping import Float, Int

from clipjax.errors import DataError
from clipjax.evaluation.score_matrix import counted_first, index_vector, row_blocks, score_matrix


def retrieval_ranks(
    similarity: Float[np.ndarray, "images captions"], caption_image: Int[np.ndarray, " captions"]
) -> tuple[Int[np.ndarray, " images"], Int[np.ndarray, " captions"]]:
    """Count what ranks ahead of each image's best caption, and ahead of each caption's image.

    `caption_image` says which image each caption belongs to, in any order, any number per image.
    The counts start at 0, for the first place. Every recall and median follows from them, so that
    one pass over a large similarity serves them all.

    Raises:
      DataError: shapes that differ, captions of images that do not exist, NaN scores, or an image
        without a caption, which could never be found and would only lower the recall.
    """
    similarity = score_matrix(similarity, "similarities")
    images, captions = similarity.shape
    caption_image = index_vector(caption_image, captions, images, "caption_image")
    captionless = np.flatnonzero(np.bincount(caption_image, minlength=images) == 0)
    if captionless.size:
        raise DataError(
            f"{captionless.size} of {images} images have no caption, the first is {captionless[0]}; "
            "leave their rows out"
        )
    column = np.arange(captions)
    own = similarity[caption_image, column]
    best = _best_captions(own, caption_image)
    ahead_of_image = np.empty(images, np.int64)
    ahead_of_caption = np.zeros(captions, np.int64)
    for rows, block in row_blocks(similarity, "similarities"):
        target = best[rows, None]
        score = own[target].astype(block.dtype)
        ahead_of_image[rows] = np.count_nonzero(block > score, axis=1)
        ahead_of_image[rows] += np.count_nonzero((block == score) & (column < target), axis=1)
        score = own.astype(block.dtype)
        row = np.arange(rows.start, rows.stop)[:, None]
        ahead_of_caption += np.count_nonzero(block > score, axis=0)
        ahead_of_caption += np.count_nonzero((block == score) & (row < caption_image), axis=0)
    return ahead_of_image, ahead_of_caption


def recall_at_k(
    similarity: Float[np.ndarray, "images captions"], caption_image: Int[np.ndarray, " captions"], k: int
) -> tuple[float, float]:
    """Measure how often the first `k` places hold a right answer: image to text, then text to image.

    For an image any of its captions is a right answer, for a caption its image is.

    Raises:
      DataError: as `retrieval_ranks`, or k below 1.
    """
    k = counted_first(k)
    image_to_text, text_to_image = retrieval_ranks(similarity, caption_image)
    return float(np.mean(image_to_text < k)), float(np.mean(text_to_image < k))


def median_rank(
    similarity: Float[np.ndarray, "images captions"], caption_image: Int[np.ndarray, " captions"]
) -> tuple[float, float]:
    """Find the median place of the first right answer, from 1: image to text, then text to image.

    Raises:
      DataError: as `retrieval_ranks`.
    """
    image_to_text, text_to_image = retrieval_ranks(similarity, caption_image)
    return float(np.median(image_to_text)) + 1, float(np.median(text_to_image)) + 1


def _best_captions(
    own: Float[np.ndarray, " captions"], caption_image: Int[np.ndarray, " captions"]
) -> Int[np.ndarray, " images"]:
    """Name each image's best-scored caption, the first of equals; every image has at least one."""
    order = np.argsort(-own.astype(np.float64), kind="stable")
    order = order[np.argsort(caption_image[order], kind="stable")]
    _, first = np.unique(caption_image[order], return_index=True)
    return order[first]
