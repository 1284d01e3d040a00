import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from small_models import TEXT, random_texts, small_clip

from clipjax.inputs.tokenizer import tokenize
from clipjax.inputs.trim import LENGTHS, text_lengths, trimmed_length

CONTEXT = TEXT.context_length


@pytest.mark.parametrize(
    ("row", "length"),
    [
        ([8, 1, 2, 9, 0, 0, 0], 5),  # OpenAI's padding: up to the end token, and one past it
        ([8, 1, 2, 9, 9, 9, 9], 4),  # padded with the end token, which is then the last that counts
        ([8, 0, 0, 9, 0, 0, 0], 5),  # "!!" has the id of the padding
        ([8, 1, 2, 3, 4, 5, 9], 7),  # no padding
        ([8, 1, 9, 9, 3, 9, 9], 6),  # an end token inside the text
        ([0, 0, 0, 0, 0, 0, 0], 1),
    ],
)
def test_texts_end_at_their_end_token(row, length):
    assert text_lengths(np.array([row])).tolist() == [length]


@given(st.lists(st.integers(0, 9), min_size=3, max_size=9), st.integers(0, 9), st.integers(1, 9))
def test_what_is_cut_is_padding(ids, pad, more):
    row = np.array([ids + [pad] * more])
    length = text_lengths(row)[0]
    assert (row[0, length:] == pad).all()


def test_lengths_of_real_texts_hold_their_tokens():
    tokens = tokenize(["", "a cat", "!", "a " * 200])
    assert text_lengths(tokens).tolist() == [3, 5, 4, 77]


@pytest.mark.parametrize(
    ("needed", "context", "expected"),
    [(1, 77, 16), (16, 77, 16), (17, 77, 32), (48, 77, 48), (49, 77, 77), (3, 16, 16), (10, 12, 12), (17, 32, 32)],
)
def test_shortest_sufficient_length_is_chosen(needed, context, expected):
    assert trimmed_length(needed, context) == expected


@given(st.integers(1, 77), st.integers(3, 77))
def test_length_is_sufficient_and_one_of_few(needed, context):
    length = trimmed_length(min(needed, context), context)
    assert min(needed, context) <= length <= context
    assert length in (*LENGTHS, context)


@pytest.mark.parametrize("end_of_text", ["largest", "first"])
@pytest.mark.parametrize("pad", [0, 39])
def test_cut_texts_have_the_embeddings_of_whole_ones(pad, end_of_text):
    model, params = small_clip(vision=None, text=dataclasses.replace(TEXT, end_of_text=end_of_text))
    tokens = np.array(random_texts(TEXT, lengths=(3, 5, 8, CONTEXT)))
    for row, length in zip(tokens, (3, 5, 8, CONTEXT)):
        row[length:] = pad
    length = text_lengths(tokens)[:3].max()
    assert length < CONTEXT
    cut = model.encode_text(params, tokens[:3, :length])
    assert_allclose(cut, model.encode_text(params, tokens)[:3], atol=1e-5)
