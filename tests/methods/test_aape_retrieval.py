"""Queries made of images, against captions."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from clipjax.errors import ConfigError
from clipjax.evaluation.retrieval import recall_at_k
from clipjax.methods.aape.config import Aggregation
from clipjax.methods.aape.retrieval import QueryConfig, learn_queries, queries
from clipjax.methods.cached_shots import padded
from clipjax.parallel.mesh import make_mesh
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run

RUN = Run(mesh=make_mesh(devices=jax.devices()[:1]))
QUICK = {"hidden": 32, "epochs": 60.0, "batch_size": 16, "optimizer": Optimizer("adam", lr=1e-2), "temperature": 0.1}


@pytest.fixture(scope="module")
def pairs():
    """Images, and two captions of each on the other side of a rotation: similar, but not to the image."""
    draw = np.random.default_rng(0)
    unit = lambda x: (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
    images = unit(draw.normal(size=(48, 8)))
    turned = np.linalg.qr(draw.normal(size=(8, 8)))[0]
    rows = unit(np.repeat(images @ turned, 2, axis=0) + 0.2 * draw.normal(size=(96, 8)))
    return images, padded(rows, [2] * 48)


def recall(rows, captions):
    flat = captions.rows.reshape(-1, captions.rows.shape[-1])
    return recall_at_k(np.asarray(rows) @ flat.T, np.repeat(np.arange(len(rows)), 2), 1)[0]


@pytest.mark.parametrize("form", ["literal", "residual"])
def test_queries_find_the_captions_of_their_images(pairs, form):
    images, captions = pairs
    config = QueryConfig(form=form, aggregation=Aggregation(kind="mean"), weight=1.0, **QUICK)
    found = queries(learn_queries(images, captions, config, RUN), images)
    assert recall(found, captions) > recall(images, captions) + 0.3


def test_residual_form_starts_near_the_image_and_the_literal_one_does_not(pairs):
    images, captions = pairs
    settings = QUICK | {"epochs": 0.1, "optimizer": Optimizer("adam", lr=0.0)}
    mean = Aggregation(kind="mean")
    learn = lambda form, alpha: learn_queries(
        images, captions, QueryConfig(form=form, aggregation=mean, alpha=alpha, **settings), RUN
    )
    assert_allclose(queries(learn("residual", 0.0), images), images, atol=1e-5)
    assert np.abs(np.sum(np.asarray(queries(learn("literal", 0.0), images)) * images, axis=1)).mean() < 0.9


@pytest.mark.parametrize("change", [{"alpha": 0.9}, {"hidden": 16}, {"form": "literal"}])
def test_a_run_of_other_settings_is_another_run_in_the_same_directory(pairs, change, tmp_path):
    images, captions = pairs
    settings = QUICK | {"form": "residual", "epochs": 1.0, "aggregation": Aggregation(kind="mean")}
    run = Run(mesh=RUN.mesh, folder=tmp_path)
    first = learn_queries(images, captions, QueryConfig(**settings), run)
    again = learn_queries(images, captions, QueryConfig(**settings), run)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    other = learn_queries(images, captions, QueryConfig(**settings | change), run)
    alone = learn_queries(images, captions, QueryConfig(**settings | change), RUN)
    jax.tree.map(np.testing.assert_array_equal, other, alone)


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"seed": -1}, {"weight": -1.0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        QueryConfig(**settings)
