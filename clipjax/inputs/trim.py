"""Cut token rows to the length they need. Exact: attention is causal, so what follows the end token changes nothing."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

LENGTHS = (16, 32, 48)
"""The lengths texts are cut to, besides the context length: few, so that few programs are compiled."""


def text_lengths(tokens: Int[np.ndarray, "texts context"]) -> Int[np.ndarray, " texts"]:
    """Count the tokens up to the end token and one past it, whatever the rows are padded with.

    Padding repeats one id to the end of the row (0 in OpenAI's rows, the end token in others), so
    a row ends where it last differs from its own last id.
    """
    context = tokens.shape[1]
    differs = tokens != tokens[:, -1:]
    last = context - 1 - np.argmax(differs[:, ::-1], axis=1)
    return np.where(differs.any(axis=1), np.minimum(last + 2, context), 1)


def trimmed_length(needed: int, context_length: int, lengths: Sequence[int] = LENGTHS) -> int:
    """Choose the shortest of `lengths` that holds `needed` tokens, or the context length."""
    return min((n for n in lengths if needed <= n < context_length), default=context_length)
