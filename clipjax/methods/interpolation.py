"""Weights between those before and those after training."""

import jax
import jax.numpy as jnp

from clipjax.models.clip import Params


@jax.jit
def interpolated(before: Params, after: Params, share: float) -> Params:
    """Mix two params trees: a `share` of 0 is before, 1 is after, to the bit (WiSE-FT, arXiv 2109.01903).

    Leaves have the types of `after`: a change that was kept in float32 would vanish in narrower weights.
    """

    def mixed(old: jax.Array, new: jax.Array) -> jax.Array:
        # old + (new - old) is not always new; that a share of 0 gives old, and equal leaves stay, holds by itself
        return jnp.where(share == 1, new, old + share * (new - old)).astype(new.dtype)

    return jax.tree.map(mixed, before, after)
