"""CoOp and KgCoOp, which is CoOp with a price."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose

import clipjax
from clipjax.methods import coop, kgcoop, learned_contexts
from clipjax.methods.cached_shots import Views, cached_shots
from clipjax.training.run import Run

QUICK = {"epochs": 15, "batch_size": 8, "views": {"count": 0}, "optimizer": {"lr": 0.5}}


@pytest.fixture(scope="module")
def shots(problem):
    return cached_shots(problem, Views(0), Run(), 0)


def loss(classifier, shots):
    scores = np.asarray(classifier.scores_of(shots.plain), np.float64)
    return np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(len(scores)), shots.labels])


@pytest.fixture(scope="module")
def learned(problem):
    return clipjax.adapt("coop", problem, contexts=4, **QUICK)


def test_contexts_learn_the_labels(problem, learned, shots):
    assert loss(learned, shots) < loss(problem.zero_shot, shots) - 0.05
    assert learned.head.arrays["contexts"].shape == (4, 24)


def test_a_high_price_keeps_the_class_weights_at_the_prompts(problem, learned):
    found = clipjax.adapt("kgcoop", problem, knowledge=100.0, **QUICK | {"optimizer": {"lr": 0.005}})
    moved = lambda classifier: np.linalg.norm(classifier.class_weights - problem.zero_shot.class_weights)
    assert moved(found) < 0.2 * moved(learned)
    assert isinstance(kgcoop.Config(), coop.Config) and kgcoop.Config().knowledge == 8.0


def test_classes_in_parts_give_the_same_contexts(problem, learned, monkeypatch):
    monkeypatch.setattr(learned_contexts, "TEXTS_AT_ONCE", 1)
    again = clipjax.adapt("coop", problem, contexts=4, **QUICK)
    assert_allclose(again.class_weights, learned.class_weights, atol=1e-3)


def test_a_class_without_a_shot_is_named(problem):
    shots = problem.shots.where(classname=["red", "green"])
    with pytest.raises(clipjax.ClipjaxError, match="the class 'blue' has no image"):
        clipjax.adapt("coop", dataclasses.replace(problem, shots=shots))
