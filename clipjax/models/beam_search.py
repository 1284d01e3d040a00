"""Beam search: the likeliest texts are looked for among several at a time.

The rules are those of `transformers`: the `beams` best continuations stay; one that ends in the end token
leaves the beam, and what ranks is its log-probability divided by length ** length_penalty.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from clipjax.errors import ConfigError
from clipjax.models.causal_lm import CausalLM
from clipjax.models.decoding import Decoded
from clipjax.models.kv_cache import Cache, read_prompt, read_token
from clipjax.models.shapes import Params

_NEVER = -1e9  # what no log-probability of a text comes near; finite, so that differences stay numbers


class _Beams(NamedTuple):
    """Texts that go on and texts that ended, best first; empty places score `_NEVER`."""

    step: Int[Array, ""]
    cache: Cache  # of batch * beams rows
    logits: Float[Array, "batch beams vocabulary"]
    live: Int[Array, "batch beams tokens"]
    live_scores: Float[Array, "batch beams"]
    ended: Int[Array, "batch beams tokens"]
    ended_scores: Float[Array, "batch beams"]
    ended_lengths: Int[Array, "batch beams"]
    done: Bool[Array, " batch"]


def beam_search(
    model: CausalLM,
    params: Params,
    prompts: Float[Array, "batch length width"],
    lengths: Int[Array, " batch"] | None = None,
    *,
    beams: int,
    max_tokens: int,
    length_penalty: float = 1.0,
    early_stopping: bool = True,
) -> Decoded:
    """Find each prompt's best text.

    Args:
      prompts: as for `decoding.greedy`.
      beams: how many texts are followed; with one and `early_stopping` this is greedy decoding.
      length_penalty: above 0 long texts are favoured, at 0 log-probabilities are compared as they are.
      early_stopping: stop when `beams` texts have ended; otherwise when no other can become better.

    Raises:
      ConfigError: prompts and `max_tokens` exceed the context, a number is below 1, or more beams than half
        of the vocabulary.
    """
    if beams < 1 or max_tokens < 1 or 2 * beams > model.config.vocab_size:
        raise ConfigError(
            f"beams={beams} and max_tokens={max_tokens}; both must be at least 1, and there are "
            f"{model.config.vocab_size} tokens for twice as many beams"
        )
    penalty = jnp.float32(length_penalty)
    return _search(
        model, params, prompts, lengths, penalty, beams=beams, max_tokens=max_tokens, early_stopping=early_stopping
    )


@functools.partial(jax.jit, static_argnames=("model", "beams", "max_tokens", "early_stopping"))
def _search(
    model: CausalLM, params: Params, prompts, lengths, penalty, *, beams: int, max_tokens: int, early_stopping: bool
) -> Decoded:
    end, vocabulary, batch = model.config.eos_token_id, model.config.vocab_size, prompts.shape[0]
    rows = jnp.arange(batch)[:, None]
    # a candidate below the first `beams` only fills the place of one that ends
    may_end = jnp.arange(2 * beams) < beams

    def expand(state: _Beams) -> _Beams:
        scores = state.live_scores[:, :, None] + jax.nn.log_softmax(state.logits)
        best, where = jax.lax.top_k(scores.reshape(batch, -1), 2 * beams)
        parents, tokens = where // vocabulary, (where % vocabulary).astype(jnp.int32)
        texts = state.live[rows, parents].at[:, :, state.step].set(tokens)
        length = state.step + 1
        ending = (tokens == end) | (length == max_tokens)

        ranked = jnp.where(ending & may_end & ~state.done[:, None], best / length**penalty, _NEVER)
        ended_scores, order = jax.lax.top_k(jnp.concatenate([state.ended_scores, ranked], axis=1), beams)
        ended = jnp.concatenate([state.ended, texts], axis=1)[rows, order]
        grown = jnp.broadcast_to(length, tokens.shape).astype(jnp.int32)
        ended_lengths = jnp.concatenate([state.ended_lengths, grown], axis=1)[rows, order]

        live_scores, order = jax.lax.top_k(jnp.where(ending, _NEVER, best), beams)
        live, parents, tokens = texts[rows, order], parents[rows, order], tokens[rows, order]
        cache = state.cache.of_rows((rows * beams + parents).reshape(-1))
        logits, cache = read_token(model, params, model.embed_tokens(params, tokens.reshape(-1)), cache)

        full = jnp.all(ended_scores > _NEVER, axis=1)
        if not early_stopping:
            reachable = jnp.where(penalty > 0, max_tokens, length)
            full &= live_scores[:, 0] / reachable**penalty <= ended_scores[:, -1]
        return _Beams(
            length,
            cache,
            logits.reshape(batch, beams, vocabulary),
            live,
            live_scores,
            ended,
            ended_scores,
            ended_lengths,
            state.done | full,
        )

    def unfinished(state: _Beams):
        return (state.step < max_tokens) & ~jnp.all(state.done)

    logits, cache = read_prompt(model, params, prompts, lengths, room=max_tokens)
    nothing = jnp.full((batch, beams, max_tokens), end, jnp.int32)
    never = jnp.full((batch, beams), _NEVER, logits.dtype)
    start = _Beams(
        jnp.int32(0),
        cache.of_rows(jnp.repeat(jnp.arange(batch), beams)),
        jnp.broadcast_to(logits[:, None], (batch, beams, vocabulary)),
        nothing,
        never.at[:, 0].set(0.0),  # all beams begin alike: only one of them counts
        nothing,
        never,
        jnp.zeros((batch, beams), jnp.int32),
        jnp.zeros(batch, bool),
    )
    final = jax.lax.while_loop(unfinished, expand, start)
    return Decoded(final.ended[:, 0], final.ended_lengths[:, 0], final.ended_scores[:, 0])
