"""The causal text transformer: token and position embeddings, blocks, pooling at the end of text."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from clipjax.models.config import TextConfig
from clipjax.models.initial import Rngs, normal
from clipjax.models.layers import Remat, layer_norm, run_blocks, stacked_blocks
from clipjax.models.vision import Features


def end_of_text(config: TextConfig, tokens: Int[Array, "batch length"]) -> Int[Array, " batch"]:
    """Find the position at which each text is pooled (see `TextConfig.end_of_text`)."""
    if config.end_of_text == "largest":
        return jnp.argmax(tokens, axis=-1)
    return jnp.argmax(tokens == config.eos_token_id, axis=-1)


class TextTransformer(nnx.Module):
    """CLIP's text tower without its projection."""

    def __init__(self, config: TextConfig, *, dtype=jnp.float32, rngs: Rngs):
        self.config = config
        self.dtype = dtype
        self.token_embedding = nnx.Param(normal(0.02)(rngs.params(), (config.vocab_size, config.width)))
        self.position_embedding = nnx.Param(normal(0.01)(rngs.params(), (config.context_length, config.width)))
        self.blocks = stacked_blocks(config, dtype=dtype, rngs=rngs)
        self.final_norm = layer_norm(config.width, config.layer_norm_eps, dtype, rngs)

    def embed(
        self, tokens: Int[Array, "batch length"], *, rows: jax.sharding.NamedSharding | None = None
    ) -> Float[Array, "batch length width"]:
        """Look token embeddings up; positions are added later.

        `rows` says on which devices the batch lies. A table in pieces is then fetched once; otherwise
        the compiler would look up pieces of embeddings, and send those of all texts around.
        """
        table = self.token_embedding[...]
        if rows is not None:
            table = jax.lax.with_sharding_constraint(table, jax.sharding.NamedSharding(rows.mesh, P()))
        return table[tokens]

    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        *,
        token_embeddings: Float[Array, "batch length width"] | None = None,
        remat: Remat = "none",
        rows: jax.sharding.NamedSharding | None = None,
    ) -> Features:
        embedded = self.embed(tokens, rows=rows) if token_embeddings is None else token_embeddings
        x = (embedded + self.position_embedding[: tokens.shape[1]]).astype(self.dtype)
        x = run_blocks(self.blocks, x, causal=True, remat=remat, rows=rows)
        states = self.final_norm(x)
        ends = end_of_text(self.config, tokens)
        return Features(states, jnp.take_along_axis(states, ends[:, None, None], axis=1)[:, 0])
