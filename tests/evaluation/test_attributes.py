"""Classifiers that know classes by their attributes alone."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clipjax.errors import DataError
from clipjax.evaluation.attributes import attribute_classifier_scores, attribute_ranks


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def world(spread=(1.0, 1.0)):
    """Images whose two attributes lie along two directions, each as wide as `spread` says, in noise."""
    random = np.random.default_rng(0)
    amounts = random.uniform(-1, 1, (60, 2))
    base = 10 * np.eye(8)[0] + 0.1 * random.normal(size=(60, 8))
    return amounts, unit(base + amounts * spread @ np.eye(8)[[1, 2]]), np.eye(8)[[1, 2]]


def test_places_run_from_one_for_the_first_to_minus_one_for_the_last():
    amounts, images, sentences = world()
    ranks = attribute_ranks(images, sentences)
    assert_array_equal(np.sort(ranks[:, 0]), np.linspace(-1, 1, 60))
    assert np.corrcoef(ranks[:, 0], amounts[:, 0])[0, 1] > 0.95
    assert abs(np.corrcoef(ranks[:, 0], amounts[:, 1])[0, 1]) < 0.3


def test_equal_images_share_a_place():
    _, images, sentences = world()
    ranks = attribute_ranks(np.repeat(images[:3], 2, axis=0), sentences)
    assert_array_equal(ranks[0::2], ranks[1::2])
    assert_allclose(ranks.mean(0), 0, atol=1e-12)


def test_how_far_a_sentence_spreads_images_does_not_matter():
    _, images, sentences = world()
    _, narrow, _ = world(spread=(1.0, 0.5))
    assert np.abs(attribute_ranks(images, sentences) - attribute_ranks(narrow, sentences)).mean() < 0.1


def test_classes_are_told_by_what_they_have():
    amounts, images, sentences = world()
    table = np.array([[True, True], [True, False], [False, True], [False, False]])
    labels = np.where(amounts[:, 0] > 0, 0, 2) + (amounts[:, 1] <= 0)
    clear = np.abs(amounts).min(1) > 0.2
    found = attribute_classifier_scores(attribute_ranks(images, sentences), table).argmax(1)
    assert np.mean(found[clear] == labels[clear]) > 0.9


def test_an_attribute_that_all_classes_have_changes_nothing():
    _, images, sentences = world()
    ranks, table = attribute_ranks(images, sentences), np.array([[1, 0], [0, 1], [0.2, 0.4]])
    scores = attribute_classifier_scores(ranks, table)
    shared = np.concatenate([table, np.ones((3, 1))], axis=1)
    with_one = attribute_classifier_scores(np.concatenate([ranks, np.zeros((60, 1))], axis=1), shared)
    assert_allclose(with_one, scores)


def test_anchors_only_stand_in_for_what_images_are_compared_with():
    _, images, sentences = world()
    others = attribute_ranks(images, sentences, images[:20])
    assert np.corrcoef(others[:, 0], attribute_ranks(images, sentences)[:, 0])[0, 1] > 0.95


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: attribute_ranks(np.ones((1, 3)), np.ones((1, 3))), "at least two"),
        (lambda: attribute_classifier_scores(np.ones((4, 2)), np.eye(3)), "a column for each attribute"),
        (lambda: attribute_classifier_scores(np.ones((4, 2)), np.ones((3, 2))), "class 0 is like the mean"),
    ],
)
def test_what_tells_nothing_apart_is_refused(call, complaint):
    with pytest.raises(DataError, match=complaint):
        call()
