"""The text tower: where a text ends, what it may see, and what may stand in for its ids."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_models import TEXT, random_texts, small_clip

from clipjax.errors import ConfigError
from clipjax.models.text import end_of_text


@pytest.fixture(scope="module", params=["largest", "first"])
def text_model(request, vit):
    """A CLIP of either end-of-text rule, the second text-only. With "first", ids above the end token are words."""
    if request.param == "largest":
        return vit
    return small_clip(None, dataclasses.replace(TEXT, end_of_text="first", bos_token_id=19, eos_token_id=20))


def test_any_length_up_to_the_context_gives_the_same_embedding(text_model):
    model, params = text_model
    tokens = random_texts(model.config.text, lengths=(4, 7, 2))
    whole = model.encode_text(params, tokens)
    assert_allclose(model.encode_text(params, np.asarray(tokens)[:, :7]), whole, rtol=1e-5, atol=1e-6)


def test_what_follows_the_end_token_does_not_matter(text_model):
    model, params = text_model
    tokens = np.array(random_texts(model.config.text, lengths=(4, 7, 5)))
    padded = tokens.copy()
    for row, length in zip(padded, (4, 7, 5)):
        row[length:] = np.random.default_rng(length).integers(0, model.config.text.eos_token_id + 1, 12 - length)
    assert_allclose(model.encode_text(params, padded), model.encode_text(params, tokens), rtol=1e-5, atol=1e-6)


def test_every_token_before_the_end_matters(text_model):
    model, params = text_model
    tokens = np.array(random_texts(model.config.text, lengths=(6, 6, 6)))
    embedding = np.asarray(model.encode_text(params, tokens))
    for place in range(5):
        changed = tokens.copy()
        changed[:, place] = (tokens[:, place] + 7) % model.config.text.bos_token_id
        assert np.abs(model.encode_text(params, changed) - embedding).max(axis=1).min() > 1e-3


def test_a_token_changes_no_state_before_it(vit, texts):
    model, params = vit
    changed = np.array(texts)
    changed[:, 3] = 1
    states, changed = (np.asarray(model.text_features(params, tokens).tokens) for tokens in (texts, changed))
    assert_allclose(changed[:, :3], states[:, :3], rtol=1e-5, atol=1e-6)
    assert np.abs(changed[:, 3:] - states[:, 3:]).min(axis=2).max() > 1e-4


def test_pooled_state_is_the_end_tokens(text_model):
    model, params = text_model
    features = model.text_features(params, random_texts(model.config.text, lengths=(4, 7, 5)))
    assert np.array_equal(features.pooled, np.asarray(features.tokens)[np.arange(3), [3, 6, 4]])


def test_looked_up_embeddings_may_replace_the_ids(vit, texts):
    model, params = vit
    embeddings = model.embed_tokens(params, texts)
    by_embeddings = model.encode_text(params, texts, token_embeddings=embeddings)
    assert_allclose(by_embeddings, model.encode_text(params, texts), rtol=1e-6, atol=1e-6)


def test_with_embeddings_the_ids_only_say_where_the_text_ends(vit, texts):
    model, params = vit
    embeddings = model.embed_tokens(params, texts)
    others = np.where(texts == TEXT.eos_token_id, texts, 1)
    given = model.encode_text(params, texts, token_embeddings=embeddings)
    assert np.array_equal(model.encode_text(params, others, token_embeddings=embeddings), given)


def test_learned_contexts_get_a_gradient_up_to_the_end_of_each_text(vit, texts):
    model, params = vit

    @jax.jit
    @jax.grad
    def gradient(embeddings):
        return jnp.sum(model.encode_text(params, texts, token_embeddings=embeddings) ** 2)

    sizes = np.abs(gradient(model.embed_tokens(params, texts))).max(axis=2)
    lengths = np.array([4, 7, 5])[:, None]
    assert np.array_equal(sizes > 1e-4, np.arange(12) < lengths)


def test_largest_rule_takes_the_first_of_equal_ids():
    tokens = jnp.array([[1, 9, 2, 9], [5, 4, 3, 2], [0, 0, 0, 0]])
    assert end_of_text(TEXT, tokens).tolist() == [1, 0, 0]


def test_first_rule_ignores_larger_ids_and_falls_back_to_the_start():
    config = dataclasses.replace(TEXT, end_of_text="first", eos_token_id=9)
    tokens = jnp.array([[1, 30, 9, 9], [9, 39, 9, 1], [1, 2, 3, 4]])
    assert end_of_text(config, tokens).tolist() == [2, 0, 0]


def test_text_beyond_the_context_is_refused(vit):
    model, params = vit
    with pytest.raises(ConfigError, match="13 tokens; this model takes 12"):
        model.encode_text(params, jnp.ones((1, 13), jnp.int32))


def test_without_a_text_tower_texts_are_refused(texts):
    model, params = small_clip(text=None)
    with pytest.raises(ConfigError, match="no text tower"):
        model.encode_text(params, texts)
