"""Cross-entropy along the rows and the columns of the image-text logits, block by block and over devices.

Two passes: the largest logit of each row and column, then sums relative to it, which simply add up.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from clipjax.losses.pairing import AxisName, EqualIds, Images, Labels, Texts, over_text_blocks, pair_labels
from clipjax.losses.similarity import pair_logits

# Stands for the largest of no logits. Half of the lowest float32, so that a difference to it does not overflow.
_LOWEST = float(jnp.finfo(jnp.float32).min) / 2


class Sums(NamedTuple):
    """What the cross-entropy of a row needs of its choices; `top` is the largest logit among them."""

    exponentials: Float[jax.Array, " rows"]  # of logit - top, over the choices that count
    gap: Float[jax.Array, " rows"]  # target * (top - logit)
    target: Float[jax.Array, " rows"]

    def cross_entropies(self, *, rescale: bool) -> Float[jax.Array, " rows"]:
        """Turn the sums into one loss per row; `rescale` divides the targets of a row by their sum."""
        # A row has no choice at all only if it has no target either, and then it costs nothing.
        log_total = jnp.log(jnp.where(self.exponentials > 0, self.exponentials, 1.0))
        losses = self.target * log_total + self.gap
        return losses / self.target if rescale else losses


def both_ways(
    images: Images,
    texts: Texts,
    logit_scale: Float[jax.Array, ""] | float,
    *,
    equal_ids: EqualIds = "ignore",
    chunk: int | None = None,
    axis_name: AxisName | None = None,
) -> Float[jax.Array, ""]:
    """Average the mean cross-entropy of the images over all texts and of the texts over all images.

    `images` are those of this device, `texts` all there are; sums over all images run over the mesh
    axes `axis_name`. With `chunk`, only so many texts meet the images at a time, and the backward
    pass computes their logits again, so that nothing of the size of all logits is ever held.
    """

    def block_logits(images: Images, block: Texts, scale: jax.Array) -> tuple[jax.Array, Labels]:
        logits = pair_logits(images.embeddings, block.embeddings, scale, normalize=False)
        return logits, pair_labels(images, block, equal_ids)

    def raise_top(top: jax.Array, block: Texts) -> tuple[jax.Array, jax.Array]:
        logits, labels = block_logits(images, block, scale)
        return jnp.maximum(top, _largest(logits, labels.text_counts, 1)), _largest(logits, labels.image_counts, 0)

    def block_sums(images: Images, block: Texts, scale: jax.Array, top: jax.Array) -> tuple[Sums, Sums]:
        assert block.top is not None  # known since the first pass
        logits, labels = block_logits(images, block, scale)
        by_image = _sums(logits, labels.to_text, labels.text_counts, top, 1)
        return by_image, _sums(logits, labels.to_image, labels.image_counts, block.top, 0)

    def add_block(so_far: Sums, block: Texts) -> tuple[Sums, Sums]:
        by_image, by_text = block_sums(images, block, scale, image_top)
        return jax.tree.map(jnp.add, so_far, by_image), by_text

    if chunk is not None:
        block_sums = jax.checkpoint(block_sums, prevent_cse=False)
    scale = jnp.asarray(logit_scale, jnp.float32)
    nothing = jnp.zeros_like(images.embeddings[:, 0])
    # The tops cancel out of the loss: to its gradient they are constants.
    image_top, text_top = jax.lax.stop_gradient(over_text_blocks(raise_top, nothing + _LOWEST, texts, chunk))
    if axis_name is not None:
        text_top = jax.lax.pmax(text_top, axis_name)
    by_image, by_text = over_text_blocks(add_block, Sums(*[nothing] * 3), texts._replace(top=text_top), chunk)
    image_losses = by_image.cross_entropies(rescale=equal_ids == "share")
    image_count = image_losses.shape[0]
    image_total = jnp.sum(image_losses)
    if axis_name is not None:
        by_text, image_total = jax.lax.psum((by_text, image_total), axis_name)
        image_count *= jax.lax.axis_size(axis_name)
    text_losses = by_text.cross_entropies(rescale=equal_ids == "share")
    return (image_total / image_count + jnp.mean(text_losses)) / 2


def _largest(
    logits: Float[jax.Array, "images texts"], counts: Bool[jax.Array, "images texts"] | None, axis: int
) -> Float[jax.Array, " rows"]:
    return jnp.max(logits if counts is None else jnp.where(counts, logits, _LOWEST), axis=axis)


def _sums(
    logits: Float[jax.Array, "images texts"],
    targets: Float[jax.Array, "images texts"],
    counts: Bool[jax.Array, "images texts"] | None,
    top: Float[jax.Array, " rows"],
    axis: int,
) -> Sums:
    below = logits - jnp.expand_dims(top, axis)
    # On some processors the second pass rounds logits otherwise than the first, whose largest then is not the top.
    below -= jax.lax.stop_gradient(jnp.maximum(below, 0.0))
    # Whatever does not count is left out before the exponential, which could overflow and spoil the gradient.
    exponentials = jnp.exp(below if counts is None else jnp.where(counts, below, -jnp.inf))
    return Sums(jnp.sum(exponentials, axis), -jnp.sum(targets * below, axis), jnp.sum(targets, axis))
