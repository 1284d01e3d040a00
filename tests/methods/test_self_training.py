import dataclasses

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import clipjax
from clipjax.data.source import UNKNOWN
from clipjax.errors import DataError
from clipjax.methods.self_training import OwnLabels
from clipjax.parallel.mesh import make_mesh
from clipjax.training.run import Run

QUICK = {"confidence": 0.35, "epochs": 6, "batch_size": 12, "flip": 0.0, "optimizer": {"lr": 1e-3}}


def test_the_loss_is_the_cross_entropy_of_scores_and_labels(problem):
    images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
    labels = np.array([2, 0, 1, 1], np.int32)
    frozen = {"params": {}, "class_weights": problem.zero_shot.class_weights}
    objective = OwnLabels(problem.model, make_mesh(devices=jax.devices()[:1]))
    loss, (metrics, _) = objective(problem.params, frozen, {}, {"images": images, "labels": labels}, None, 0)
    scores = np.asarray(problem.zero_shot.scores(images), np.float64)
    wanted = np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(4), labels])
    assert_allclose(loss, wanted, rtol=1e-5)
    assert_allclose(metrics["agreement"], np.mean(scores.argmax(1) == labels))


def test_it_learns_from_what_it_is_sure_of_and_nothing_else(problem):
    blind = dataclasses.replace(problem, shots=None)
    erased = dataclasses.replace(blind.images, labels=blind.images.labels * 0 + UNKNOWN)
    first, second = (
        clipjax.adapt("self_training", p, **QUICK) for p in (blind, dataclasses.replace(blind, images=erased))
    )
    for a, b in zip(jax.tree.leaves(first.params), jax.tree.leaves(second.params)):
        assert_array_equal(a, b)
    rounds = first.provenance["rounds"]
    assert len(rounds) == 3 and all(0 < each["kept"] <= 24 for each in rounds)


def test_it_grows_surer_and_leaves_texts_and_class_weights_alone(problem):
    tuned = clipjax.adapt("self_training", problem, **QUICK)
    sureness = lambda c: jax.nn.softmax(c.scores_of(_embedded(c, problem))).max(1).mean()
    assert sureness(tuned) > sureness(problem.zero_shot)
    assert_array_equal(tuned.class_weights, problem.zero_shot.class_weights)
    for a, b in zip(jax.tree.leaves(problem.params["text"]), jax.tree.leaves(tuned.params["text"])):
        assert_array_equal(a, b)


def test_a_higher_threshold_keeps_fewer(problem):
    kept = [
        clipjax.adapt("self_training", problem, **{**QUICK, "rounds": 1, "confidence": c}).provenance["rounds"][0][
            "kept"
        ]
        for c in (0.0, 0.36)
    ]
    assert kept[0] == 24 and kept[1] < 24


def test_a_threshold_that_nothing_reaches_is_refused_with_a_remedy(problem):
    with pytest.raises(DataError, match=r"none of 24 images .* the surest with 0\.\d\d; set a lower `confidence`"):
        clipjax.adapt("self_training", problem, **{**QUICK, "confidence": 1.0})


def test_any_number_of_devices_gives_the_same(problem):
    settings = QUICK | {"optimizer": {"name": "sgd", "lr": 0.03}, "rounds": 2}
    one, many = (
        clipjax.adapt("self_training", problem, run=Run(mesh=make_mesh(devices=jax.devices()[:n])), **settings)
        for n in (1, 2)
    )
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(many.params)):
        assert_allclose(a, b, atol=1e-5)


def test_a_repeated_run_is_only_read(problem, tmp_path):
    first = clipjax.adapt("self_training", problem, folder=tmp_path / "run", **QUICK)
    entries = (tmp_path / "run" / "metrics.jsonl").read_text()
    again = clipjax.adapt("self_training", problem, folder=tmp_path / "run", **QUICK)
    for a, b in zip(jax.tree.leaves(first.params), jax.tree.leaves(again.params)):
        assert_array_equal(a, b)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == entries


def _embedded(classifier, problem):
    from clipjax.classify.embed import embed_images

    return embed_images(classifier.model, classifier.params, problem.images)[0]
