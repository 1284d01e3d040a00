"""CLIPScore: how well images, such as generated ones, fit the texts they should show."""

import numpy as np
from jaxtyping import Float

from clipjax.errors import DataError

SCALE = 2.5
PREFIX = "A photo depicts "
"""What the paper puts in front of every text before it is embedded."""


def clip_scores(
    images: Float[np.ndarray, "pairs dim"], texts: Float[np.ndarray, "pairs dim"]
) -> Float[np.ndarray, " pairs"]:
    """Score each image against its text: 2.5 times the cosine, 0 where that is negative (arXiv 2104.08718, eq. 1).

    Embeddings need not be of unit length. The paper puts "A photo depicts " in front of every text before it is
    embedded. The model that scores should not be the one whose text tower guided the images.

    Raises:
      DataError: not one text for each image, or an embedding that is zero.
    """
    if np.shape(images) != np.shape(texts) or np.ndim(images) != 2:
        raise DataError(f"images {np.shape(images)} and texts {np.shape(texts)}; give one text for each image")
    rows, others = (np.asarray(x, np.float64) for x in (images, texts))
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1)
    if not (lengths > 0).all():
        raise DataError("an embedding is zero and has no direction; leave it out")
    return SCALE * np.maximum(np.sum(rows * others, axis=1) / lengths, 0)
