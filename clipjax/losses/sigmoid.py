"""SigLIP's pairwise sigmoid loss over one batch, on one device or inside `jax.shard_map`."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from clipjax.losses.pairing import (
    AxisName,
    EqualIds,
    Images,
    Texts,
    check_ids,
    over_text_blocks,
    pair_labels,
    places_and_ids,
)
from clipjax.losses.similarity import check_embeddings, pair_logits, unit_rows


def siglip_loss(
    image: Float[jax.Array, "batch dim"],
    text: Float[jax.Array, "batch dim"],
    logit_scale: Float[jax.Array, ""] | float,
    bias: Float[jax.Array, ""] | float,
    *,
    ids: Int[jax.Array, " batch"] | None = None,
    equal_ids: EqualIds = "ignore",
    chunk: int | None = None,
    normalize: bool = True,
) -> Float[jax.Array, ""]:
    """Ask of every image-text pair whether it belongs together, each on its own.

    Row i of `image` belongs to row i of `text`; every other pair is a negative. The sum over all
    pairs of -log sigmoid(±(logit_scale * cosine + bias)), divided by the batch size and not by
    the number of pairs (Zhai et al., arXiv 2303.15343, algorithm 1). `logit_scale` is the
    multiplier itself, not its logarithm. Computed in float32 whatever the embeddings are.

    Images and texts of equal `ids` (equal captions, say) are not asked about unless they are a pair,
    or, with `equal_ids="share"`, are pairs too. With `chunk`, only so many texts are compared at a
    time and memory grows with the batch, not with its square.

    Raises:
      ValueError: shapes that do not fit together, or unequal numbers of images and texts.
    """
    return sharded_siglip_loss(
        image,
        text,
        logit_scale,
        bias,
        axis_name=None,
        ids=ids,
        equal_ids=equal_ids,
        chunk=chunk,
        normalize=normalize,
    )


def sharded_siglip_loss(
    image: Float[jax.Array, "batch dim"],
    text: Float[jax.Array, "batch dim"],
    logit_scale: Float[jax.Array, ""] | float,
    bias: Float[jax.Array, ""] | float,
    *,
    axis_name: AxisName | None,
    ids: Int[jax.Array, " batch"] | None = None,
    equal_ids: EqualIds = "ignore",
    chunk: int | None = None,
    normalize: bool = True,
) -> Float[jax.Array, ""]:
    """Compute `siglip_loss` of the whole batch inside `jax.shard_map`, where each device holds some of its pairs.

    `axis_name` names the mesh axes over which the batch is spread, first axis slowest. The texts travel
    around the ring of devices, and each device compares its images with those that are passing, so
    that a device never holds more logits than its images times its texts. The same value on every
    device. Differentiate outside of `jax.shard_map`: inside, the gradient of replicated parameters
    comes out multiplied by the number of devices. With no `axis_name` this device holds the whole batch.

    Raises:
      ValueError: as `siglip_loss`.
    """
    check_embeddings(image, text)
    if image.shape != text.shape:
        raise ValueError(f"{image.shape} images and {text.shape} texts do not pair up")
    check_ids(image, text, ids, equal_ids)
    if normalize:
        image, text = unit_rows(image), unit_rows(text)
    images = Images(image.astype(jnp.float32), *places_and_ids(image, ids, axis_name))
    texts = Texts(text.astype(jnp.float32), *places_and_ids(text, ids, axis_name))
    scale, bias = jnp.asarray(logit_scale, jnp.float32), jnp.asarray(bias, jnp.float32)

    def compare(images: Images, texts: Texts, scale: jax.Array, bias: jax.Array) -> jax.Array:
        block_losses = _pair_losses if chunk is None else jax.checkpoint(_pair_losses, static_argnums=4)

        def step(losses: jax.Array, block: Texts) -> tuple[jax.Array, None]:
            return losses + block_losses(images, block, scale, bias, equal_ids), None

        return jnp.sum(over_text_blocks(step, jnp.zeros_like(images.embeddings[:, 0]), texts, chunk)[0])

    total = compare(images, texts, scale, bias)
    if axis_name is None:
        return total / image.shape[0]
    devices = jax.lax.axis_size(axis_name)
    if devices > 1:

        def pass_on(texts: Texts, _) -> tuple[Texts, jax.Array]:
            texts = jax.lax.ppermute(texts, axis_name, [(d, (d + 1) % devices) for d in range(devices)])
            return texts, jax.checkpoint(compare)(images, texts, scale, bias)

        total += jnp.sum(jax.lax.scan(pass_on, texts, length=devices - 1)[1])
    return jax.lax.psum(total, axis_name) / (image.shape[0] * devices)


def _pair_losses(
    images: Images, texts: Texts, scale: Float[jax.Array, ""], bias: Float[jax.Array, ""], equal_ids: EqualIds
) -> Float[jax.Array, " images"]:
    labels = pair_labels(images, texts, equal_ids)
    logits = pair_logits(images.embeddings, texts.embeddings, scale, normalize=False) + bias
    losses = -jax.nn.log_sigmoid(jnp.where(labels.to_text > 0, logits, -logits))
    return jnp.sum(losses if labels.text_counts is None else jnp.where(labels.text_counts, losses, 0.0), axis=1)
