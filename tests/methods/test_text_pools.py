"""Texts as token rows: how they are cut, and which are drawn."""

import dataclasses

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_models import TEXT, random_texts, small_clip

from clipjax.methods.text_pools import cut, drawn


@pytest.mark.parametrize("end_of_text", ["largest", "first"])
@pytest.mark.parametrize("pad", [0, 39])
def test_texts_are_cut_behind_the_last_end_token_and_keep_their_embeddings(pad, end_of_text):
    model, params = small_clip(vision=None, text=dataclasses.replace(TEXT, end_of_text=end_of_text))
    lengths = (3, 5, 8)
    tokens = np.array(random_texts(TEXT, lengths=lengths))
    for row, length in zip(tokens, lengths):
        row[length:] = pad
    short = cut(model.config.text, tokens)
    assert short.shape == (3, 8)
    assert_allclose(model.encode_text(params, short), model.encode_text(params, tokens), atol=1e-5)


def test_each_owner_gets_one_of_its_own_texts_and_each_text_is_drawn():
    tokens = np.arange(5)[:, None]
    pool = {"tokens": tokens, "starts": np.array([0, 2, 2]), "counts": np.array([2, 0, 3])}
    owners = np.repeat([0, 2], 50)
    found = np.asarray(drawn(pool, owners, jax.random.key(0)))[:, 0]
    assert_array_equal(np.unique(found[owners == 0]), [0, 1])
    assert_array_equal(np.unique(found[owners == 2]), [2, 3, 4])
