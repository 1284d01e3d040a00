import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clipjax.errors import ConfigError
from clipjax.models.kv_cache import read_prompt, read_token

TEXT = jnp.asarray(np.random.default_rng(9).integers(0, 13, (8, 4)), jnp.int32)


@pytest.fixture(scope="module")
def cached(language, prompts):
    """Logits of the prompts' next tokens, then of those after each token of `TEXT`, and the last cache."""
    model, params = language
    logits, cache = read_prompt(model, params, *prompts, room=4)
    steps = [logits]
    for token in TEXT.T:
        logits, cache = read_token(model, params, model.embed_tokens(params, token), cache)
        steps.append(logits)
    return np.stack(steps, axis=1), cache


@pytest.fixture(scope="module")
def encoded_anew(language, prompts):
    """The same logits of whole texts, each row by itself; what follows one changes nothing before it."""
    model, params = language
    rows = []
    for prompt, length, text in zip(*prompts, TEXT):
        whole = jnp.concatenate([prompt[:length], model.embed_tokens(params, text), prompt[length:]])
        rows.append(model.logits(params, embeddings=whole[None])[0, length - 1 : length + 4])
    return np.stack(rows)


def test_cached_logits_are_those_of_the_whole_text(cached, encoded_anew):
    assert_allclose(cached[0], encoded_anew, atol=1e-5, rtol=1e-5)


def test_cached_choice_is_that_of_the_whole_text(cached, encoded_anew):
    assert_array_equal(cached[0].argmax(-1), encoded_anew.argmax(-1))


def test_cache_knows_how_long_each_row_is(cached, prompts):
    cache = cached[1]
    assert_array_equal(cache.lengths, prompts[1] + 4)
    assert_array_equal(cache.visible.sum(axis=1), cache.lengths)


def test_rows_can_be_taken_in_another_order(language, prompts):
    model, params = language
    _, cache = read_prompt(model, params, *prompts, room=4)
    order = jnp.asarray([3, 3, 0, 7, 1, 2, 5, 6])
    token = model.embed_tokens(params, TEXT[:, 0])
    taken, _ = read_token(model, params, token[order], cache.of_rows(order))
    assert_allclose(taken, read_token(model, params, token, cache)[0][order], atol=1e-6)


def test_prompts_without_lengths_are_whole(language, prompts):
    model, params = language
    logits, _ = read_prompt(model, params, prompts[0], room=4)
    given, _ = read_prompt(model, params, prompts[0], jnp.full(8, 5, jnp.int32), room=4)
    assert_array_equal(logits, given)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_its_cache_in_it(language, prompts, dtype):
    model, params = language
    model = model.replace(dtype=dtype)
    logits, cache = read_prompt(model, params, *prompts, room=1)
    after, _ = read_token(model, params, model.embed_tokens(params, TEXT[:, 0]), cache)
    assert cache.keys.dtype == cache.values.dtype == jnp.dtype(dtype)
    assert logits.dtype == after.dtype == jnp.float32 and jnp.isfinite(after).all()


def test_prompt_and_room_stay_within_the_context(language, prompts):
    with pytest.raises(ConfigError, match="a text of 25 tokens; this model takes 24"):
        jax.eval_shape(lambda p: read_prompt(language[0], p, *prompts, room=20), language[1])
