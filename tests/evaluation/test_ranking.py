import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clipjax.errors import DataError
from clipjax.evaluation.ranking import difference_scores, kendall_tau, ranked


def rows(count=9, dim=5, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dim))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_scores_are_mean_cosines_with_the_differences_to_all_anchors(monkeypatch):
    monkeypatch.setattr("clipjax.evaluation.ranking._ROWS_AT_A_TIME", 4)
    images, anchors, sentence = rows(), rows(3, seed=1), rows(1, seed=2)[0]
    wanted = [np.mean([unit(u - a) @ unit(sentence) for a in unit(anchors)]) for u in unit(images)]
    assert_allclose(difference_scores(5 * images, 3 * sentence, anchors), wanted, rtol=1e-9)


def test_without_anchors_all_pairs_are_asked_and_an_image_is_no_pair_with_itself():
    images, sentence = rows(), rows(1, seed=2)[0]
    wanted = [
        sum(unit(u - v) @ unit(sentence) for j, v in enumerate(unit(images)) if j != i) / 9
        for i, u in enumerate(unit(images))
    ]
    assert_allclose(difference_scores(images, sentence), wanted, rtol=1e-9)


def test_the_opposite_sentence_gives_the_opposite_ranking():
    images, sentence = rows(), rows(1, seed=2)[0]
    assert_allclose(difference_scores(images, -sentence), -difference_scores(images, sentence))


def test_equal_scores_rank_by_position():
    assert_array_equal(ranked(np.array([0.5, 2.0, 0.5, 2.0])), [1, 3, 0, 2])


def naive_tau(a, b):
    signs = [(np.sign(a[i] - a[j]), np.sign(b[i] - b[j])) for i, j in itertools.combinations(range(len(a)), 2)]
    together = sum(x * y for x, y in signs)
    return together / np.sqrt(sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs))


@pytest.mark.parametrize("ties", [False, True])
def test_tau_is_what_a_loop_over_pairs_counts(ties, monkeypatch):
    monkeypatch.setattr("clipjax.evaluation.ranking._ROWS_AT_A_TIME", 7)
    a, b = rows(40, 2).T
    if ties:
        a, b = np.round(a), np.round(b)
    assert_allclose(kendall_tau(a, b), naive_tau(a, b), rtol=1e-12)


def test_tau_is_one_for_any_rising_map_and_minus_one_for_the_reverse():
    values = rows(20, 1)[:, 0]
    assert kendall_tau(values, np.exp(values)) == 1.0
    assert kendall_tau(values, -values) == -1.0


def test_a_constant_has_no_ranking():
    assert np.isnan(kendall_tau(np.ones(4), np.arange(4.0)))


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: kendall_tau(np.arange(3.0), np.arange(4.0)), "as many of both"),
        (lambda: kendall_tau(np.arange(1.0), np.arange(1.0)), "two values or more"),
        (lambda: kendall_tau(np.array([0.0, np.nan]), np.arange(2.0)), "NaN"),
        (lambda: difference_scores(rows(), np.zeros(5)), "the sentence: an embedding has no direction"),
        (lambda: difference_scores(rows(), np.ones(4)), "embed all with one model"),
        (lambda: difference_scores(rows(), np.ones(5), np.zeros((0, 5))), "anchors: expected embeddings"),
    ],
)
def test_what_cannot_be_ranked_is_refused(call, complaint):
    with pytest.raises(DataError, match=complaint):
        call()
