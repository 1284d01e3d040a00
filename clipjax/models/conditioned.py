"""Class weights that depend on the image: the part of AAPE that is there at test time (arXiv 2410.23698).

A generator h says in embedding space what an image shows; a small head g mixes that with the text embedding of each
class. The scores are computed without the class weights of each image, which would be batch x classes x dim.
"""

import functools
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from clipjax.models.clip import cosines, unit

Variant = Literal["V0", "V1", "V2", "V3", "none"]
"""What g is. "V0": one layer with ReLU. "V1": two layers, narrow between. "V2": V1 added to the text embedding, which
the image then corrects. "V3": the same, wide between. "none": no g, h(x) itself is compared with the texts."""

Weights = Mapping[str, Float[Array, "..."]]

_SMALLEST = 1e-12

# as in `cosines`: a temperature of 0.01 would make much of what accelerators round
_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def generate(generator: Weights, images: Float[Array, "batch dim"]) -> Float[Array, "batch dim"]:
    """Say what images show, in embedding space: h(x) of section 3.2, two layers with ReLU between them.

    `generator` holds `w1` [dim, hidden], `b1`, `w2` [hidden, dim] and `b2`. The result is not of unit length.
    """
    hidden = jax.nn.relu(_product(images, generator["w1"]) + generator["b1"])
    return _product(hidden, generator["w2"]) + generator["b2"]


def class_logits(
    head: Weights,
    texts: Float[Array, "classes dim"],
    images: Float[Array, "batch dim"],
    generated: Float[Array, "batch dim"],
    *,
    temperature: float | Float[Array, ""],
    variant: Variant = "V2",
) -> Float[Array, "batch classes"]:
    """Compare images with their own class weights g([w, h(x)]): cosines over the temperature (equation 3).

    The first layer of g is linear in its two halves, so texts and images pass it by themselves and meet before the
    ReLU. What follows is linear, too: the cosine needs only its Gram matrix, and no array is larger than
    batch x classes x hidden.

    Args:
      head: `w` [2 dim, dim] and `b` for V0; else `w1` [2 dim, hidden], `w2` [hidden, dim] and, if wanted, `b1`;
        `alpha` with them for V2 and V3; nothing for "none".
      generated: h(x).
    """
    if variant == "none":
        return cosines(unit(generated), unit(texts)) / temperature
    dim = texts.shape[1]
    first = head["w"] if variant == "V0" else head["w1"]
    bias = head.get("b" if variant == "V0" else "b1")
    by_class, by_image = _product(texts, first[:dim]), _product(generated, first[dim:])
    by_image = by_image if bias is None else by_image + bias
    hidden = jax.nn.relu(by_class[None] + by_image[:, None])
    if variant == "V0":
        dots, squares = _einsum("bcd,bd->bc", hidden, images), jnp.sum(hidden * hidden, axis=-1)
    else:
        last = head["w2"]
        dots = _einsum("bch,bh->bc", hidden, _product(images, last.T))
        squares = jnp.sum(hidden * _product(hidden, _product(last, last.T)), axis=-1)
    if variant in ("V2", "V3"):
        alpha = head["alpha"]
        crossed = _einsum("bch,ch->bc", hidden, _product(texts, head["w2"].T))
        dots = cosines(images, texts) + alpha * dots
        squares = jnp.sum(texts * texts, axis=1) + 2 * alpha * crossed + alpha * alpha * squares
    lengths = jnp.linalg.norm(images, axis=1, keepdims=True)
    # where every unit of the hidden layer is off, the weight is zero and so is its score
    return dots * jax.lax.rsqrt(jnp.maximum(squares, _SMALLEST)) / (lengths * temperature)
