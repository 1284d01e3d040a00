import dataclasses

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import clipjax
from clipjax.data.source import UNKNOWN
from clipjax.errors import ConfigError, DataError
from clipjax.losses import clip_loss
from clipjax.methods.contrastive import Contrastive
from clipjax.methods.finetune import ClassCaptions, prompt_tokens
from clipjax.methods.pseudo_labels import pseudo_labels
from clipjax.parallel.mesh import make_mesh

FEW_STEPS = {"epochs": 4, "batch_size": 12, "flip": 0.0, "optimizer": {"lr": 3e-3}}


def test_labels_teach_the_classes(problem, accuracy):
    tuned = clipjax.adapt("finetune", problem, labels="given", **FEW_STEPS)
    assert accuracy(tuned) > max(0.9, accuracy(problem.zero_shot))


def test_without_shots_no_label_is_seen(problem):
    blind = dataclasses.replace(problem, shots=None)
    erased = dataclasses.replace(blind.images, labels=blind.images.labels * 0 + UNKNOWN)
    first, second = (
        clipjax.adapt("finetune", p, epochs=1, batch_size=12)
        for p in (blind, dataclasses.replace(blind, images=erased))
    )
    for a, b in zip(jax.tree.leaves(first.params), jax.tree.leaves(second.params)):
        assert_array_equal(a, b)


@pytest.mark.parametrize("devices", [1, 2])
def test_rows_of_one_class_as_negatives_are_plain_infonce(problem, devices):
    images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
    labels = np.array([0, 1, 1, 0], np.int32)
    contrastive = Contrastive(problem.model, make_mesh(devices=jax.devices()[:devices]))
    frozen = {"params": {}, **prompt_tokens(problem)}
    batch = {"images": images, "labels": labels}
    key = jax.random.key(0)
    found = {
        negatives: jax.jit(ClassCaptions(contrastive, negatives))(problem.params, frozen, {}, batch, key, 0)[0]
        for negatives in (True, False)
    }
    image = problem.model.encode_image(problem.params, images)
    text = problem.model.encode_text(problem.params, frozen["prompts"][labels, 0])
    scale = np.exp(problem.params["logit_scale"])
    assert_allclose(found[True], clip_loss(image, text, scale), rtol=1e-5)
    assert not np.isclose(found[True], found[False], rtol=1e-3)


def test_trainable_patterns_leave_the_rest_alone(problem):
    tuned = clipjax.adapt("finetune", problem, trainable=("vision/",), epochs=1, batch_size=12)
    before, after = problem.params, tuned.params
    for a, b in zip(jax.tree.leaves(before["text"]), jax.tree.leaves(after["text"])):
        assert_array_equal(a, b)
    assert not np.array_equal(before["vision"]["class_embedding"], after["vision"]["class_embedding"])


def test_mix_of_zero_is_the_zero_shot_classifier(problem):
    mixed = clipjax.adapt("finetune", problem, mix=0.0, epochs=1, batch_size=12)
    assert_array_equal(mixed.class_weights, problem.zero_shot.class_weights)


def test_repeated_call_reads_what_the_first_wrote(problem, tmp_path):
    settings = {"folder": tmp_path / "run", "epochs": 1, "batch_size": 12}
    first, second = (clipjax.adapt("finetune", problem, **settings) for _ in range(2))
    assert_array_equal(first.class_weights, second.class_weights)
    steps = [line for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines() if line]
    assert len(steps) == 1


def test_given_labels_need_shots(problem):
    with pytest.raises(DataError, match="learns from labelled images"):
        clipjax.adapt("finetune", dataclasses.replace(problem, shots=None), labels="given")


def test_unknown_setting_is_named_with_a_hint(problem):
    with pytest.raises(ConfigError, match=r"unknown setting optimizer\.lrr; did you mean 'lr'"):
        clipjax.adapt("finetune", problem, optimizer={"lrr": 1.0})


def test_batch_larger_than_the_source_is_refused(problem):
    with pytest.raises(DataError, match="24 images"):
        clipjax.adapt("finetune", problem, batch_size=32)


def test_most_confident_images_of_each_predicted_class_are_kept():
    scores = np.array([[5.0, 0], [1.0, 0], [3.0, 0], [0, 0.5], [2.0, 0]])
    rows, labels = pseudo_labels(scores, confident=0.5)
    assert_array_equal(rows, [0, 2, 3])
    assert_array_equal(labels, [0, 0, 1])


def test_prompts_of_unequal_number_are_padded_with_copies(problem):
    uneven = dataclasses.replace(problem, prompts=(("red", "a red one"), ("green",), ("blue",)))
    found = prompt_tokens(uneven)
    assert_array_equal(found["counts"], [2, 1, 1])
    assert_array_equal(found["prompts"][1, 0], found["prompts"][1, 1])
    assert not np.array_equal(found["prompts"][0, 0], found["prompts"][0, 1])
