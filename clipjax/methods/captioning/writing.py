"""Texts about images from a trained captioner, in batches of one size."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PRNGKeyArray

from clipjax.inputs.tokenizer import Tokenizer
from clipjax.methods.captioning.captioner import Captioner, Images
from clipjax.models.decoding import Decoded
from clipjax.models.shapes import Params

Decode = Callable[..., Decoded]
"""`greedy`, `sample` or `beam_search` with its settings: functools.partial(greedy, max_tokens=30)."""


def write_texts(
    captioner: Captioner,
    params: Params,
    images: Images,
    tokenizer: Tokenizer,
    decode: Decode,
    *,
    questions: Int[np.ndarray, "images length"] | None = None,
    lengths: Int[np.ndarray, " images"] | None = None,
    batch_size: int = 64,
    key: PRNGKeyArray | None = None,
) -> list[str]:
    """Write a text for each image: a caption, or the answer to its question.

    Args:
      questions: token rows that the texts are to follow, of which `lengths` count the tokens; without them a text
        begins with the start token.
      key: for decoding that draws, such as `sample`: each batch gets a part of its own.
    """
    count = len(images["visual"])
    if questions is None:
        questions, lengths = np.full((count, 1), tokenizer.start_id, np.int32), np.ones(count, np.int32)
    assert lengths is not None
    batch_size = max(1, min(batch_size, count))
    texts: list[str] = []
    for first in range(0, count, batch_size):
        # the last batch is filled up with its last image
        rows = np.minimum(np.arange(first, first + batch_size), count - 1)
        part = {name: jnp.asarray(np.asarray(array)[rows]) for name, array in images.items()}
        prompts = captioner.with_texts(params, part, jnp.asarray(questions[rows]))
        before = prompts.shape[1] - questions.shape[1]
        drawn = {} if key is None else {"key": jax.random.fold_in(key, first)}
        found = decode(captioner.language, params["language"], prompts, jnp.asarray(before + lengths[rows]), **drawn)
        texts += _decoded(found, tokenizer)[: count - first]
    return texts


def _decoded(found: Any, tokenizer: Tokenizer) -> list[str]:
    kept = [row[:length] for row, length in zip(np.asarray(found.tokens), np.asarray(found.lengths))]
    return [tokenizer.decode(ids[ids != tokenizer.end_id]).strip() for ids in kept]
