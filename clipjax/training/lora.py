"""Low-rank adaptation as a function from params to params (Hu et al., arXiv 2106.09685).

    adapters = lora.init(key, params, [r"vision/blocks/.*(query|value)/kernel$"], rank=8)
    model.encode_image(lora.apply(params, adapters), images)

The adapters are an ordinary pytree: a stage trains them with the params frozen.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from clipjax.errors import ConfigError
from clipjax.parallel.rules import path_name


def init(key: PRNGKeyArray, params: dict[str, Any], patterns: Sequence[str], *, rank: int) -> dict[str, Any]:
    """Draw adapters for the kernels that some pattern matches: `down` uniform, `up` zero, so that nothing changes yet.

    Kernels have shape [..., n_in, n_out]; leading axes (stacked layers) get adapters of their own.

    Raises:
      ConfigError: no kernel matches, a match is not a matrix, or the rank is not below its sizes.
    """
    adapters: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = path_name(path)
        if not any(re.search(pattern, name) for pattern in patterns):
            continue
        if leaf.ndim < 2 or not 1 <= rank <= min(leaf.shape[-2:]):
            raise ConfigError(f"no adapter of rank {rank} fits {name} {leaf.shape}; choose other patterns or ranks")
        key, own = jax.random.split(key)
        *layers, n_in, n_out = leaf.shape
        bound = math.sqrt(1 / n_in)  # torch's kaiming_uniform with a=sqrt(5), as in the authors' code
        adapters[name] = {
            "down": jax.random.uniform(own, (*layers, n_in, rank), leaf.dtype, -bound, bound),
            "up": jnp.zeros((*layers, rank, n_out), leaf.dtype),
        }
    if not adapters:
        raise ConfigError(f"no parameter matches {', '.join(patterns)}; `clipjax inspect` lists their paths")
    return adapters


def apply(params: dict[str, Any], adapters: dict[str, Any], *, alpha: float = 1.0) -> dict[str, Any]:
    """Return params whose adapted kernels are W + alpha / rank * down @ up.

    Raises:
      ConfigError: an adapter has no kernel in `params`.
    """

    def adapted(path, leaf):
        adapter = adapters.get(path_name(path))
        if adapter is None:
            return leaf
        used.add(path_name(path))
        return leaf + (alpha / adapter["up"].shape[-2] * (adapter["down"] @ adapter["up"])).astype(leaf.dtype)

    used: set[str] = set()
    result = jax.tree_util.tree_map_with_path(adapted, params)
    if len(used) < len(adapters):
        raise ConfigError(f"the params have no {sorted(adapters.keys() - used)[0]}, which an adapter is for")
    return result
