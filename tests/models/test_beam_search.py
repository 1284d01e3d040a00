"""Beam search against a reference that encodes every text anew, in plain Python; transformers' own is in
`weights/test_gpt2.py`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clipjax.errors import ConfigError
from clipjax.models.beam_search import beam_search
from clipjax.models.decoding import greedy

END, LONGEST = 12, 7


@pytest.fixture(scope="module")
def next_scores(language, prompts):
    """A function that scores all next tokens of a row's text by encoding it from the beginning."""
    model, params = language

    @functools.cache
    def scores(row: int, text: tuple[int, ...]) -> np.ndarray:
        whole = jnp.concatenate([prompts[0][row, : prompts[1][row]], params["token_embedding"][np.array(text, int)]])
        padded = jnp.zeros((1, 5 + LONGEST, whole.shape[1])).at[0, : len(whole)].set(whole)
        logits = model.logits(params, embeddings=padded)[0, len(whole) - 1]
        return np.asarray(jax.nn.log_softmax(logits), np.float64)

    return scores


def searched(scores, row: int, beams: int, penalty: float, early_stopping: bool) -> tuple[float, tuple[int, ...]]:
    live, ended = [(0.0, ())], []
    for length in range(1, LONGEST + 1):
        candidates = [(s + scores(row, text)[t], (*text, t)) for s, text in live for t in range(13)]
        best = sorted(candidates, reverse=True)[: 2 * beams]
        for place, (score, text) in enumerate(best):
            if place < beams and (text[-1] == END or length == LONGEST):
                ended.append((score / length**penalty, text))
        ended = sorted(ended, reverse=True)[:beams]
        live = [(score, text) for score, text in best if text[-1] != END][:beams]
        reachable = (LONGEST if penalty > 0 else length) ** penalty
        if len(ended) == beams and (early_stopping or live[0][0] / reachable <= ended[-1][0]):
            break
    return ended[0]


@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("penalty", [0.0, 1.7])
def test_search_equals_the_reference(language, prompts, next_scores, penalty, early_stopping):
    found = beam_search(
        *language, *prompts, beams=4, max_tokens=LONGEST, length_penalty=penalty, early_stopping=early_stopping
    )
    for row in range(8):
        score, text = searched(next_scores, row, 4, penalty, early_stopping)
        assert_array_equal(found.tokens[row], [*text, *[END] * (LONGEST - len(text))])
        assert found.lengths[row] == len(text)
        assert_allclose(found.scores[row], score, rtol=1e-4)


@pytest.mark.parametrize("penalty", [0.0, 2.0])
def test_one_beam_is_greedy(language, prompts, penalty):
    found = beam_search(*language, *prompts, beams=1, max_tokens=12, length_penalty=penalty)
    wanted = greedy(*language, *prompts, max_tokens=12)
    assert_array_equal(found.tokens, wanted.tokens)
    assert_array_equal(found.lengths, wanted.lengths)


def test_higher_penalty_never_shortens_the_texts(language, prompts):
    lengths = [
        beam_search(*language, *prompts, beams=4, max_tokens=LONGEST, length_penalty=p, early_stopping=False).lengths
        for p in (-2.0, 0.0, 3.0)
    ]
    assert (lengths[0] <= lengths[1]).all() and (lengths[1] <= lengths[2]).all()
    assert (lengths[0] < lengths[2]).any()


def test_prompts_in_one_batch_do_not_meet(language, prompts):
    settings = {"beams": 4, "max_tokens": LONGEST}
    whole = beam_search(*language, *prompts, **settings)
    turned = beam_search(*language, *(jnp.roll(x, 3, axis=0) for x in prompts), **settings)
    assert_array_equal(jnp.roll(whole.tokens, 3, axis=0), turned.tokens)


@pytest.mark.parametrize("settings", [{"beams": 0}, {"beams": 7}, {"max_tokens": 0}])
def test_impossible_numbers_are_refused(language, prompts, settings):
    with pytest.raises(ConfigError, match="must be at least 1, and there are 13 tokens"):
        beam_search(*language, *prompts, **{"beams": 2, "max_tokens": 3, **settings})
