"""The loss of language models: cross-entropy of the token that comes next."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def next_token_losses(logits: Float[Array, "*rows vocabulary"], targets: Int[Array, "*rows"]) -> Float[Array, "*rows"]:
    """Return the negative log-probability of each target, in float32 or wider."""
    logits = logits.astype(jnp.float64 if logits.dtype == jnp.float64 else jnp.float32)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen


def next_token_loss(
    logits: Float[Array, "*rows vocabulary"], targets: Int[Array, "*rows"], learned: Bool[Array, "*rows"]
) -> Float[Array, ""]:
    """Average the cross-entropy over the targets that are to be `learned`; 0 where there is none.

    The average is over tokens and not over texts, so that a long text counts for more than a short one.
    """
    losses = next_token_losses(logits, targets)
    return jnp.sum(jnp.where(learned, losses, 0.0)) / jnp.maximum(jnp.sum(learned), 1).astype(losses.dtype)
