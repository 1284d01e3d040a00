"""CLIPScore: how well images, such as generated ones, fit the texts they should show."""

import numpy as np
from jaxtyping import Float

from clipjax.errors import DataError
from clipjax.evaluation.directions import directions

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
      DataError: not one text for each image, or an embedding that is zero or not finite.
    """
    if np.shape(images) != np.shape(texts) or np.ndim(images) != 2:
        raise DataError(f"images {np.shape(images)} and texts {np.shape(texts)}; give one text for each image")
    return SCALE * np.maximum(np.sum(directions(images, "images") * directions(texts, "texts"), axis=1), 0)
