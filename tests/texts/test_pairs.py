"""Which images and pairs are asked about."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from clipjax.errors import DataError
from clipjax.texts.pairs import choose_images, hard_pairs


def rows(count=12, dim=6, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def test_images_are_drawn_by_the_seed_and_without_repetition():
    assert len(np.unique(choose_images(100, 30, seed=3))) == 30
    assert_array_equal(choose_images(100, 30, seed=3), choose_images(100, 30, seed=3))
    assert not np.array_equal(choose_images(100, 30, seed=3), choose_images(100, 30, seed=4))


def test_where_there_are_no_more_all_are_taken():
    assert_array_equal(choose_images(4, 9), range(4))
    assert_array_equal(choose_images(4, None), range(4))


def test_hard_pairs_are_the_most_alike(monkeypatch):
    monkeypatch.setattr("clipjax.texts.pairs._ROWS_AT_A_TIME", 5)
    embeddings = rows()
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    every = sorted(itertools.combinations(range(12), 2), key=lambda pair: -(unit[pair[0]] @ unit[pair[1]]))
    assert_array_equal(hard_pairs(embeddings, 9), every[:9])


def test_copies_are_no_hard_pairs():
    embeddings = rows()
    embeddings[4] = 2.5 * embeddings[9]
    assert [4, 9] not in hard_pairs(embeddings, 60).tolist()
    assert len(hard_pairs(embeddings, 100)) == 65


def test_one_image_makes_no_pair():
    with pytest.raises(DataError, match="1 images make no pair"):
        hard_pairs(rows(1), 3)
