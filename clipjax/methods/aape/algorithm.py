"""AAPE's formulas as pure functions of arrays (Huang et al., arXiv 2410.23698; numbers of equations are the paper's).

The aggregator fuses the descriptions of a class into one embedding; it is used in training only. What remains at test
time, the generator and the head, is in `clipjax.models.conditioned`.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from clipjax.models.clip import unit

Weights = Mapping[str, Float[Array, "..."]]

EPSILON = 1e-5


def clip_s(
    images: Float[Array, "batch dim"], texts: Float[Array, "batch dim"], *, scale: float = 2.5
) -> Float[Array, " batch"]:
    """Reward a text that fits its image: `scale` times the cosine, never negative (CLIPScore, arXiv 2104.08718)."""
    return scale * jnp.maximum(jnp.sum(unit(images) * unit(texts), axis=-1), 0)


def distill_loss(generated: Float[Array, "batch dim"], targets: Float[Array, "batch dim"]) -> Float[Array, ""]:
    """Compute how far what h says is from the aggregated descriptions (equation 2).

    Squared distances, averaged over the batch; the targets are constants.
    """
    return jnp.mean(jnp.sum((generated - jax.lax.stop_gradient(targets)) ** 2, axis=-1))


def mean_description(
    descriptions: Float[Array, "batch texts dim"], present: Bool[Array, "batch texts"]
) -> Float[Array, "batch dim"]:
    """Average the descriptions that are there; the mean is not of unit length."""
    kept = jnp.where(present[..., None], descriptions, 0)
    return jnp.sum(kept, axis=1) / jnp.sum(present, axis=1, keepdims=True).astype(kept.dtype)


def aggregate(
    weights: Weights,
    queries: Float[Array, "batch dim"],
    descriptions: Float[Array, "batch texts dim"],
    present: Bool[Array, "batch texts"],
    *,
    heads: int,
    dropout: float = 0.0,
    key: PRNGKeyArray | None = None,
) -> Float[Array, "batch dim"]:
    """Fuse descriptions by one attention layer with a learned query, to unit length (equation 1).

    Values come from the descriptions alone and the residual from their mean, so that the result is a function of
    text whatever the query learns. Rows of `descriptions` that are not `present` count for nothing.

    Args:
      weights: `wq wk wv wo` [dim, dim] with `bq bk bv bo`, `ff_w1 ff_w2` with `ff_b1 ff_b2`, and scale and bias of
        `ln1` and `ln2`.
      dropout: the share of attention weights that training drops, drawn by `key`.
    """
    attention = attention_weights(weights, queries, descriptions, present, heads=heads)
    if dropout and key is not None:
        kept = jax.random.bernoulli(key, 1 - dropout, attention.shape)
        attention = jnp.where(kept, attention / (1 - dropout), 0)
    # weighted before they are projected: one projection for each image and head, and not for each description
    seen = jnp.einsum("bhn,bnd->bhd", attention, jnp.where(present[..., None], descriptions, 0))
    values = jnp.einsum("bhd,dhk->bhk", seen, _by_head(weights["wv"], heads))
    values += jnp.sum(attention, axis=-1)[..., None] * weights["bv"].reshape(heads, -1)
    mixed = values.reshape(len(queries), -1) @ weights["wo"] + weights["bo"]
    u = _layer_norm(mean_description(descriptions, present) + mixed, weights, "ln1")
    inside = jax.nn.relu(u @ weights["ff_w1"] + weights["ff_b1"])
    return unit(_layer_norm(u + inside @ weights["ff_w2"] + weights["ff_b2"], weights, "ln2"))


def attention_weights(
    weights: Weights,
    queries: Float[Array, "batch dim"],
    descriptions: Float[Array, "batch texts dim"],
    present: Bool[Array, "batch texts"],
    *,
    heads: int,
) -> Float[Array, "batch heads texts"]:
    """Say how much each description counts in each head; the weights of a head add up to one.

    The key projection is applied to the query in place of the descriptions, which is the same and takes a few
    hundredths of the arithmetic. Its bias would add the same to all scores of a head and changes nothing.
    """
    dim = queries.shape[1]
    asked = (queries @ weights["wq"] + weights["bq"]).reshape(len(queries), heads, -1)
    wanted = jnp.einsum("bhk,dhk->bhd", asked, _by_head(weights["wk"], heads))
    constant = jnp.einsum("bhk,hk->bh", asked, weights["bk"].reshape(heads, -1))
    scores = (jnp.einsum("bhd,bnd->bhn", wanted, descriptions) + constant[..., None]) * (dim // heads) ** -0.5
    return jax.nn.softmax(jnp.where(present[:, None], scores, -jnp.inf), axis=-1)


def mixed_mean(weights: Weights, means: Float[Array, "batch dim"]) -> Float[Array, "batch dim"]:
    """Change mean descriptions by a narrow network: the paper's second-best aggregator.

    `weights` holds `w1` [dim, hidden], `b1`, `w2`, `b2` and the share `alpha` of the network in the result.
    """
    inside = jax.nn.relu(means @ weights["w1"] + weights["b1"]) @ weights["w2"] + weights["b2"]
    return weights["alpha"] * inside + (1 - weights["alpha"]) * means


def amortised_queries(
    weights: Weights, images: Float[Array, "batch dim"], means: Float[Array, "batch dim"]
) -> Float[Array, "batch dim"]:
    """Make queries of the images themselves: the mean description plus a linear map `w` of the image, normalised."""
    return _layer_norm(means + images @ weights["w"], weights, "ln")


def _by_head(matrix: Float[Array, "n dim"], heads: int) -> Float[Array, "n heads width"]:
    return matrix.reshape(len(matrix), heads, -1)


def _layer_norm(x: Float[Array, "batch dim"], weights: Weights, name: str) -> Float[Array, "batch dim"]:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    deviation = jnp.sqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + EPSILON)
    return centred / deviation * weights[f"{name}_scale"] + weights[f"{name}_bias"]
