"""CLIP's contrastive loss over the pairs of one batch, on one device or inside `jax.shard_map`."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from clipjax.losses.cross_entropy import both_ways
from clipjax.losses.pairing import AxisName, EqualIds, Images, Texts, check_ids, check_matrices, places_and_ids
from clipjax.losses.similarity import check_embeddings, unit_rows


def clip_loss(
    image: Float[jax.Array, "images dim"],
    text: Float[jax.Array, "texts dim"],
    logit_scale: Float[jax.Array, ""] | float,
    *,
    targets: tuple[Float[jax.Array, "images texts"], Float[jax.Array, "texts images"]] | None = None,
    mask: Bool[jax.Array, "images texts"] | None = None,
    ids: Int[jax.Array, " images"] | None = None,
    equal_ids: EqualIds = "ignore",
    chunk: int | None = None,
    normalize: bool = True,
) -> Float[jax.Array, ""]:
    """Ask each image for its text and each text for its image, by cross-entropy over the batch.

    The mean over images of the cross-entropy along the rows of the scaled cosines, and the mean
    over texts along the columns, averaged (Radford et al., arXiv 2103.00020, figure 3). Row i of
    `image` belongs to row i of `text` unless `targets` says otherwise: its first matrix holds one
    distribution over texts per image, its second one distribution over images per text, neither
    of which is rescaled. `logit_scale` is the multiplier itself, not its logarithm. Computed in
    float32 whatever the embeddings are.

    Pairs that `mask` marks are no negatives: they leave the softmax, unless they have a target.
    `ids`, one per pair, say the same without a matrix: of two pairs with equal ids (equal captions,
    say), neither is a negative of the other, or, with `equal_ids="share"`, the two share the target.
    With `chunk`, only so many texts are compared at a time and memory grows with the batch, not with
    its square, for five products of the embeddings per gradient instead of three. Targets are
    constants to the gradient.

    Raises:
      ValueError: shapes that do not fit together, or unequal numbers of images and texts without targets.
    """
    return sharded_clip_loss(
        image,
        text,
        logit_scale,
        axis_name=None,
        targets=targets,
        mask=mask,
        ids=ids,
        equal_ids=equal_ids,
        chunk=chunk,
        normalize=normalize,
    )


def sharded_clip_loss(
    image: Float[jax.Array, "images dim"],
    text: Float[jax.Array, "texts dim"],
    logit_scale: Float[jax.Array, ""] | float,
    *,
    axis_name: AxisName | None,
    targets: tuple[Float[jax.Array, "images all_texts"], Float[jax.Array, "all_texts images"]] | None = None,
    mask: Bool[jax.Array, "images all_texts"] | None = None,
    ids: Int[jax.Array, " images"] | None = None,
    equal_ids: EqualIds = "ignore",
    chunk: int | None = None,
    normalize: bool = True,
) -> Float[jax.Array, ""]:
    """Compute `clip_loss` of the whole batch inside `jax.shard_map`, where each device holds some of its rows.

    `axis_name` names the mesh axes over which the batch is spread, first axis slowest. A device holds
    the logits of its own images and gathers the texts; of targets and mask it is given what concerns
    its images. The same value on every device. Differentiate outside of `jax.shard_map`: inside,
    the gradient of replicated parameters comes out multiplied by the number of devices.

    With no `axis_name` this device holds the whole batch.

    Raises:
      ValueError: as `clip_loss`.
    """
    check_embeddings(image, text)
    shape = image.shape[0], text.shape[0] * (1 if axis_name is None else jax.lax.axis_size(axis_name))
    if targets is None and image.shape[0] != text.shape[0]:
        raise ValueError(f"{image.shape[0]} images and {text.shape[0]} texts do not pair up; give targets")
    check_matrices(shape, targets, mask)
    check_ids(image, text, ids, equal_ids, targets)
    if normalize:
        image, text = unit_rows(image), unit_rows(text)
    own = Images(image.astype(jnp.float32), *places_and_ids(image, ids, axis_name))
    texts = Texts(text.astype(jnp.float32), *places_and_ids(text, ids, axis_name))
    if axis_name is not None:
        texts = jax.lax.all_gather(texts, axis_name, tiled=True)
    to_text, to_image = (None, None) if targets is None else jax.lax.stop_gradient((targets[0].T, targets[1]))
    texts = texts._replace(to_text=to_text, to_image=to_image, ignored=None if mask is None else mask.T)
    return both_ways(own, texts, logit_scale, equal_ids=equal_ids, chunk=chunk, axis_name=axis_name)
