import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose

import clipjax
from clipjax.classify.embed import embed_images
from clipjax.errors import DataError


def test_plain_colours_are_told_apart(problem, accuracy):
    assert accuracy(clipjax.adapt("linear_probe", problem)) == 1.0


def test_scores_are_the_regression_s_own(problem, test_pictures):
    probe = clipjax.adapt("linear_probe", problem)
    rows, _, _ = embed_images(problem.model, problem.params, test_pictures, batch_size=30)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    scale = np.exp(problem.params["logit_scale"])
    expected = scale * rows @ np.asarray(probe.class_weights).T + np.asarray(probe.bias)
    assert_allclose(probe.scores_of(rows), expected, rtol=1e-5, atol=1e-5)


def test_class_without_an_image_is_named(problem):
    shots = problem.shots.where(classname=["red", "green"])
    with pytest.raises(DataError, match="the class 'blue' has no image"):
        clipjax.adapt("linear_probe", dataclasses.replace(problem, shots=shots))


def test_shots_are_needed(problem):
    with pytest.raises(DataError, match="learns from labelled images"):
        clipjax.adapt("linear_probe", dataclasses.replace(problem, shots=None))


def test_embeddings_are_made_once_for_a_run(problem, tmp_path, monkeypatch):
    first = clipjax.adapt("linear_probe", problem, folder=tmp_path / "run")
    assert len(list((tmp_path / "run" / "embeddings").glob("*.npz"))) == 1
    monkeypatch.setattr(type(problem.model), "encode_image", None)
    again = clipjax.adapt("linear_probe", problem, folder=tmp_path / "run")
    np.testing.assert_array_equal(first.class_weights, again.class_weights)
