"""Texts as token rows that a training step draws from: those of an image, of a class, of a group."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from clipjax.classify.embed import tokens_for
from clipjax.classify.problem import Problem
from clipjax.models.config import TextConfig
from clipjax.models.text import end_of_text

Pool = dict[str, Int[np.ndarray, "..."]]
"""`tokens` [texts, length], cut to what the longest needs; owner i has `counts[i]` rows from `starts[i]`."""


def text_pool(problem: Problem, texts: Sequence[Sequence[str]]) -> Pool:
    """Tokenize the texts of each owner."""
    counts = np.array([len(own) for own in texts], np.int32)
    tokens = tokens_for(problem.model, problem.tokenizer, [text for own in texts for text in own])
    tokens = cut(problem.model.config.text, tokens)
    return {"tokens": tokens, "starts": (np.cumsum(counts) - counts).astype(np.int32), "counts": counts}


def cut(config: TextConfig | None, tokens: Int[np.ndarray, "texts context"]) -> Int[np.ndarray, "texts length"]:
    """Cut token rows behind the last token that an embedding depends on.

    To the token, and not to one of few lengths: a step that draws from a pool is compiled for its shape anyway.
    """
    assert config is not None
    return tokens[:, : int(end_of_text(config, jnp.asarray(tokens)).max()) + 1]


def drawn(pool: Pool, owners: Int[Array, " batch"], key: PRNGKeyArray) -> Int[Array, "batch length"]:
    """Draw one text of each owner, all equally likely."""
    counts = jnp.asarray(pool["counts"])[owners]
    place = jnp.asarray(pool["starts"])[owners] + jax.random.randint(key, owners.shape, 0, jnp.maximum(counts, 1))
    return jnp.asarray(pool["tokens"])[place]
