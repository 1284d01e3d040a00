"""Text from a language model, token by token: the likeliest one each time, or a random draw.

Each function is one compiled loop over a cache of keys and values (`kv_cache`). Prompts are embeddings, so
that images stand in them as words do. Beam search is in `beam_search`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from clipjax.errors import ConfigError
from clipjax.models.causal_lm import CausalLM
from clipjax.models.kv_cache import Cache, read_prompt, read_token
from clipjax.models.shapes import Params


class Decoded(NamedTuple):
    """Texts without their prompts.

    `tokens` hold the end token from a text's end on. `lengths` count the end token, where there was room
    for one. `scores` are the summed log-probabilities that the model gives the tokens, of beam search those
    that it ranks by.
    """

    tokens: Int[Array, "batch tokens"]
    lengths: Int[Array, " batch"]
    scores: Float[Array, " batch"]


class _State(NamedTuple):
    step: Int[Array, ""]
    logits: Float[Array, "batch vocabulary"]
    cache: Cache
    tokens: Int[Array, "batch tokens"]
    ended: Bool[Array, " batch"]
    lengths: Int[Array, " batch"]
    scores: Float[Array, " batch"]


def greedy(
    model: CausalLM,
    params: Params,
    prompts: Float[Array, "batch length width"],
    lengths: Int[Array, " batch"] | None = None,
    *,
    max_tokens: int,
) -> Decoded:
    """Take the likeliest token each time, until the end token or `max_tokens`.

    Args:
      prompts: embeddings, padded at their ends with anything where `lengths` says how long each is.

    Raises:
      ConfigError: prompts and `max_tokens` exceed the model's context, or `max_tokens` is below 1.
    """
    _check(max_tokens)
    return _decode(model, params, prompts, lengths, None, None, None, max_tokens=max_tokens)


def sample(
    model: CausalLM,
    params: Params,
    prompts: Float[Array, "batch length width"],
    lengths: Int[Array, " batch"] | None = None,
    *,
    key: PRNGKeyArray,
    max_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> Decoded:
    """Draw each token at random, until the end token or `max_tokens`.

    Args:
      prompts: as for `greedy`.
      temperature: divides the logits; below 1 likely tokens become likelier.
      top_p: draws come from the fewest likeliest tokens that together have this probability, after the
        temperature (nucleus sampling, arXiv 1904.09751).

    Raises:
      ConfigError: as for `greedy`, or a temperature or `top_p` that is not above 0, or `top_p` above 1.
    """
    _check(max_tokens)
    if not temperature > 0 or not 0 < top_p <= 1:
        raise ConfigError(
            f"temperature={temperature} and top_p={top_p}; give a temperature above 0 and a top_p above 0, at most 1"
        )
    heat, share = jnp.float32(temperature), jnp.float32(top_p)
    return _decode(model, params, prompts, lengths, key, heat, share, max_tokens=max_tokens)


def nucleus(
    logits: Float[Array, "batch vocabulary"], top_p: Float[Array, ""] | float
) -> Float[Array, "batch vocabulary"]:
    """Exclude all but the fewest likeliest tokens that together have the probability `top_p`."""
    order = jnp.argsort(-logits, axis=-1)
    likely = jnp.take_along_axis(jax.nn.softmax(logits), order, axis=-1)
    before = jnp.cumsum(likely, axis=-1) - likely
    # the rank of each token is the inverse of the order; the first one always stays
    kept = jnp.take_along_axis(before < top_p, jnp.argsort(order, axis=-1), axis=-1)
    return jnp.where(kept, logits, -jnp.inf)


@functools.partial(jax.jit, static_argnames=("model", "max_tokens"))
def _decode(model: CausalLM, params: Params, prompts, lengths, key, temperature, top_p, *, max_tokens: int) -> Decoded:
    end = model.config.eos_token_id
    batch = prompts.shape[0]
    logits, cache = read_prompt(model, params, prompts, lengths, room=max_tokens)

    def choose(step, logits):
        if key is None:
            return jnp.argmax(logits, axis=-1)
        allowed = nucleus(logits / temperature, top_p)
        return jax.random.categorical(jax.random.fold_in(key, step), allowed)

    def unfinished(state: _State):
        return (state.step < max_tokens) & ~jnp.all(state.ended)

    def write(state: _State) -> _State:
        token = jnp.where(state.ended, end, choose(state.step, state.logits)).astype(jnp.int32)
        gained = jnp.take_along_axis(jax.nn.log_softmax(state.logits), token[:, None], axis=-1)[:, 0]
        logits, cache = read_token(model, params, model.embed_tokens(params, token), state.cache)
        return _State(
            state.step + 1,
            logits,
            cache,
            state.tokens.at[:, state.step].set(token),
            state.ended | (token == end),
            state.lengths + ~state.ended,
            state.scores + jnp.where(state.ended, 0.0, gained),
        )

    start = _State(
        jnp.int32(0),
        logits,
        cache,
        jnp.full((batch, max_tokens), end, jnp.int32),
        jnp.zeros(batch, bool),
        jnp.zeros(batch, jnp.int32),
        jnp.zeros(batch, logits.dtype),
    )
    final = jax.lax.while_loop(unfinished, write, start)
    return Decoded(final.tokens, final.lengths, final.scores)


def _check(max_tokens: int) -> None:
    if max_tokens < 1:
        raise ConfigError(f"max_tokens={max_tokens}; a text needs room for at least 1 token")
