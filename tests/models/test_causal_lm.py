"""The language model by itself; agreement with transformers is in `weights/test_gpt2.py`."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_models import LANGUAGE

from clipjax.errors import ConfigError
from clipjax.models.causal_lm import CausalLM
from clipjax.models.config import LanguageConfig


@pytest.fixture(scope="module")
def tokens():
    return jnp.asarray(np.random.default_rng(0).integers(0, LANGUAGE.vocab_size, (3, 9)), jnp.int32)


def test_later_tokens_change_nothing_before_them(language, tokens):
    model, params = language
    changed = tokens.at[:, 6:].set((tokens[:, 6:] + 1) % LANGUAGE.vocab_size)
    before, after = model.logits(params, tokens), model.logits(params, changed)
    assert_allclose(before[:, :6], after[:, :6], atol=1e-6)
    assert np.abs(before[:, 6] - after[:, 6]).max() > 0.1


def test_embeddings_stand_in_for_ids(language, tokens):
    model, params = language
    embeddings = model.embed_tokens(params, tokens)
    assert_array_equal(model.logits(params, embeddings=embeddings), model.logits(params, tokens))


def test_same_token_elsewhere_is_another_input(language):
    model, params = language
    logits = model.logits(params, jnp.full((1, 4), 3, jnp.int32))[0]
    assert np.abs(np.diff(logits, axis=0)).max(axis=1).min() > 0.01


def test_what_is_computed_again_changes_no_gradient(language, tokens):
    model, params = language

    @jax.jit
    def gradients(params):
        loss = lambda params, remat: jnp.sum(jnp.sin(model.replace(remat=remat).logits(params, tokens)))
        return [jax.grad(loss)(params, remat) for remat in ("none", "full")]

    for kept, again in zip(*map(jax.tree.leaves, gradients(params))):
        assert_allclose(kept, again, rtol=1e-4, atol=1e-5 * np.abs(kept).max())


def test_bfloat16_computes_in_it_and_answers_in_float32(language, tokens):
    model, params = language
    logits = model.replace(dtype="bfloat16").logits(params, tokens)
    exact = model.logits(params, tokens)
    assert logits.dtype == jnp.float32
    assert 1e-4 < np.abs(logits - exact).mean() < 0.1 * np.abs(exact).mean()


def test_fresh_params_fit_and_know_nothing(tokens):
    model = CausalLM(LANGUAGE)
    params = jax.jit(model.init)(jax.random.key(0))
    model.check_params(params)
    likely = jax.nn.softmax(model.logits(params, tokens))
    assert np.abs(likely - 1 / LANGUAGE.vocab_size).max() < 0.05


def test_params_of_another_model_are_refused_by_name(language):
    model, params = language
    with pytest.raises(ConfigError, match=r"params lack blocks/mlp/fc1/bias \(2, 40\)"):
        model.check_params({**params, "blocks": {**params["blocks"], "mlp": {}}})
    with pytest.raises(ConfigError, match="params have token_embedding"):
        CausalLM(dataclasses.replace(LANGUAGE, vocab_size=14)).check_params(params)


def test_text_beyond_the_context_is_refused(language):
    with pytest.raises(ConfigError, match="a text of 25 tokens; this model takes 24"):
        language[0].logits(language[1], jnp.zeros((1, 25), jnp.int32))


def test_tokens_and_embeddings_together_are_refused(language, tokens):
    model, params = language
    with pytest.raises(ConfigError, match="either tokens or embeddings"):
        model.logits(params, tokens, embeddings=model.embed_tokens(params, tokens))
    with pytest.raises(ConfigError, match="either tokens or embeddings"):
        model.logits(params)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"activation": "quick_gelu"}, "known are 'gelu_new' and 'gelu'"),
        ({"heads": 5}, "5 heads do not divide the width 24"),
        ({"eos_token_id": 13}, "eos_token_id is 13; the vocabulary has 13 tokens"),
        ({"layers": 0}, "layers is 0; it must be an integer from 1"),
    ],
)
def test_impossible_configuration_is_refused(change, complaint):
    with pytest.raises(ConfigError, match=complaint):
        LanguageConfig(**{**dataclasses.asdict(LANGUAGE), **change})
