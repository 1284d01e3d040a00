"""Which pairs PC-CLIP learns from."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from clipjax.errors import DataError
from clipjax.methods.pcclip.pairs import choose_images, hard_pairs, have_difference, mine_pairs


def rows(count=12, dim=6, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def test_all_unordered_pairs_of_few_images_are_taken_once():
    assert_array_equal(mine_pairs(5), list(itertools.combinations(range(5), 2)))


def test_a_thousand_images_make_the_paper_s_pairs():
    pairs = mine_pairs(5000)
    assert pairs.shape == (499_500, 2) and len(np.unique(pairs)) == 1000
    assert (pairs[:, 0] < pairs[:, 1]).all()


def test_a_cap_keeps_different_pairs_of_the_same_images_drawn_by_the_seed():
    few, more = mine_pairs(40, most_images=20, most=30), mine_pairs(40, most_images=20, most=60)
    as_set = lambda pairs: set(map(tuple, pairs.tolist()))
    assert len(as_set(few)) == 30 and as_set(few) < as_set(more) < as_set(mine_pairs(40, most_images=20))
    assert_array_equal(few, mine_pairs(40, most_images=20, most=30))
    assert as_set(few) != as_set(mine_pairs(40, most_images=20, most=30, seed=1))


def test_images_are_drawn_without_repetition():
    assert len(np.unique(choose_images(100, 30, seed=3))) == 30
    assert_array_equal(choose_images(4, 9), range(4))


def test_hard_pairs_are_the_most_alike(monkeypatch):
    monkeypatch.setattr("clipjax.methods.pcclip.pairs._LIKE_AT_A_TIME", 5)
    embeddings = rows()
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    every = sorted(itertools.combinations(range(12), 2), key=lambda pair: -(unit[pair[0]] @ unit[pair[1]]))
    assert_array_equal(hard_pairs(embeddings, 9), every[:9])


def test_copies_are_no_hard_pairs():
    embeddings = rows()
    embeddings[4] = embeddings[9]
    assert [4, 9] not in hard_pairs(embeddings, 60).tolist()
    assert len(hard_pairs(embeddings, 100)) == 65


def test_copies_of_an_image_have_no_difference(monkeypatch):
    monkeypatch.setattr("clipjax.methods.pcclip.pairs.ROWS_AT_A_TIME", 4)
    embeddings = rows()
    embeddings[4] = 2.5 * embeddings[9]
    pairs = mine_pairs(12)
    found = have_difference(embeddings, pairs)
    assert_array_equal(pairs[~found], [[4, 9]])
    assert have_difference(embeddings, pairs[:0]).shape == (0,)


def test_one_image_makes_no_pair():
    with pytest.raises(DataError, match="1 images make no pair"):
        mine_pairs(1)
    with pytest.raises(DataError, match="1 images make no pair"):
        hard_pairs(rows(1), 3)
