"""The transformer that towers and language models share: pre-norm blocks, stacked along a layer axis and scanned.

Norms and softmax are computed in float32, matrix products in the compute dtype.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from clipjax.models.config import Activation, LanguageConfig, TextConfig, ViTConfig
from clipjax.models.initial import Rngs, Shapes, constant, normal

Remat = Literal["none", "dots", "full"]
Mix = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""Mixes values: of query, key and value, each [batch, tokens, heads, dim], it makes [batch, queries, heads, dim]."""
TransformerConfig = ViTConfig | TextConfig | LanguageConfig

REMAT_POLICIES = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def at_least_float32(dtype) -> jnp.dtype:
    """Return the type of norms and results for a compute type."""
    return jnp.promote_types(dtype, jnp.float32)


def activate(name: Activation, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Apply the exact GELU, OpenAI's approximation of it by a sigmoid (CLIP's) or by a tanh (GPT-2's)."""
    if name == "quick_gelu":
        return x * jax.nn.sigmoid(1.702 * x)
    return jax.nn.gelu(x, approximate=name == "gelu_new")


def layer_norm(width: int, eps: float, dtype, rngs: Rngs) -> nnx.LayerNorm:
    """Build a layer norm in float32 or wider. flax's fast variance loses digits that CLIP's activations need."""
    start: dict[str, Any] = {"scale_init": constant(1.0), "bias_init": constant(0.0), "rngs": rngs}
    return nnx.LayerNorm(width, epsilon=eps, use_fast_variance=False, dtype=at_least_float32(dtype), **start)


def linear(n_in: int, n_out: int, std: float, dtype, rngs: Rngs) -> nnx.Linear:
    """Build a linear layer whose weights start as normal numbers of the given spread."""
    start: dict[str, Any] = {"kernel_init": normal(std), "bias_init": constant(0.0), "rngs": rngs}
    return nnx.Linear(n_in, n_out, dtype=dtype, **start)


def apply_rows(layer: nnx.Linear, x: Float[Array, "batch tokens n_in"]) -> Float[Array, "batch tokens n_out"]:
    """Apply a linear layer to a matrix of all tokens.

    With two leading axes XLA transposes activations for the gradient of the kernel; on CPUs that
    costs a fifth of the step.
    """
    return layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def attend(
    query: Float[Array, "batch queries heads dim"],
    key: Float[Array, "batch keys heads dim"],
    value: Float[Array, "batch keys heads dim"],
    *,
    causal: bool = False,
    visible: Bool[Array, "batch keys"] | None = None,
) -> Float[Array, "batch queries heads dim"]:
    """Mix values by the softmax of scaled products, which is taken in float32 or wider.

    `visible` says which keys of a row its queries may see.
    """
    mask = None if visible is None else visible[:, None, None, :]
    if query.dtype in (jnp.float32, jnp.bfloat16):
        return jax.nn.dot_product_attention(query, key, value, mask=mask, is_causal=causal)
    # jax's own has float16 products that CPUs and TPUs lack, and rounds a float64 softmax to float32
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=at_least_float32(query.dtype))
    scores = scores * query.shape[-1] ** -0.5
    if causal:
        scores = jnp.where(jnp.tri(*scores.shape[-2:], dtype=bool), scores, -jnp.inf)
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores).astype(value.dtype), value)


class Attention(nnx.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int, layers: int, *, dtype, rngs: Rngs):
        self.heads = heads
        std = width**-0.5
        self.query = linear(width, width, std, dtype, rngs)
        self.key = linear(width, width, std, dtype, rngs)
        self.value = linear(width, width, std, dtype, rngs)
        self.out = linear(width, width, std * (2 * layers) ** -0.5, dtype, rngs)

    def __call__(self, x: Float[Array, "batch tokens width"], *, causal: bool) -> Float[Array, "batch tokens width"]:
        return self.mixed_by(functools.partial(attend, causal=causal), x)

    def mixed_by(self, mix: Mix, x: Float[Array, "batch tokens width"]) -> Float[Array, "batch tokens width"]:
        """Attend as the caller does, who may have keys and values of earlier tokens."""
        batch, tokens, width = x.shape
        split = (batch, tokens, self.heads, width // self.heads)
        query, key, value = (apply_rows(f, x).reshape(split) for f in (self.query, self.key, self.value))
        return apply_rows(self.out, mix(query, key, value).reshape(batch, tokens, width))


class MLP(nnx.Module):
    """Two linear layers with the config's activation between them."""

    def __init__(self, width: int, mlp_width: int, layers: int, activation: Activation, *, dtype, rngs: Rngs):
        self.activation: Activation = activation
        self.fc1 = linear(width, mlp_width, (2 * width) ** -0.5, dtype, rngs)
        self.fc2 = linear(mlp_width, width, width**-0.5 * (2 * layers) ** -0.5, dtype, rngs)

    def __call__(self, x: Float[Array, "batch tokens width"]) -> Float[Array, "batch tokens width"]:
        return apply_rows(self.fc2, activate(self.activation, apply_rows(self.fc1, x)))


class Block(nnx.Module):
    """One pre-norm residual block."""

    def __init__(self, config: TransformerConfig, *, dtype, rngs: Rngs):
        c = config
        self.norm1 = layer_norm(c.width, c.layer_norm_eps, dtype, rngs)
        self.attention = Attention(c.width, c.heads, c.layers, dtype=dtype, rngs=rngs)
        self.norm2 = layer_norm(c.width, c.layer_norm_eps, dtype, rngs)
        self.mlp = MLP(c.width, c.mlp_width, c.layers, c.activation, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "batch tokens width"], *, causal: bool) -> Float[Array, "batch tokens width"]:
        return self.mixed_by(functools.partial(attend, causal=causal), x)

    def mixed_by(self, mix: Mix, x: Float[Array, "batch tokens width"]) -> Float[Array, "batch tokens width"]:
        """Run the block with attention as the caller does it (see `Attention.mixed_by`)."""
        x = x + self.attention.mixed_by(mix, self.norm1(x).astype(x.dtype))
        return x + self.mlp(self.norm2(x).astype(x.dtype))


def stacked_blocks(config: TransformerConfig, *, dtype, rngs: Rngs) -> Block:
    """Build all blocks as one `Block` whose parameters have a leading layer axis."""
    if isinstance(rngs, Shapes):
        block = Block(config, dtype=dtype, rngs=rngs)
        state = nnx.state(block)
        nnx.update(block, jax.tree.map(lambda x: jax.ShapeDtypeStruct((config.layers, *x.shape), x.dtype), state))
        return block

    @nnx.split_rngs(splits=config.layers)
    @nnx.vmap
    def build(rngs: nnx.Rngs) -> Block:
        return Block(config, dtype=dtype, rngs=rngs)

    return build(rngs)


def run_blocks(
    blocks: Block,
    x: Float[Array, "batch tokens width"],
    *,
    causal: bool,
    remat: Remat = "none",
    prompts: Float[Array, "layers prompts width"] | None = None,
    rows: jax.sharding.NamedSharding | None = None,
) -> Float[Array, "batch tokens width"]:
    """Scan the blocks over `x`.

    `rows` says on which devices the batch lies. Without it a compiler that is given kernels in pieces
    would rather send activations around than fetch the kernels.

    `prompts` are extra tokens for each layer (deep visual prompts, VPT arXiv 2203.12119): they
    are appended before a block and dropped after it, so the output has the tokens of `x`.
    """
    tokens = x.shape[1]

    def layer(x, scanned):
        block, prompt = scanned
        if rows is not None:
            x = jax.lax.with_sharding_constraint(x, rows)
        if prompt is not None:
            prompt = jnp.broadcast_to(prompt.astype(x.dtype), (x.shape[0], *prompt.shape))
            x = jnp.concatenate([x, prompt], axis=1)
        return block(x, causal=causal)[:, :tokens], None

    if remat != "none":
        layer = jax.checkpoint(layer, policy=REMAT_POLICIES[remat], prevent_cse=False)
    return jax.lax.scan(layer, x, (blocks, prompts))[0]
