import dataclasses

import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

import clipjax
from clipjax.methods.cached_shots import Views, cached_shots
from clipjax.training.run import Run

PLAIN = {"views": {"count": 0}}


def test_scores_are_the_zero_shot_ones_plus_the_shots_votes(problem):
    found = clipjax.adapt("tip_adapter", problem, strength=2.0, sharpness=3.0, **PLAIN)
    shots = cached_shots(problem, Views(0), Run(), 0)
    rows = shots.plain[:4]
    votes = np.zeros((4, 3))
    for i, row in enumerate(rows):
        for key, label in zip(shots.plain, shots.labels):
            votes[i, label] += np.exp(-3.0 * (1 - row @ key))
    assert_allclose(found.scores_of(rows), np.asarray(problem.zero_shot.scores_of(rows)) + 2.0 * votes, rtol=1e-4)


def test_plain_colours_are_told_apart(problem, accuracy):
    assert accuracy(clipjax.adapt("tip_adapter", problem, strength=20.0, sharpness=50.0, **PLAIN)) > 0.9


def test_without_strength_it_is_zero_shot(problem, test_pictures):
    found = clipjax.adapt("tip_adapter", problem, strength=0.0, **PLAIN)
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(5, 16)))
    assert_allclose(found.scores_of(rows), problem.zero_shot.scores_of(rows), atol=1e-5)


def test_training_moves_the_keys_alone(problem):
    settings = {"finetune": True, "epochs": 3, "batch_size": 8, "sharpness": 50.0, **PLAIN}
    found = clipjax.adapt("tip_adapter", problem, **settings)
    start = clipjax.adapt("tip_adapter", problem, **PLAIN | {"sharpness": 50.0})
    assert not np.allclose(found.head.arrays["keys"], start.head.arrays["keys"], atol=1e-4)
    assert_array_equal(found.head.arrays["labels"], start.head.arrays["labels"])
    shots = cached_shots(problem, Views(0), Run(), 0)

    def loss(classifier):
        scores = np.asarray(classifier.scores_of(shots.plain), np.float64)
        return np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(24), shots.labels])

    assert loss(found) < loss(start)


def test_cache_comes_from_the_shots_of_the_problem(problem):
    half = dataclasses.replace(problem, shots=problem.shots.select(np.arange(12)))
    assert len(clipjax.adapt("tip_adapter", half, **PLAIN).head.arrays["keys"]) == 12
