"""A small causal language model of GPT-2's kind, made of the text tower's blocks.

    model, params = load_language_model("gpt2")
    logits = model.logits(params, tokens)                            # [B, L, V]
    logits = model.logits(params, embeddings=[images; texts])        # the same from embeddings

What stands before a text, such as an image's tokens, comes as embeddings; there is no subclass for it.
Decoding with a cache of keys and values is in `kv_cache` and `decoding`.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from clipjax.errors import ConfigError
from clipjax.models.config import LanguageConfig
from clipjax.models.initial import Rngs, Shapes, normal
from clipjax.models.layers import Remat, at_least_float32, layer_norm, run_blocks, stacked_blocks
from clipjax.models.shapes import Params, compare_shapes, named_shapes


class LanguageTransformer(nnx.Module):
    """Token and position embeddings, pre-norm blocks, a last norm, and the token table again as the head."""

    def __init__(self, config: LanguageConfig, *, dtype=jnp.float32, rngs: Rngs):
        self.dtype = dtype
        self.token_embedding = nnx.Param(normal(0.02)(rngs.params(), (config.vocab_size, config.width)))
        self.position_embedding = nnx.Param(normal(0.01)(rngs.params(), (config.context_length, config.width)))
        self.blocks = stacked_blocks(config, dtype=dtype, rngs=rngs)
        self.final_norm = layer_norm(config.width, config.layer_norm_eps, dtype, rngs)

    def placed(
        self, embeddings: Float[Array, "batch length width"], places: Int[Array, "batch length"]
    ) -> Float[Array, "batch length width"]:
        """Add the positions' embeddings, in the compute type from here on."""
        return (embeddings + self.position_embedding[...][places]).astype(self.dtype)

    def __call__(
        self, embeddings: Float[Array, "batch length width"], *, remat: Remat = "none"
    ) -> Float[Array, "batch length width"]:
        x = (embeddings + self.position_embedding[: embeddings.shape[1]]).astype(self.dtype)
        return self.final_norm(run_blocks(self.blocks, x, causal=True, remat=remat))

    def head(self, states: Float[Array, "*rows width"]) -> Float[Array, "*rows vocabulary"]:
        """Compare states with the token table (tied weights), in float32 or wider."""
        table = self.token_embedding[...].astype(self.dtype)
        wide = at_least_float32(self.dtype)
        return jnp.matmul(states.astype(self.dtype), table.T, preferred_element_type=wide)


@functools.lru_cache(maxsize=32)
def _abstract(config: LanguageConfig, dtype: str) -> tuple[nnx.GraphDef, Params]:
    graphdef, state = nnx.split(LanguageTransformer(config, dtype=jnp.dtype(dtype), rngs=Shapes()))
    return graphdef, nnx.to_pure_dict(state)


@dataclasses.dataclass(frozen=True)
class CausalLM:
    """A causal language model without its numbers.

    `dtype` and `remat` are those of `CLIP`: the type of matrix products, and what the backward pass
    computes again.
    """

    config: LanguageConfig
    dtype: str = "float32"
    remat: Remat = "dots"

    def __post_init__(self):
        if self.dtype not in ("float32", "bfloat16", "float16"):
            raise ConfigError(f"compute dtype {self.dtype!r} is not one of float32, bfloat16, float16")
        if self.remat not in ("none", "dots", "full"):
            raise ConfigError(f"remat {self.remat!r} is not one of none, dots, full")

    def replace(self, **changes) -> "CausalLM":
        """Return the same model with another `dtype`, `remat` or `config`."""
        return dataclasses.replace(self, **changes)

    def embed_tokens(self, params: Params, tokens: Int[Array, "*texts"]) -> Float[Array, "*texts width"]:
        """Look up token embeddings; positions are added by the model."""
        return params["token_embedding"][tokens]

    @functools.partial(jax.jit, static_argnums=0)
    def logits(
        self,
        params: Params,
        tokens: Int[Array, "batch length"] | None = None,
        *,
        embeddings: Float[Array, "batch length width"] | None = None,
    ) -> Float[Array, "batch length vocabulary"]:
        """Score every token as the next one, at each position, from ids or from embeddings in their place.

        Raises:
          ConfigError: both are given or none, or the text is longer than the context.
        """
        if (tokens is None) == (embeddings is None):
            raise ConfigError("logits need either tokens or embeddings")
        if tokens is not None:
            embeddings = self.embed_tokens(params, tokens)
        assert embeddings is not None
        return self.head(params, self.states(params, embeddings))

    @functools.partial(jax.jit, static_argnums=0)
    def states(
        self, params: Params, embeddings: Float[Array, "batch length width"]
    ) -> Float[Array, "batch length width"]:
        """Run the model up to its head, which need not be applied to what stands before a text.

        Raises:
          ConfigError: the text is longer than the context.
        """
        self.check_length(embeddings.shape[1])
        return self.transformer(params)(embeddings, remat=self.remat)

    def head(self, params: Params, states: Float[Array, "*rows width"]) -> Float[Array, "*rows vocabulary"]:
        """Score every token by a state of the last norm."""
        return self.transformer(params).head(states)

    def check_length(self, length: int) -> None:
        """Refuse what is longer than the context.

        Raises:
          ConfigError: it is.
        """
        if length > self.config.context_length:
            raise ConfigError(f"a text of {length} tokens; this model takes {self.config.context_length}")

    def transformer(self, params: Params) -> LanguageTransformer:
        """Put numbers into the module."""
        return nnx.merge(_abstract(self.config, self.dtype)[0], params)

    def init(self, key: PRNGKeyArray) -> Params:
        """Draw parameters to train from: embeddings as OpenAI's, blocks as those of CLIP's text tower."""
        module = LanguageTransformer(self.config, dtype=jnp.dtype(self.dtype), rngs=nnx.Rngs(key))
        return nnx.to_pure_dict(nnx.state(module))

    def param_shapes(self) -> Params:
        """The params tree with a `jax.ShapeDtypeStruct` (float32) at each leaf."""
        return _abstract(self.config, self.dtype)[1]

    def check_params(self, params: Params) -> None:
        """Compare every path and shape with the model's (see `CLIP.check_params` for why).

        Raises:
          ConfigError: a leaf is missing, unexpected or has another shape; the message names it.
        """
        compare_shapes(named_shapes(params), named_shapes(self.param_shapes()))
