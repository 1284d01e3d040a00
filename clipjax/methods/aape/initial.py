"""What AAPE's networks start from. Layers start as those of the authors' framework do; the paper says nothing."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from clipjax.errors import ConfigError
from clipjax.methods.aape.config import Aggregation
from clipjax.methods.cached_shots import CachedShots, Descriptions
from clipjax.models.conditioned import Variant

Weights = dict[str, Float[Array, "..."]]


def generator(key: PRNGKeyArray, dim: int, hidden: int, outputs: int | None = None) -> Weights:
    """Draw h; 33,312 numbers at a width of 512 with the 32 hidden units of CoCoOp's network.

    `outputs` are as many as inputs unless said otherwise.
    """
    first, second = jax.random.split(key)
    return {**_layer(first, dim, hidden, "1"), **_layer(second, hidden, outputs or dim, "2")}


def class_head(key: PRNGKeyArray, dim: int, hidden: int, variant: Variant, alpha: float) -> Weights:
    """Draw g. What is added to the text embeddings starts at zero, and so the classifier at the zero-shot one.

    V0 starts as the identity on the texts with small noise: drawn at random it would forget them.
    """
    if variant == "none":
        return {}
    if variant == "V0":
        noise = 1e-3 * jax.random.normal(key, (2 * dim, dim))
        return {"w": noise.at[:dim].add(jnp.eye(dim)), "b": jnp.zeros(dim)}
    hidden = dim if variant == "V3" else hidden
    first, second = jax.random.split(key)
    narrow = {"w1": _layer(first, 2 * dim, hidden, "")["w"], "w2": _layer(second, hidden, dim, "")["w"]}
    if variant == "V1":
        return narrow
    return {**narrow, "w2": jnp.zeros((hidden, dim)), "alpha": jnp.float32(alpha)}


def aggregator(key: PRNGKeyArray, aggregation: Aggregation, shots: CachedShots, descriptions: Descriptions) -> Weights:
    """Draw an aggregator that starts near the mean description: what it adds to that is zero.

    Queries and keys are projected alike at first. A query, which starts at the mean description, then sees most of what
    is like it and little of junk; drawn apart, the two would know nothing of each other.

    Raises:
      ConfigError: the heads do not divide the width.
    """
    dim = shots.plain.shape[1]
    if aggregation.kind == "mlp":
        layers = generator(key, dim, max(1, dim // 16))
        return {f"mlp_{name}": array for name, array in layers.items()} | {"mlp_alpha": jnp.float32(0.1)}
    if dim % aggregation.heads:
        raise ConfigError(
            f"aggregation.heads={aggregation.heads} does not divide embeddings of {dim}; choose a divisor"
        )
    asked, seen, inside = jax.random.split(key, 3)
    # embeddings are of unit length, not of unit variance: what asks is that much larger than what is added up
    weights: Weights = {"wq": jax.random.normal(asked, (dim, dim))}
    weights |= {"wk": jnp.copy(weights["wq"])}
    weights |= {"wv": dim**-0.5 * jax.random.normal(seen, (dim, dim))}
    weights |= {"ff_w1": dim**-0.5 * jax.random.normal(inside, (dim, dim))}
    weights |= {"wo": jnp.zeros((dim, dim)), "ff_w2": jnp.zeros((dim, dim))}
    weights |= {name: jnp.zeros(dim) for name in ("bq", "bk", "bv", "bo", "ff_b1", "ff_b2", "ln1_bias", "ln2_bias")}
    weights |= {name: jnp.ones(dim) for name in ("ln1_scale", "ln2_scale")}
    means = descriptions.means.astype(np.float32)
    match aggregation.query:
        case "image":
            weights["query"] = jnp.asarray(means[shots.labels])
        case "class":
            weights["query"] = jnp.asarray(means)
        case "amortised":
            weights |= {
                "query_w": jnp.zeros((dim, dim)),
                "query_ln_scale": jnp.ones(dim),
                "query_ln_bias": jnp.zeros(dim),
            }
    return weights


def _layer(key: PRNGKeyArray, inputs: int, outputs: int, name: str) -> Weights:
    first, second = jax.random.split(key)
    bound = inputs**-0.5
    draw = lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)
    return {f"w{name}": draw(first, (inputs, outputs)), f"b{name}": draw(second, (outputs,))}
