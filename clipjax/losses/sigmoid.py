"""SigLIP's pairwise sigmoid loss over one batch, on one device."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from clipjax.losses.similarity import pair_logits


def siglip_loss(
    image: Float[jax.Array, "batch dim"],
    text: Float[jax.Array, "batch dim"],
    logit_scale: Float[jax.Array, ""] | float,
    bias: Float[jax.Array, ""] | float,
    *,
    normalize: bool = True,
) -> Float[jax.Array, ""]:
    """Ask of every image-text pair whether it belongs together, each on its own.

    Row i of `image` belongs to row i of `text`; every other pair is a negative. The sum over all
    pairs of -log sigmoid(±(logit_scale * cosine + bias)), divided by the batch size and not by
    the number of pairs (Zhai et al., arXiv 2303.15343, algorithm 1). `logit_scale` is the
    multiplier itself, not its logarithm. Computed in float32 whatever the embeddings are.

    Raises:
      ValueError: shapes that do not fit together, or unequal numbers of images and texts.
    """
    if image.shape != text.shape:
        raise ValueError(f"{image.shape} images and {text.shape} texts do not pair up")
    logits = pair_logits(image, text, logit_scale, normalize=normalize) + jnp.asarray(bias, jnp.float32)
    signs = 2.0 * jnp.eye(logits.shape[0], dtype=jnp.float32) - 1.0
    return -jnp.sum(jax.nn.log_sigmoid(signs * logits)) / logits.shape[0]
