"""Few-shot protocols: what is drawn, what is seen, and how results are averaged."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clipjax.classify.classifier import Classifier
from clipjax.classify.problem import Problem
from clipjax.data.source import memory_source
from clipjax.errors import DataError
from clipjax.evaluation import measured_images, protocols
from clipjax.evaluation.measured_images import MeasuredImages
from clipjax.evaluation.protocols import BaseNew, average, base_to_new, elsewhere, k_shot, pseudo_new_split

CLASSES, DIM = 5, 8


@pytest.fixture
def problem():
    """Five classes with four images each, whose one byte says which image it is; nothing is decoded."""
    labels = np.repeat(np.arange(CLASSES), 4)
    names = tuple(f"class {label}" for label in range(CLASSES))
    encoded = [bytes([number]) for number in range(len(labels))]
    source = memory_source(encoded, labels=labels.tolist(), classnames=[names[label] for label in labels])
    source = dataclasses.replace(source, labels=labels)
    prompts = tuple((f"a {name}.",) for name in names)
    return Problem(None, {"logit_scale": jnp.float32(0)}, None, names, prompts, source, shots=source)


@pytest.fixture(autouse=True)
def perfect(monkeypatch):
    """Images score by their own class, as far as the classifier knows its name; others are taken for the last one."""

    def score_images(classifier, source, progress=None):
        known = {name: place for place, name in enumerate(classifier.class_names)}
        guesses = [known.get(f"class {source.read(i)[0] // 4}", 0) for i in range(len(source))]
        return np.eye(len(known))[guesses], np.arange(len(source)), []

    monkeypatch.setattr(measured_images, "score_images", score_images)
    monkeypatch.setattr(
        protocols,
        "transferred",
        lambda c, p: dataclasses.replace(c, class_names=p.class_names, provenance={"moved": 1}),
    )


@pytest.fixture
def tests(problem):
    return MeasuredImages(problem.shots, problem)


class Adapting:
    """A method that changes the towers, learns nothing and remembers the problems that it saw."""

    def __init__(self):
        self.seen = []

    def __call__(self, problem):
        self.seen.append(problem)
        return Classifier(None, dict(problem.params), problem.class_names, jnp.ones((len(problem.class_names), DIM)))


def test_adaptation_sees_the_shots_of_the_base_classes_and_nothing_else(problem, tests):
    method = Adapting()
    base_to_new(problem, tests, 2, 1, method)
    (seen,) = method.seen
    assert seen.class_names == ("class 0", "class 1", "class 2")
    assert_array_equal(np.bincount(seen.shots.labels), [2, 2, 2])
    assert seen.images is seen.shots and set(seen.shots.classnames) == set(seen.class_names)


def test_each_half_is_measured_against_its_own_names(problem, tests):
    assert base_to_new(problem, tests, 2, 1, Adapting()) == BaseNew(100.0, 100.0)


def test_fewer_shots_are_among_more_and_another_seed_draws_others(problem):
    method = Adapting()
    for shots, seed in ((1, 1), (3, 1), (3, 2)):
        k_shot(problem, shots, seed, method)
    few, many, other = (set(seen.shots.ids) for seen in method.seen)
    assert few < many and many != other


def test_pseudo_new_classes_are_base_classes():
    base, new = pseudo_new_split(10)
    assert_array_equal(base, [0, 1, 2])
    assert_array_equal(new, [3, 4])


def measured(problem, names):
    """A problem of other names for the same images, and these to measure on."""
    own = dataclasses.replace(problem, class_names=names)
    return own, MeasuredImages(own.shots, own)


def test_known_classes_keep_the_classifier_and_others_get_what_was_learnt(problem, monkeypatch):
    moved = []
    monkeypatch.setattr(
        protocols, "transferred", lambda c, p: moved.append(p) or dataclasses.replace(c, class_names=p.class_names)
    )
    classifier = Adapting()(problem)
    assert elsewhere(classifier, *measured(problem, problem.class_names)) == 100.0
    some = problem.restricted_to(np.array([4, 1]))
    assert elsewhere(classifier, some, MeasuredImages(some.shots, some)) == 100.0
    assert not moved
    other, images = measured(problem, ("class 0", "class 1", "class 2", "class 3", "another"))
    assert elsewhere(classifier, other, images) == 80.0
    assert moved == [other]


def test_of_some_known_classes_the_others_cannot_be_guessed(problem, monkeypatch):
    # all images look like class 0, then like class 1
    scores = np.tile([9.0, 5.0, 1.0, 1.0, 1.0], (8, 1))
    monkeypatch.setattr(measured_images, "score_images", lambda *_, **__: (scores, np.arange(8), []))
    some = problem.restricted_to(np.array([4, 1]))
    assert elsewhere(Adapting()(problem), some, MeasuredImages(some.shots, some)) == 50.0


def test_images_are_embedded_once_for_classifiers_with_the_problem_s_towers(problem, monkeypatch):
    encoded = []

    def embed_images(model, params, source, *, progress):
        encoded.append(len(source))
        backwards = np.arange(len(source))[::-1]
        return np.eye(CLASSES)[source.labels][backwards], backwards, []

    monkeypatch.setattr(measured_images, "embed_images", embed_images)
    monkeypatch.setattr(measured_images, "_AT_ONCE", 3)
    images = MeasuredImages(problem.shots, problem)
    classifier = Classifier(None, problem.params, problem.class_names, jnp.eye(CLASSES))
    assert images.accuracy(classifier) == 100.0
    assert images.accuracy(dataclasses.replace(classifier, class_weights=jnp.eye(CLASSES)[::-1])) == 20.0
    half = dataclasses.replace(classifier, class_names=problem.class_names[3:], class_weights=jnp.eye(CLASSES)[3:])
    assert images.accuracy(half, np.array([3, 4])) == 100.0
    assert encoded == [20]
    images.accuracy(Adapting()(problem))
    assert encoded == [20], "other towers' embeddings are not these"


def test_a_half_without_test_images_is_refused(problem):
    with pytest.raises(DataError, match="has no image of these classes"):
        base_to_new(problem, MeasuredImages(problem.shots.select(np.arange(8)), problem), 2, 1, Adapting())


def test_both_conventions_of_averaging():
    found = average([BaseNew(90.0, 30.0), BaseNew(50.0, 70.0)])
    assert_allclose([found["base"], found["new"]], [70.0, 50.0])
    assert_allclose(found["harmonic_of_means"], 2 * 70 * 50 / 120)
    assert_allclose(found["mean_of_harmonics"], (45.0 + 2 * 50 * 70 / 120) / 2)
    with pytest.raises(DataError, match="no results"):
        average([])
