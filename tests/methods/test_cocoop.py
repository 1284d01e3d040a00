import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import clipjax
from clipjax.classify import heads
from clipjax.classify.saved import load_classifier, save_classifier
from clipjax.models.conditioned import generate
from clipjax.parallel.mesh import make_mesh
from clipjax.training.run import Run

QUICK = {"epochs": 2, "batch_size": 4, "views": {"count": 0}, "optimizer": {"lr": 0.02}}


@pytest.fixture(scope="module")
def learned(problem):
    return clipjax.adapt("cocoop", problem, **QUICK)


@pytest.fixture
def rows():
    rows = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_each_image_reads_the_class_names_behind_its_own_contexts(problem, learned, rows):
    arrays, tokens = learned.head.arrays, learned.head.arrays["tokens"]
    found = np.asarray(learned.scores_of(rows))
    for row, scores in zip(rows, found):
        shifted = arrays["contexts"] + generate(arrays, jnp.asarray(row[None]))
        embedded = np.array(problem.model.embed_tokens(problem.params, tokens))
        embedded[:, 1 : 1 + len(shifted)] = shifted
        texts = np.array(problem.model.encode_text(problem.params, tokens, token_embeddings=jnp.asarray(embedded)))
        texts /= np.linalg.norm(texts, axis=1, keepdims=True)
        assert_allclose(scores, np.exp(problem.params["logit_scale"]) * texts @ row, atol=1e-3)


def test_classes_in_parts_score_the_same(problem, learned, rows, monkeypatch):
    monkeypatch.setattr(heads, "CLASSES_AT_ONCE", 2)
    in_parts = jax.jit(lambda rows: learned.head.scores(problem.model, problem.params, rows, learned.class_weights))
    assert "length=2" in str(jax.make_jaxpr(in_parts)(rows))
    assert_allclose(in_parts(rows), learned.scores_of(rows), atol=1e-4)


@pytest.mark.parametrize(("images", "classes"), [(1, 3), (2, 3), (1, 2)])
def test_text_tower_runs_twice_only_where_memory_asks_for_it(problem, learned, rows, monkeypatch, images, classes):
    monkeypatch.setattr(heads, "CLASSES_AT_ONCE", classes)
    model = problem.model.replace(remat="none")
    scores = lambda rows: learned.head.scores(model, problem.params, rows, learned.class_weights)
    program = str(jax.make_jaxpr(scores)(rows[:images]))
    assert ("remat" in program) == (images > 1 or classes < 3)


def test_contexts_and_network_both_learn(problem, learned):
    start = clipjax.adapt("cocoop", problem, **QUICK | {"optimizer": {"lr": 0.0}})
    for name in ("contexts", "w1", "w2"):
        assert not np.array_equal(start.head.arrays[name], learned.head.arrays[name]), name


def test_one_device_learns_what_four_do(problem, learned):
    alone = Run(mesh=make_mesh(devices=jax.devices()[:1]))
    found = clipjax.adapt("cocoop", problem, run=alone, **QUICK)
    for name, array in found.head.arrays.items():
        assert_allclose(learned.head.arrays[name], array, rtol=1e-3, atol=1e-4, err_msg=name)


def test_it_is_saved_and_read_again(problem, learned, rows, tmp_path):
    save_classifier(tmp_path / "model", learned, problem.tokenizer)
    assert_allclose(load_classifier(tmp_path / "model").scores_of(rows), learned.scores_of(rows), atol=1e-3)
