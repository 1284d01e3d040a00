"""Learned context vectors in front of class names: the prompts of CoOp (Zhou et al., arXiv 2109.01134).

A class's text is the start token, M vectors that all classes share, its name with a full stop, and the end token. The
vectors take the place of token embeddings; the text tower is as it was.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from clipjax.classify.embed import tokens_for
from clipjax.errors import ConfigError
from clipjax.inputs.tokenizer import Tokenizer
from clipjax.inputs.trim import text_lengths
from clipjax.models.clip import CLIP, Params, unit
from clipjax.training.microbatch import in_microbatches

TEXTS_AT_ONCE = 128
"""Of how many texts the activations are kept, unless more are asked for."""

SPREAD = 0.02
"""The standard deviation that contexts start with, as CLIP's token embeddings did."""


def context_tokens(
    model: CLIP, tokenizer: Tokenizer, class_names: Sequence[str], contexts: int
) -> Int[np.ndarray, "classes length"]:
    """Tokenize class names with room for `contexts` vectors at positions 1 to `contexts`.

    What stands in their place is the class's own first token, which means nothing: it only is no end token. Rows
    are cut to what the longest needs, which changes nothing, since attention is causal.

    Raises:
      ConfigError: a class name and the contexts are longer than the model's texts.
    """
    spoken = [f"{' '.join(name.replace('_', ' ').split())}." for name in class_names]
    tokens = tokens_for(model, tokenizer, spoken)
    context_length = tokens.shape[1]
    needed = np.array([len(tokenizer.encode(text)) for text in spoken]) + contexts + 2
    if needed.max() > context_length:
        name, fitting = class_names[int(needed.argmax())], contexts - int(needed.max() - context_length)
        remedy = f"at most {fitting} contexts, or a shorter name" if fitting > 0 else "a shorter name"
        raise ConfigError(
            f"{contexts} contexts and the class name {name!r} need {needed.max()} tokens, and this model's texts have "
            f"{context_length}; use {remedy}"
        )
    room = np.repeat(tokens[:, 1:2], contexts, axis=1)
    rows = np.concatenate([tokens[:, :1], room, tokens[:, 1:]], axis=1)[:, :context_length]
    return rows[:, : int(text_lengths(rows).max())]


def random_contexts(model: CLIP, key: PRNGKeyArray, *shape: int) -> Float[Array, "*kinds contexts width"]:
    """Draw contexts to start from, the last number of `shape` of them in each kind."""
    return SPREAD * jax.random.normal(key, (*shape, _width(model)), jnp.float32)


def contexts_from_words(
    model: CLIP, params: Params, tokenizer: Tokenizer, words: str
) -> Float[Array, "contexts width"]:
    """Start from what the model reads in words such as "a photo of a": as many contexts as these have tokens.

    Raises:
      ConfigError: there are no words.
    """
    tokens_for(model, tokenizer, [words])  # refuses a tokenizer that is not the model's
    ids = tokenizer.encode(words)
    if not ids:
        raise ConfigError(f"the words {words!r} have no token to start contexts from; write some, or leave them out")
    return model.embed_tokens(params, jnp.asarray([ids], jnp.int32))[0].astype(jnp.float32)


def class_embeddings(
    model: CLIP,
    params: Params,
    tokens: Int[Array | np.ndarray, "classes length"],
    contexts: Float[Array, "*kinds contexts width"],
    *,
    parts: int | None = None,
) -> Float[Array, "*kinds classes dim"]:
    """Embed each class behind the contexts, and behind each kind where there are several; of unit length.

    `tokens` are those of `context_tokens`. Many classes need little memory in several `parts`: these are encoded one
    after the other, and once more for the gradient. Without a number, parts have at most `TEXTS_AT_ONCE` texts. A
    model that has `rows` spreads the classes over its devices.
    """
    *kinds, count, width = contexts.shape
    classes = len(tokens)
    tokens = jnp.asarray(tokens)
    embedded = model.embed_tokens(params, tokens)
    several = contexts.reshape(-1, count, width).astype(embedded.dtype)
    parts = parts or math.ceil(len(several) * classes / TEXTS_AT_ONCE)
    devices = 1 if model.rows is None else model.rows.mesh.size
    kind, row = jnp.divmod(jnp.arange(_rounded_up(len(several) * classes, parts * devices)), classes)
    kind = jnp.minimum(kind, len(several) - 1)  # rows that fill the last part up are dropped in the end

    def encode(several: Array, rows: tuple[Array, Array]) -> Array:
        kind, row = rows
        own = embedded[row]
        filled = jnp.concatenate([own[:, :1], several[kind], own[:, 1 + count :]], axis=1)
        return model.encode_text(params, tokens[row], token_embeddings=filled)

    encoded = in_microbatches(encode, several, (kind, row), parts)[: len(several) * classes]
    return unit(encoded).reshape(*kinds, classes, -1)


def _rounded_up(number: int, parts: int) -> int:
    return -(-number // parts) * parts


def _width(model: CLIP) -> int:
    text = model.config.text
    if text is None:
        raise ConfigError("this checkpoint has no text tower; pass one that has")
    return text.width
