"""CLIP's contrastive loss over the pairs of one batch, on one device, with hard or soft targets."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from clipjax.losses.similarity import pair_logits


def clip_loss(
    image: Float[jax.Array, "images dim"],
    text: Float[jax.Array, "texts dim"],
    logit_scale: Float[jax.Array, ""] | float,
    *,
    targets: tuple[Float[jax.Array, "images texts"], Float[jax.Array, "texts images"]] | None = None,
    normalize: bool = True,
) -> Float[jax.Array, ""]:
    """Ask each image for its text and each text for its image, by cross-entropy over the batch.

    The mean over images of the cross-entropy along the rows of the scaled cosines, and the mean
    over texts along the columns, averaged (Radford et al., arXiv 2103.00020, figure 3). Row i of
    `image` belongs to row i of `text` unless `targets` says otherwise: its first matrix holds one
    distribution over texts per image, its second one distribution over images per text, neither
    of which is rescaled. `logit_scale` is the multiplier itself, not its logarithm. Computed in
    float32 whatever the embeddings are.

    Raises:
      ValueError: shapes that do not fit together, or unequal numbers of images and texts without targets.
    """
    logits = pair_logits(image, text, logit_scale, normalize=normalize)
    to_text = jax.nn.log_softmax(logits, axis=1)
    to_image = jax.nn.log_softmax(logits, axis=0).T
    if targets is None:
        if logits.shape[0] != logits.shape[1]:
            raise ValueError(f"{logits.shape[0]} images and {logits.shape[1]} texts do not pair up; give targets")
        return -(jnp.mean(jnp.diagonal(to_text)) + jnp.mean(jnp.diagonal(to_image))) / 2
    return (_cross_entropy(targets[0], to_text) + _cross_entropy(targets[1], to_image)) / 2


def _cross_entropy(
    targets: Float[jax.Array, "rows choices"], log_probabilities: Float[jax.Array, "rows choices"]
) -> Float[jax.Array, ""]:
    if targets.shape != log_probabilities.shape:
        raise ValueError(f"soft targets of shape {log_probabilities.shape} expected, got {targets.shape}")
    return -jnp.mean(jnp.sum(targets.astype(jnp.float32) * log_probabilities, axis=1))
