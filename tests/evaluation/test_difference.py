"""What PC-CLIP's text tower is asked after training: differences, comparative prompts, analogies."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clipjax.errors import DataError
from clipjax.evaluation.analogies import moved_queries, nearest
from clipjax.evaluation.comparative import (
    Comparative,
    best_alpha,
    comparative_prompting,
    mean_difference_distance,
    pairs_of_confusion,
)
from clipjax.evaluation.difference import differences_right, over_seeds


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def rows(count, dim=6, seed=0):
    return unit(np.random.default_rng(seed).normal(size=(count, dim))).astype(np.float32)


def test_a_sentence_is_right_where_it_is_more_like_the_first_image():
    images, texts = rows(8), rows(20, seed=1)
    pairs = np.random.default_rng(2).integers(0, 8, (20, 2))
    wanted = np.sum(images[pairs[:, 0]] * texts, axis=1) > np.sum(images[pairs[:, 1]] * texts, axis=1)
    wanted &= pairs[:, 0] != pairs[:, 1]
    assert_array_equal(differences_right(7 * images, pairs, 3 * texts), wanted)


def test_swapped_images_make_what_was_right_wrong():
    images, texts, pairs = rows(8), rows(5, seed=1), np.array([[0, 1], [2, 3], [4, 5], [6, 7], [0, 7]])
    assert_array_equal(differences_right(images, pairs[:, ::-1], texts), ~differences_right(images, pairs, texts))


@pytest.mark.parametrize(
    ("pairs", "complaint"), [(np.array([[0, 8]]), "image 8 of 8"), (np.zeros((2, 2), int), "one sentence")]
)
def test_pairs_that_do_not_fit_are_refused(pairs, complaint):
    with pytest.raises(DataError, match=complaint):
        differences_right(rows(8), pairs, rows(1))


@pytest.mark.parametrize("wrong", [0.0, np.nan])
def test_an_image_or_a_sentence_without_a_direction_is_no_wrong_answer_but_refused(wrong):
    good, bad, pairs = rows(4), rows(4), np.array([[0, 1], [1, 2], [2, 3], [3, 0]])
    bad[2] = wrong
    for images, texts in ((bad, good), (good, bad)):
        with pytest.raises(DataError, match="no direction"):
            differences_right(images, pairs, texts)


def test_seeds_are_summed_up_as_the_paper_does():
    found = over_seeds([0.5, 0.6, 0.7])
    assert_allclose(found, (0.6, np.sqrt(0.02 / 3) / np.sqrt(3)), rtol=1e-12)
    with pytest.raises(DataError):
        over_seeds([])


# ---- comparative prompting ----


def domain():
    """Images of five classes, of which the second is often taken for the first."""
    weights = rows(5, 16)
    labels = np.repeat(np.arange(5), 20)
    noise = 0.6 * rows(100, 16, seed=1)
    images = unit(weights[labels] + noise)
    images[20:32] = unit(weights[0] + 0.3 * weights[1] + 0.3 * rows(12, 16, seed=2))
    return images, labels, weights


def test_the_most_frequent_confusion_is_named_first():
    images, labels, weights = domain()
    assert_array_equal(pairs_of_confusion(images, labels, weights, 1), [[1, 0]])


def test_alpha_of_one_is_plain_zero_shot():
    images, labels, weights = domain()
    pairs = np.array([[0, 1], [2, 3]])
    *_, last = comparative_prompting(images, labels, weights, pairs, rows(2, 16, seed=3))
    predictions = (images @ weights.T).argmax(1)
    assert last.alpha == 1.0 and last.accuracy == np.mean(predictions == labels)
    inside = labels < 4
    within = (images[inside] @ weights[:4].T).argmax(1)
    assert last.subset == np.mean(within == labels[inside])


def test_a_sentence_that_says_where_a_class_is_mends_its_confusion():
    first, beside, elsewhere = np.eye(16, dtype=np.float32)[:3]
    # the second class's weight is far from its images, which lie beside those of the first
    labels, noise = np.repeat([0, 1], 50), 0.2 * rows(100, 16)
    images = unit(np.where(labels[:, None] == 1, first + 0.5 * beside, first) + noise)
    weights, pairs = np.stack([first, elsewhere]), np.array([[0, 1]])
    said = -beside[None]  # the first class differs by having less of that
    plain, moved = comparative_prompting(images, labels, weights, pairs, said, alphas=(1.0, 0.2))
    assert plain.accuracy < 0.6 and moved.accuracy > 0.9 and moved.subset == moved.accuracy


def test_of_equally_good_alphas_the_one_that_changes_least_is_chosen():
    found = [Comparative(alpha, accuracy, 0.0) for alpha, accuracy in ((0.5, 0.7), (0.8, 0.9), (0.9, 0.9), (1.0, 0.8))]
    assert best_alpha(found) == 0.9


@pytest.mark.parametrize("pairs", [[[0, 5]], [[-1, 2]], [[0, 1], [1, 0]]])
def test_pairs_of_no_class_or_without_a_sentence_are_refused(pairs):
    with pytest.raises(DataError, match="one sentence for each pair of two of the 5 classes"):
        comparative_prompting(*domain(), np.array(pairs), rows(1, 16))


def test_without_images_of_the_pairs_there_is_no_subset_accuracy():
    images, labels, weights = domain()
    found = comparative_prompting(images[:20], labels[:20], weights, np.array([[2, 3]]), rows(1, 16), alphas=(0.9,))
    assert np.isnan(found[0].subset)


def test_the_mean_distance_is_zero_for_the_differences_themselves():
    texts, pairs = 3 * rows(4), np.array([[0, 1], [2, 3]])
    between = texts[pairs[:, 0]] - texts[pairs[:, 1]]
    assert_allclose(mean_difference_distance(texts, pairs, between), 0, atol=1e-6)
    assert_allclose(mean_difference_distance(texts, pairs[:, ::-1], between), 2, rtol=1e-6)


# ---- analogies ----


def test_moving_along_the_exact_difference_finds_the_other_image():
    gallery = rows(12)
    moved = moved_queries(gallery[:1], gallery[7] - gallery[0], strength=float(np.linalg.norm(gallery[7] - gallery[0])))
    assert_allclose(moved[0], gallery[7], atol=1e-6)
    assert nearest(moved, gallery, 1)[0, 0] == 7


def test_no_strength_finds_the_image_itself_unless_it_is_left_out():
    gallery = rows(12)
    still = moved_queries(gallery[3:4], rows(1, seed=5)[0], strength=0.0)
    assert nearest(still, gallery, 1)[0, 0] == 3
    assert 3 not in nearest(still, gallery, 11, left_out=np.array([3]))


def test_more_images_than_there_are_cannot_be_found():
    with pytest.raises(DataError, match="ask for fewer"):
        nearest(rows(1), rows(4), 4, left_out=np.array([0]))
    with pytest.raises(DataError, match="no direction"):
        moved_queries(rows(1), np.zeros(6))
