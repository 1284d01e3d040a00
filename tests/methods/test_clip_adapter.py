import numpy as np
from numpy.testing import assert_allclose

import clipjax
from clipjax.methods.cached_shots import Views, cached_shots
from clipjax.training.run import Run

QUICK = {"epochs": 20, "batch_size": 8, "views": {"count": 0}, "optimizer": {"name": "adam", "lr": 0.01}}


def test_labels_are_learnt(problem):
    found = clipjax.adapt("clip_adapter", problem, **QUICK | {"ratio": 0.5})
    shots = cached_shots(problem, Views(0), Run(), 0)

    def loss(classifier):
        scores = np.asarray(classifier.scores_of(shots.plain), np.float64)
        return np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(24), shots.labels])

    assert loss(found) < loss(problem.zero_shot) - 0.05


def test_embeddings_are_a_mixture_with_the_network_s(problem):
    found = clipjax.adapt("clip_adapter", problem, **QUICK | {"epochs": 1})
    rows = np.random.default_rng(0).normal(size=(4, 16))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    w1, w2 = (np.asarray(found.head.arrays[name], np.float64) for name in ("w1", "w2"))
    mixed = 0.2 * np.maximum(np.maximum(rows @ w1, 0) @ w2, 0) + 0.8 * rows
    cosines = mixed / np.linalg.norm(mixed, axis=1, keepdims=True) @ np.asarray(found.class_weights).T
    assert_allclose(found.scores_of(rows), np.exp(problem.params["logit_scale"]) * cosines, rtol=1e-4, atol=1e-4)


def test_without_a_share_it_is_zero_shot(problem):
    found = clipjax.adapt("clip_adapter", problem, **QUICK | {"epochs": 1, "ratio": 0.0})
    rows = np.random.default_rng(0).normal(size=(4, 16))
    assert_allclose(found.scores_of(rows), problem.zero_shot.scores_of(rows), atol=1e-5)
