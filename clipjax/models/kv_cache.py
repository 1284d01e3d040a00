"""Keys and values of the tokens so far, as arrays: a prompt is read once, each further token in one small step.

All rows write to the same slot, so that a step is one slice update and no scatter. A row whose prompt is
shorter than the batch's has slots that nobody sees; since positions are added to the embeddings and attention
itself knows no order, its result is that of the row alone.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from clipjax.models.causal_lm import CausalLM
from clipjax.models.layers import attend
from clipjax.models.shapes import Params


class Cache(NamedTuple):
    """What a batch of unfinished texts has been read to."""

    keys: Float[Array, "layers batch slots heads dim"]
    values: Float[Array, "layers batch slots heads dim"]
    visible: Bool[Array, "batch slots"]  # which slots hold a token of the row
    lengths: Int[Array, " batch"]  # tokens of each row, the position of its next one
    used: Int[Array, ""]  # the slot that is written next

    def of_rows(self, rows: Int[Array, " others"]) -> "Cache":
        """Take the state of some rows, in another order or several times."""
        return Cache(self.keys[:, rows], self.values[:, rows], self.visible[rows], self.lengths[rows], self.used)


@functools.partial(jax.jit, static_argnames=("model", "room"))
def read_prompt(
    model: CausalLM,
    params: Params,
    embeddings: Float[Array, "batch length width"],
    lengths: Int[Array, " batch"] | None = None,
    *,
    room: int,
) -> tuple[Float[Array, "batch vocabulary"], Cache]:
    """Read prompts at once and keep their keys and values, with room for so many further tokens.

    Args:
      embeddings: of the prompts, padded at their ends with anything.
      lengths: of each prompt; without them all are whole.

    Returns:
      The logits of each row's next token, and the cache.

    Raises:
      ConfigError: prompts and room exceed the context.
    """
    batch, length, _ = embeddings.shape
    model.check_length(length + room)
    if lengths is None:
        lengths = jnp.full(batch, length, jnp.int32)
    transformer = model.transformer(params)

    def layer(x, block):
        kept = []

        def mix(query, key, value):
            kept.extend((key, value))
            return attend(query, key, value, causal=True)

        return block.mixed_by(mix, x), tuple(kept)

    places = jnp.broadcast_to(jnp.arange(length), (batch, length))
    x, (keys, values) = jax.lax.scan(layer, transformer.placed(embeddings, places), transformer.blocks)
    last = jnp.take_along_axis(x, lengths[:, None, None] - 1, axis=1)
    free = ((0, 0), (0, 0), (0, room), (0, 0), (0, 0))
    cache = Cache(
        jnp.pad(keys, free),
        jnp.pad(values, free),
        jnp.arange(length + room) < lengths[:, None],
        lengths,
        jnp.asarray(length, jnp.int32),
    )
    return transformer.head(transformer.final_norm(last))[:, 0], cache


@functools.partial(jax.jit, static_argnames="model")
def read_token(
    model: CausalLM, params: Params, embeddings: Float[Array, "batch width"], cache: Cache
) -> tuple[Float[Array, "batch vocabulary"], Cache]:
    """Read one more token of each row; the cache must have room for it."""
    transformer = model.transformer(params)
    visible = cache.visible.at[:, cache.used].set(True)
    x = transformer.placed(embeddings[:, None], cache.lengths[:, None])

    def layer(carry, scanned):
        x, keys, values = carry
        block, index = scanned
        kept = []

        def mix(query, key, value):
            start = (index, 0, cache.used, 0, 0)
            kept.append(jax.lax.dynamic_update_slice(keys, key[None], start))
            kept.append(jax.lax.dynamic_update_slice(values, value[None], start))
            return attend(query, kept[0][index], kept[1][index], visible=visible)

        return (block.mixed_by(mix, x), *kept), None

    # in the carry and not in the scanned inputs and outputs: the arrays are then updated where they lie
    layers = (transformer.blocks, jnp.arange(model.config.layers))
    (x, keys, values), _ = jax.lax.scan(layer, (x, cache.keys, cache.values), layers)
    cache = Cache(keys, values, visible, cache.lengths + 1, cache.used + 1)
    return transformer.head(transformer.final_norm(x))[:, 0], cache
