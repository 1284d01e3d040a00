"""Weights between those before and those after training."""

import jax

from clipjax.models.clip import Params


@jax.jit
def interpolated(before: Params, after: Params, share: float) -> Params:
    """Mix two params trees: a `share` of 0 is before, 1 is after (WiSE-FT, arXiv 2109.01903)."""
    return jax.tree.map(lambda old, new: (old + share * (new - old)).astype(old.dtype), before, after)
