"""From two sets of embeddings to one float32 logit per image-text pair.

Shared by the losses over all pairs of a batch. The losses themselves live in files of their own.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

# Below this a row has no direction worth speaking of, and dividing by its length could overflow.
_SMALLEST_ENTRY = 1e-30


def unit_rows(rows: Float[jax.Array, "rows dim"]) -> Float[jax.Array, "rows dim"]:
    """Scale each row to length one, in float32.

    The result and its gradient are finite for every finite row: squares of very large or very
    small entries do not overflow or vanish, and a row of zeros stays zero and gets no gradient.
    """
    rows = rows.astype(jnp.float32)
    # The direction does not depend on the row's scale, so neither does its derivative on this divisor.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(rows), axis=-1, keepdims=True))
    empty = largest < _SMALLEST_ENTRY
    rows = jnp.where(empty, 0.0, rows) / jnp.where(empty, 1.0, largest)
    squares = jnp.sum(rows * rows, axis=-1, keepdims=True)
    return rows / jnp.sqrt(jnp.where(empty, 1.0, squares))


def pair_logits(
    image: Float[jax.Array, "images dim"],
    text: Float[jax.Array, "texts dim"],
    logit_scale: Float[jax.Array, ""] | float,
    *,
    normalize: bool = True,
) -> Float[jax.Array, "images texts"]:
    """Score every image against every text: the scaled cosine, in float32.

    The products are taken at full precision on every device: at a scale of 100 the bfloat16
    products that accelerators prefer would be off by half a logit. With `normalize=False` the
    rows are used as they are.

    Raises:
      ValueError: the embeddings are not two matrices with the same number of columns, or hold no rows.
    """
    check_embeddings(image, text)
    if normalize:
        image, text = unit_rows(image), unit_rows(text)
    # Scaling the product instead would let XLA fuse the scaling into the softmax's subtraction of its
    # maximum, which then rounds otherwise than the maximum did: at very large scales the loss overflows.
    image = image.astype(jnp.float32) * jnp.asarray(logit_scale, jnp.float32)
    return jnp.matmul(image, text.astype(jnp.float32).T, precision=jax.lax.Precision.HIGHEST)


def check_embeddings(image: Float[jax.Array, "images dim"], text: Float[jax.Array, "texts dim"]) -> None:
    """Refuse embeddings that cannot be compared.

    Raises:
      ValueError: not two matrices with the same number of columns, or one without rows.
    """
    if image.ndim != 2 or text.ndim != 2 or image.shape[1] != text.shape[1]:
        raise ValueError(f"expected embeddings [images, dim] and [texts, dim], got {image.shape} and {text.shape}")
    if 0 in image.shape or 0 in text.shape:
        raise ValueError(f"a loss over pairs needs at least one pair, got {image.shape} and {text.shape}")
