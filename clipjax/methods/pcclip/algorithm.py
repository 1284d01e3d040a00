"""PC-CLIP's formulas as pure functions of arrays (Sam et al., arXiv 2409.09721, and its released code).

The image side of a pair is the difference of two frozen unit embeddings, first minus second; the text side is the
embedding of a sentence that says how the first image differs from the second.
"""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from clipjax.losses import clip_loss
from clipjax.losses.similarity import unit_rows
from clipjax.texts.pairs import SMALLEST_DIFFERENCE

Kind = Literal["contrastive", "squared"]


def difference_loss(
    image1: Float[Array, "batch dim"],
    image2: Float[Array, "batch dim"],
    text: Float[Array, "batch dim"],
    *,
    temperature: float | Float[Array, ""] = 1.0,
    kind: Kind = "contrastive",
) -> Float[Array, ""]:
    """Compare differences of images with the sentences about them.

    Embeddings need not be of unit length: images are scaled to it before they are subtracted, texts as well.
    "contrastive" scales the difference once more and takes CLIP's symmetric loss of the batch at a constant
    `temperature`. "squared" is the mean over batch and coordinates of the squared distance, with the difference as
    long as it is. A pair without a difference is left out, as row and as column, and the mean is over the others.

    Raises:
      ValueError: shapes that do not fit together, or another kind.
    """
    if kind not in ("contrastive", "squared"):
        raise ValueError(f"the kind of loss is {kind!r}; known are contrastive, squared")
    if image1.shape != image2.shape:
        raise ValueError(f"first and second images have the shapes {image1.shape} and {image2.shape}; give pairs")
    differences = unit_differences(image1, image2)
    valid = has_difference(differences)
    share = jnp.mean(valid.astype(jnp.float32))
    # where no pair is left, every term below is zero
    share = jnp.where(share == 0, 1.0, share)
    if kind == "squared":
        return jnp.mean(jnp.square(jnp.where(valid[:, None], differences - unit_rows(text), 0.0))) / share
    others = ~(valid[:, None] & valid[None, :])
    return clip_loss(differences, text, 1 / jnp.asarray(temperature, jnp.float32), mask=others) / share


def unit_differences(image1: Float[Array, "batch dim"], image2: Float[Array, "batch dim"]) -> Float[Array, "batch dim"]:
    """Subtract the second from the first embedding, each of unit length."""
    return unit_rows(image1) - unit_rows(image2)


def has_difference(differences: Float[Array, "batch dim"]) -> Bool[Array, " batch"]:
    """Say which differences have a direction."""
    return jnp.sum(jnp.square(differences), axis=-1) >= SMALLEST_DIFFERENCE**2


def difference_cosines(
    image1: Float[Array, "batch dim"], image2: Float[Array, "batch dim"], text: Float[Array, "batch dim"]
) -> Float[Array, " batch"]:
    """Compare each sentence with the difference of its two images; 0 where there is none."""
    differences = unit_differences(image1, image2)
    kept = jnp.where(has_difference(differences)[:, None], differences, 0.0)
    return jnp.sum(unit_rows(kept) * unit_rows(text), axis=-1)


def difference_accuracy(
    image1: Float[Array, "batch dim"], image2: Float[Array, "batch dim"], text: Float[Array, "batch dim"]
) -> Float[Array, ""]:
    """Measure how often a sentence points from the second image to the first: a cosine above zero.

    As images have unit length, this asks which of the two is more like the sentence. A tie is wrong; chance is one
    half.
    """
    return jnp.mean((difference_cosines(image1, image2, text) > 0).astype(jnp.float32))


def comparative_weights(
    weights: Float[Array, "classes dim"],
    pairs: Int[Array, "pairs 2"],
    differences: Float[Array, "pairs dim"],
    *,
    alpha: float | Float[Array, ""] = 0.9,
) -> Float[Array, "classes dim"]:
    """Correct class weights by sentences that say how class i differs from class j (the paper's equation 3).

    Each pair (i, j) says what class j should look like: the weight of i minus the difference. A class that stands
    second in some pair moves to `alpha` of itself and the rest the mean of what its pairs say, of unit length again;
    all others stay as they are, also those that only stand first. `alpha` of one changes nothing.

    Args:
      weights: class embeddings of unit length.
      pairs: numbers of classes, i and j; an index outside the classes is an error of the caller.
      differences: text embeddings, scaled to unit length here.
    """
    first, second = pairs[:, 0], pairs[:, 1]
    said = weights[first] - unit_rows(differences)
    counts = jnp.zeros(len(weights)).at[second].add(1.0)
    means = jnp.zeros_like(weights).at[second].add(said) / jnp.maximum(counts, 1.0)[:, None]
    moved = unit_rows(alpha * weights + (1 - alpha) * means)
    return jnp.where(counts[:, None] > 0, moved, weights)


def difference_distance(
    texts: Float[Array, "classes dim"], pairs: Int[Array, "pairs 2"], differences: Float[Array, "pairs dim"]
) -> Float[Array, " pairs"]:
    """Measure how far each sentence is from the difference of its two classes: one minus the cosine.

    `texts` are class embeddings as the tower gives them, not scaled to unit length. The distance to the reversed
    difference is two minus this.
    """
    between = texts[pairs[:, 0]] - texts[pairs[:, 1]]
    return 1 - jnp.sum(unit_rows(between) * unit_rows(differences), axis=-1)


def confused_pairs(confusion: Int[np.ndarray, "classes classes"], count: int) -> Int[np.ndarray, "pairs 2"]:
    """Name the `count` confusions that happen most: pairs (true, predicted), the first of equals in row-major order.

    Cells that are zero are no confusions: fewer pairs may come back.
    """
    errors = np.array(confusion)
    np.fill_diagonal(errors, 0)
    cells = np.argsort(-errors.reshape(-1), kind="stable")[:count]
    cells = cells[errors.reshape(-1)[cells] > 0]
    return np.stack(np.divmod(cells, len(errors)), axis=1).astype(np.int32)
