"""Which image belongs to which text: by place, by equal captions, or as the caller says.

Also how the texts of a batch are cut into blocks, so that no loss has to look at all pairs at once.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

EqualIds = Literal["ignore", "share"]
AxisName = str | tuple[str, ...]
Carry = TypeVar("Carry")
PerText = TypeVar("PerText")


def equal_caption_mask(
    image_ids: Int[jax.Array, " images"], text_ids: Int[jax.Array, " texts"]
) -> Bool[jax.Array, "images texts"]:
    """Say which texts are no fair negatives of an image, because their caption equals its own.

    The pair itself is marked too; the losses keep every pair that has a target.
    """
    return image_ids[:, None] == text_ids[None, :]


def equal_caption_targets(
    image_ids: Int[jax.Array, " images"], text_ids: Int[jax.Array, " texts"]
) -> tuple[Float[jax.Array, "images texts"], Float[jax.Array, "texts images"]]:
    """Share each image's target equally among the texts of its id, and each text's among the images.

    A row whose id does not occur on the other side gets no target at all and costs nothing.
    """
    equal = equal_caption_mask(image_ids, text_ids).astype(jnp.float32)
    equal_texts, equal_images = jnp.sum(equal, axis=1), jnp.sum(equal, axis=0)
    return equal / jnp.maximum(equal_texts, 1.0)[:, None], equal.T / jnp.maximum(equal_images, 1.0)[:, None]


class Images(NamedTuple):
    """The images whose logits are computed here, normalised if they are to be."""

    embeddings: Float[jax.Array, "images dim"]
    places: Int[jax.Array, " images"]
    ids: Int[jax.Array, " images"] | None = None


class Texts(NamedTuple):
    """Texts, with all that is known of them. The first axis is always that of the texts, so that it can be cut."""

    embeddings: Float[jax.Array, "texts dim"]
    places: Int[jax.Array, " texts"]
    ids: Int[jax.Array, " texts"] | None = None
    to_text: Float[jax.Array, "texts images"] | None = None
    to_image: Float[jax.Array, "texts images"] | None = None
    ignored: Bool[jax.Array, "texts images"] | None = None
    real: Bool[jax.Array, " texts"] | None = None
    top: Float[jax.Array, " texts"] | None = None  # the largest logit of each text, once it is known


def places_and_ids(
    rows: Float[jax.Array, "rows dim"], ids: Int[jax.Array, " rows"] | None, axis_name: AxisName | None
) -> tuple[Int[jax.Array, " rows"], Int[jax.Array, " rows"] | None]:
    """Number this device's rows as the whole batch does, and pass on their ids."""
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * rows.shape[0]
    return first + jnp.arange(rows.shape[0], dtype=jnp.int32), ids


def check_ids(
    image: Float[jax.Array, "images dim"],
    text: Float[jax.Array, "texts dim"],
    ids: Int[jax.Array, " images"] | None,
    equal_ids: str,
    targets: object | None = None,
) -> None:
    """Refuse ids that do not belong to pairs, or that shall share targets which are given already.

    Raises:
      ValueError: any of these.
    """
    if equal_ids not in get_args(EqualIds):
        raise ValueError(f"equal_ids is one of {get_args(EqualIds)}, got {equal_ids!r}")
    if equal_ids == "share" and (ids is None or targets is not None):
        raise ValueError('equal_ids="share" makes targets from ids; it needs ids and no targets')
    if ids is not None and not ids.shape == image.shape[:1] == text.shape[:1]:
        raise ValueError(
            f"one id per pair expected, got {ids.shape} for {image.shape[0]} images and {text.shape[0]} texts"
        )


def check_matrices(shape: tuple[int, int], targets: tuple[jax.Array, jax.Array] | None, mask: jax.Array | None) -> None:
    """Refuse soft targets or a mask that do not fit logits [images, texts] of this shape.

    Raises:
      ValueError: a shape differs.
    """
    expected = [("soft targets", t, s) for t, s in zip(targets or (), (shape, shape[::-1]))]
    if mask is not None:
        expected.append(("a mask", mask, shape))
    for name, matrix, fitting in expected:
        if matrix.shape != fitting:
            raise ValueError(f"{name} of shape {fitting} expected, got {matrix.shape}")


class Labels(NamedTuple):
    """The target of each pair in both directions, and which pairs count as choices; None if all do."""

    to_text: Float[jax.Array, "images texts"]
    to_image: Float[jax.Array, "images texts"]
    text_counts: Bool[jax.Array, "images texts"] | None
    image_counts: Bool[jax.Array, "images texts"] | None


def pair_labels(images: Images, texts: Texts, equal_ids: EqualIds) -> Labels:
    """Judge every pair of these images and these texts.

    Without targets a pair belongs together when both have the same place in the batch, or, if equal
    ids share, the same id. A pair with a target is never ignored, whatever a mask or the ids say.
    """
    ignored = None if texts.ignored is None else texts.ignored.T
    if texts.ids is not None and images.ids is not None:
        equal = equal_caption_mask(images.ids, texts.ids)
    else:
        equal = None
    if texts.to_text is not None and texts.to_image is not None:
        to_text, to_image = texts.to_text.T.astype(jnp.float32), texts.to_image.T.astype(jnp.float32)
    elif equal is not None and equal_ids == "share":
        to_text = to_image = equal.astype(jnp.float32)
    else:
        to_text = to_image = equal_caption_mask(images.places, texts.places).astype(jnp.float32)
    if equal is not None and equal_ids == "ignore":
        ignored = equal if ignored is None else ignored | equal
    counts = [None, None] if ignored is None else [~ignored | (t > 0) for t in (to_text, to_image)]
    if texts.real is not None:
        counts = [jnp.broadcast_to(texts.real, to_text.shape) if c is None else c & texts.real for c in counts]
        to_text, to_image = (jnp.where(texts.real, t, 0.0) for t in (to_text, to_image))
    return Labels(to_text, to_image, *counts)


def over_text_blocks(
    step: Callable[[Carry, Texts], tuple[Carry, PerText]], start: Carry, texts: Texts, chunk: int | None
) -> tuple[Carry, PerText]:
    """Scan over the texts, `chunk` of them at a time, and join what the steps say of each text.

    All texts are one block without `chunk`. The last block is filled up with texts that are not real.

    Raises:
      ValueError: `chunk` is below 1.
    """
    count = texts.embeddings.shape[0]
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk is the number of texts looked at together and at least 1, got {chunk}")
    if chunk is None or chunk >= count:
        return step(start, texts)
    blocks = -(-count // chunk)
    missing = blocks * chunk - count
    if missing:
        texts = texts._replace(real=jnp.ones_like(texts.places, dtype=bool))

    def cut(rows: jax.Array) -> jax.Array:
        filled = jnp.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1))
        return filled.reshape(blocks, chunk, *rows.shape[1:])

    carry, outputs = jax.lax.scan(step, start, jax.tree.map(cut, texts))
    return carry, jax.tree.map(lambda o: o.reshape(-1, *o.shape[2:])[:count], outputs)
