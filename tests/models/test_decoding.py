import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clipjax.errors import ConfigError
from clipjax.models.decoding import greedy, nucleus, sample

END = 12


@pytest.fixture(scope="module")
def decoded(language, prompts):
    return greedy(*language, *prompts, max_tokens=12)


def encoded_anew(language, prompts, row, tokens):
    """Score a text after its prompt from the beginning: log-probabilities of all next tokens."""
    model, params = language
    whole = jnp.concatenate([prompts[0][row, : prompts[1][row]], params["token_embedding"][np.array(tokens, int)]])
    padded = jnp.zeros((1, 17, whole.shape[1])).at[0, : len(whole)].set(whole)  # one length, one compilation
    return np.asarray(jax.nn.log_softmax(model.logits(params, embeddings=padded)[0, len(whole) - 1]))


def test_greedy_takes_the_likeliest_token_of_the_whole_text_each_time(language, prompts, decoded):
    for row in range(8):
        text: list[int] = []
        while len(text) < 12 and END not in text:
            text.append(int(encoded_anew(language, prompts, row, text).argmax()))
        assert_array_equal(decoded.tokens[row], text + [END] * (12 - len(text)))
        assert decoded.lengths[row] == len(text)


def test_some_texts_end_and_some_are_cut(decoded):
    ended = np.any(np.asarray(decoded.tokens) == END, axis=1)
    assert 0 < ended.sum() < 8


def test_score_is_the_log_probability_of_the_text(language, prompts, decoded):
    row = int(np.argmin(decoded.lengths))
    text = [int(token) for token in decoded.tokens[row, : decoded.lengths[row]]]
    steps = [encoded_anew(language, prompts, row, text[:i])[token] for i, token in enumerate(text)]
    assert_allclose(decoded.scores[row], sum(steps), rtol=1e-5)


def test_nothing_follows_the_end(language, prompts):
    drawn = sample(*language, *prompts, key=jax.random.key(1), max_tokens=12, temperature=2.0)
    for tokens, length in zip(drawn.tokens, drawn.lengths):
        assert not (tokens[: length - 1] == END).any()
        assert (tokens[length:] == END).all()


def test_cold_draws_and_narrow_nuclei_are_greedy(language, prompts, decoded):
    for settings in ({"temperature": 1e-4}, {"top_p": 1e-6}):
        drawn = sample(*language, *prompts, key=jax.random.key(0), max_tokens=12, **settings)
        assert_array_equal(drawn.tokens, decoded.tokens)


def test_draws_have_the_model_s_probabilities(language, prompts):
    prompt, length = prompts[0][:1], prompts[1][:1]
    many = sample(*language, jnp.repeat(prompt, 4000, 0), jnp.repeat(length, 4000), key=jax.random.key(3), max_tokens=1)
    found = np.bincount(many.tokens[:, 0], minlength=13) / 4000
    wanted = np.exp(encoded_anew(language, prompts, 0, []))
    assert_allclose(found, wanted, atol=4 * np.sqrt(wanted.max() / 4000))


def test_another_key_draws_other_texts(language, prompts):
    first, again, other = (
        sample(*language, *prompts, key=jax.random.key(seed), max_tokens=12).tokens for seed in (1, 1, 2)
    )
    assert_array_equal(first, again)
    assert np.any(first != other)


@pytest.mark.parametrize(("top_p", "kept"), [(0.3, [0]), (0.41, [0, 2]), (0.9, [0, 1, 2]), (1.0, [0, 1, 2, 3])])
def test_nucleus_is_the_fewest_tokens_that_reach_the_share(top_p, kept):
    logits = jnp.log(jnp.asarray([[0.4, 0.2, 0.35, 0.05]]))
    assert_array_equal(np.flatnonzero(jnp.isfinite(nucleus(logits, top_p)[0])), kept)


def test_settings_share_a_compilation(language, prompts):
    from clipjax.models.decoding import _decode

    sample(*language, *prompts, key=jax.random.key(0), max_tokens=12, temperature=0.5, top_p=0.5)
    before = _decode._cache_size()
    sample(*language, *prompts, key=jax.random.key(1), max_tokens=12, temperature=0.9, top_p=0.8)
    assert _decode._cache_size() == before


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"temperature": 0.0}, "temperature above 0"),
        ({"top_p": 1.5}, "top_p above 0, at most 1"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"max_tokens": 20}, "a text of 25 tokens; this model takes 24"),
    ],
)
def test_settings_that_decode_nothing_are_refused(language, prompts, settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        sample(*language, *prompts, key=jax.random.key(0), **{"max_tokens": 4, **settings})
