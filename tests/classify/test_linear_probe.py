import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clipjax.classify import linear_probe as module
from clipjax.classify.linear_probe import linear_probe
from clipjax.errors import DataError
from clipjax.progress import silent


def clusters(random, classes=4, per_class=10, dim=6, spread=0.3):
    """Unit-sized classes around random centres."""
    labels = np.repeat(np.arange(classes), per_class)
    centres = np.random.default_rng(7).normal(size=(classes, dim))
    features = centres[labels] + spread * random.normal(size=(len(labels), dim))
    return features.astype(np.float32), labels


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def few_shot(shared_data):
    """Twelve breeds of real embeddings: 16 shots per class, and their test images."""
    z = np.load(shared_data / "data" / "features" / "clip_vitb32_oxford_pets.npz")
    shots, test = z["shot16_labels"] < 12, z["test_labels"] < 12
    return (
        z["shot16_features"][shots],
        z["shot16_labels"][shots],
        z["test_features"][test],
        z["test_labels"][test],
    )


@pytest.fixture
def recorded_fits(monkeypatch):
    """The arguments of every fit, in order."""
    fits = []
    fit = module._fit
    monkeypatch.setattr(module, "_fit", lambda *arguments: fits.append(arguments) or fit(*arguments))
    return fits


def test_real_embeddings_are_told_apart_better_than_by_class_means(few_shot):
    shots, labels, test, truth = few_shot
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe = linear_probe(shots, labels, test)
    means = np.stack([shots[labels == c].astype(np.float32).mean(axis=0) for c in range(12)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    nearest = np.argmax(test.astype(np.float32) @ means.T, axis=1)
    assert np.mean(probe.predictions == truth) > np.mean(nearest == truth)
    assert probe.converged


def test_same_seed_same_probe(random):
    features, labels = clusters(random, spread=1.0)
    one, other = (linear_probe(features, labels, features, seed=3) for _ in range(2))
    assert_array_equal(one.weights, other.weights)
    assert one.sweep == other.sweep


def test_another_seed_holds_back_other_samples(random, recorded_fits):
    features, labels = clusters(random)
    for seed in (0, 1):
        linear_probe(features, labels, features, seed=seed)
    first, second = recorded_fits[0][0], recorded_fits[len(recorded_fits) // 2][0]
    assert not np.array_equal(first, second)


def test_a_share_of_every_class_is_held_back_and_the_last_fit_sees_all(random, recorded_fits):
    features, labels = clusters(random, per_class=10)
    linear_probe(features, labels, features)
    assert_array_equal(np.bincount(recorded_fits[0][1]), [8, 8, 8, 8])
    assert_array_equal(np.bincount(recorded_fits[-1][1]), [10, 10, 10, 10])


def test_given_validation_chooses_and_then_joins_the_training_data(random, recorded_fits):
    features, labels = clusters(random)
    validation = clusters(random, per_class=3)
    linear_probe(features, labels, features, validation=validation)
    assert len(recorded_fits[0][1]) == 40
    assert len(recorded_fits[-1][1]) == 52


def test_validation_may_choose_without_joining_the_training_data(random, recorded_fits):
    features, labels = clusters(random)
    probe = linear_probe(features, labels, features, validation=clusters(random, per_class=3), fit_validation=False)
    assert probe.fitted == len(recorded_fits[-1][1]) == 40


def test_samples_held_back_from_the_training_data_are_always_fitted(random):
    features, labels = clusters(random)
    assert linear_probe(features, labels, features, fit_validation=False).fitted == 40


def test_search_starts_two_decades_apart_and_ends_an_eighth_apart(random):
    features, labels = clusters(random, spread=2.0)
    probe = linear_probe(features, labels, features)
    tried = np.log10([C for C, _ in probe.sweep])
    assert_allclose(tried[:7], [-6, -4, -2, 0, 2, 4, 6])
    assert_allclose(np.diff(np.sort(tried)).min(), 1 / 8)
    assert len(set(tried)) == len(tried) <= 15


def test_search_closes_in_on_a_peak_between_the_starting_values():
    peak, tried = 13, {}
    for step in module._search_steps(tried):
        tried[step] = -abs(step - peak)
    assert module._best_step(tried) == peak


@pytest.mark.parametrize("peak", [-48, 48])
def test_search_stays_inside_its_range(peak):
    tried = {}
    for step in module._search_steps(tried):
        tried[step] = -abs(step - peak)
    assert module._best_step(tried) == peak
    assert min(tried) == -48 and max(tried) == 48


def test_chosen_strength_is_the_smallest_of_the_best(random):
    features, labels = clusters(random, spread=1.0)
    probe = linear_probe(features, labels, features)
    best = max(accuracy for _, accuracy in probe.sweep)
    assert min(C for C, accuracy in probe.sweep if accuracy == best) == probe.C


def test_scores_are_the_weights_applied_and_name_the_classes(random):
    features, labels = clusters(random)
    probe = linear_probe(features, labels * 10 + 5, features)
    assert_allclose(probe.scores, features @ probe.weights.T + probe.bias, rtol=1e-5)
    assert_array_equal(probe.classes, [5, 15, 25, 35])
    assert np.mean(probe.predictions == labels * 10 + 5) > 0.9


def test_two_images_of_each_of_many_classes_are_fitted_without_a_word(random, recwarn):
    # of which one is held back; 30 classes in as many rows look like a regression to scikit-learn
    linear_probe(*clusters(random, classes=30, per_class=2), np.zeros((1, 6), np.float32))
    assert not recwarn.list


def test_two_classes_get_a_row_of_weights_each(random):
    features, labels = clusters(random, classes=2)
    probe = linear_probe(features, labels, features)
    assert probe.weights.shape == (2, 6)
    assert_array_equal(probe.predictions, labels)


def test_two_classes_keep_the_probabilities_of_the_regression(random):
    from sklearn.linear_model import LogisticRegression

    features, labels = clusters(random, classes=2, spread=1.5)
    probe = linear_probe(features, labels, features)
    want = LogisticRegression(C=probe.C, max_iter=1000).fit(features, labels).predict_proba(features)
    # The two fits see the samples in another order, and L-BFGS stops within a tolerance.
    odds = np.exp(probe.scores)
    assert_allclose(odds / odds.sum(axis=1, keepdims=True), want, atol=2e-3)


def test_half_precision_features_are_widened(random):
    features, labels = clusters(random)
    probe = linear_probe(features.astype(np.float16), labels, features.astype(np.float16))
    assert probe.scores.dtype == np.float32


def test_stopping_early_is_reported(random, monkeypatch):
    monkeypatch.setattr(module, "MAX_ITERATIONS", 2)
    features, labels = clusters(random, classes=2, per_class=30, spread=1.0)
    features, labels = (
        features[:40],
        labels[:40],
    )  # unequal classes: the least C calls everything the larger one
    with pytest.warns(UserWarning, match="did not converge within 2 iterations"):
        probe = linear_probe(features, labels, features)
    assert not probe.converged
    assert probe.C in probe.unconverged


def test_progress_sees_every_fit_of_the_search(random):
    features, labels = clusters(random)
    seen = []

    def progress(items, **options):
        seen.append(options["total"])
        for item in silent(items, **options):
            seen.append(item)
            yield item

    probe = linear_probe(features, labels, features, progress=progress)
    assert seen[0] == 15
    assert len(seen) - 1 == len(probe.sweep)


ONES = np.ones((4, 3), np.float32)
PAIRS = np.array([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "validation", "message"),
    [
        ((ONES, np.array([0, 1]), ONES), None, "training labels must be 4 integers"),
        ((ONES, np.array(["a", "a", "b", "b"]), ONES), None, "training labels must be 4 integers"),
        ((ONES[:0], PAIRS[:0], ONES), None, "at least one row"),
        ((ONES * np.nan, PAIRS, ONES), None, "training features are not finite in row 0"),
        ((ONES, PAIRS, ONES[:, :2]), None, "test features have 2 columns, training has 3"),
        ((ONES, PAIRS * 0, ONES), None, "at least 2 classes"),
        ((ONES, np.arange(4), ONES), None, "give validation data"),
        ((ONES, PAIRS, ONES), (ONES, PAIRS + 1), "validation holds class 2"),
        ((ONES, PAIRS, ONES), (ONES[:, :1], PAIRS), "validation features have 1 columns"),
    ],
)
def test_unusable_input_is_refused(arguments, validation, message):
    with pytest.raises(DataError, match=message):
        linear_probe(*arguments, validation=validation)
