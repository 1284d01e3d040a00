"""CoFT as a whole, on a small problem."""

import dataclasses

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_models import VIT, small_clip

import clipjax
from clipjax.classify.embed import score_images
from clipjax.classify.ensemble import Ensemble
from clipjax.classify.problem import Student
from clipjax.data.source import UNKNOWN
from clipjax.errors import ConfigError, DataError
from clipjax.methods.coft import Config
from clipjax.parallel.mesh import make_mesh
from clipjax.training.checkpoints import Keeping
from clipjax.training.run import Run

QUICK = {
    "contexts": 4,
    "visual_prompts": 2,
    "seeds_per_class": 4,
    "prompt_epochs": 1,
    "least_prompt_steps": 12,
    "prompt_optimizer": {"lr": 0.1},
    "tune_epochs": 2,
    "batch_size": 12,
    "tune_optimizer": {"lr": 0.01},
}
PLUS = QUICK | {"rounds": 2, "contrast_weight": 0.1, "momentum": 0.9}


@pytest.fixture(scope="module")
def unlabelled(problem):
    return dataclasses.replace(problem, shots=None)


@pytest.fixture(scope="module")
def adapted(unlabelled):
    return clipjax.adapt("coft", unlabelled, **QUICK)


@pytest.fixture(scope="module")
def adapted_plus(unlabelled):
    return clipjax.adapt("coft", unlabelled, **PLUS)


def assert_same(first, second):
    for a, b in zip(first.members, second.members, strict=True):
        assert_array_equal(a.class_weights, b.class_weights)
        for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params)):
            assert_array_equal(x, y)


def test_two_towers_vote_and_the_text_side_stays(unlabelled, adapted, test_pictures):
    assert isinstance(adapted, Ensemble) and len(adapted.members) == 2
    for member in adapted.members:
        assert member.features == "pooled" and member.class_weights.shape == (3, 32)
        for a, b in zip(jax.tree.leaves(unlabelled.params["text"]), jax.tree.leaves(member.params["text"])):
            assert_array_equal(a, b)
        assert not np.allclose(
            member.params["vision"]["class_embedding"], unlabelled.params["vision"]["class_embedding"], atol=1e-6
        )
    assert not np.allclose(adapted.members[0].class_weights, adapted.members[1].class_weights, atol=1e-3)
    assert np.isfinite(score_images(adapted, test_pictures)[0]).all()


def test_the_towers_learn_what_was_accepted(problem, accuracy_of_scores):
    tuned = clipjax.adapt("coft", problem, **QUICK | {"labels": "noisy", "validation": "none", "tune_epochs": 40})
    assert accuracy_of_scores(tuned) > 0.9
    assert all(accuracy_of_scores(member) > 0.9 for member in tuned.members)


@pytest.fixture
def accuracy_of_scores(test_pictures):
    """A function that measures anything that scores images, on other pictures."""
    return lambda found: np.mean(score_images(found, test_pictures)[0].argmax(1) == test_pictures.labels)


def _pixels(problem):
    return [clipjax.preprocess(problem.images.image(i), 16) for i in range(len(problem.images))]


def test_what_can_be_said_without_labels_is_said(adapted, adapted_plus):
    for found in (adapted, adapted_plus):
        said = found.provenance
        assert said["images"] == 24 and len(said["accepted"]) == 2 and 0 <= said["models_agree"] <= 1
        assert [sum(bins) for bins in said["clean_of_proposals"]] == [24, 24]
    assert adapted.members[0].provenance["accepted"] == round(adapted.provenance["accepted"][0] * 24)


@pytest.mark.parametrize("settings", [QUICK, PLUS], ids=["coft", "plus"])
def test_no_label_is_seen(unlabelled, adapted, adapted_plus, settings):
    images = unlabelled.images
    erased = dataclasses.replace(images, labels=images.labels * 0 + UNKNOWN, classnames=("",) * 24)
    other = clipjax.adapt("coft", dataclasses.replace(unlabelled, images=erased), **settings)
    assert_same(other, adapted if settings is QUICK else adapted_plus)


@pytest.mark.parametrize(
    ("stage", "step"), [("prompts-1-2", 7), ("prompts-2-1", 1), ("embedding images", 0), ("tune-1", 2), ("tune-2", 3)]
)
def test_a_run_killed_anywhere_goes_on_to_the_same_bits(unlabelled, adapted_plus, tmp_path, stage, step):
    def killed(items, label, **_):
        for number, item in enumerate(items):
            if label == stage and number == step:
                raise KeyboardInterrupt
            yield item

    keeping = Keeping(every=2)
    with pytest.raises(KeyboardInterrupt):
        clipjax.adapt("coft", unlabelled, run=Run(folder=tmp_path, keeping=keeping, progress=killed), **PLUS)
    resumed = clipjax.adapt("coft", unlabelled, run=Run(folder=tmp_path, keeping=keeping), **PLUS)
    assert_same(resumed, adapted_plus)


@pytest.mark.parametrize(("devices", "fsdp"), [(1, 1), pytest.param(4, 2, marks=pytest.mark.slow)])
def test_any_number_of_devices_gives_the_same(unlabelled, adapted_plus, devices, fsdp):
    mesh = make_mesh(devices=jax.devices()[:devices], fsdp=fsdp)
    other = clipjax.adapt("coft", unlabelled, run=Run(mesh=mesh), **PLUS)
    assert other.provenance["accepted"] == adapted_plus.provenance["accepted"]
    for a, b in zip(other.members, adapted_plus.members):
        assert_allclose(a.class_weights, b.class_weights, atol=1e-4)


def test_a_repeated_run_is_only_read(unlabelled, tmp_path):
    first = clipjax.adapt("coft", unlabelled, folder=tmp_path / "run", **QUICK)
    entries = (tmp_path / "run/metrics.jsonl").read_text()
    assert '"clean_label"' in entries and '"loss_accepted"' in entries
    assert_same(first, clipjax.adapt("coft", unlabelled, folder=tmp_path / "run", **QUICK))
    assert (tmp_path / "run/metrics.jsonl").read_text() == entries


def test_what_a_model_learns_does_not_depend_on_the_other(unlabelled):
    one = {"models": 1, "validation": "self", "finetune": False, "prompt_optimizer": {"lr": 0.1, "clip_norm": 0.05}}
    alone = clipjax.adapt("coft", unlabelled, **QUICK | one)
    both = clipjax.adapt("coft", unlabelled, **QUICK | one | {"models": 2})
    assert_array_equal(alone.members[0].class_weights, both.members[0].class_weights)
    assert_array_equal(alone.members[0].visual_prompts, both.members[0].visual_prompts)
    assert not np.allclose(both.members[0].class_weights, both.members[1].class_weights, atol=1e-3)


def test_the_prompted_models_alone_are_a_classifier(unlabelled, test_pictures):
    found = clipjax.adapt("coft", unlabelled, **QUICK | {"finetune": False})
    for member in found.members:
        assert member.visual_prompts.shape == (3, 2, 32)
        for a, b in zip(jax.tree.leaves(unlabelled.params), jax.tree.leaves(member.params)):
            assert_array_equal(a, b)
    assert np.isfinite(score_images(found, test_pictures)[0]).all()
    assert "accepted" in found.provenance


@pytest.mark.parametrize(
    "settings",
    [
        {"models": 1, "validation": "self"},
        {"validation": "confidence", "threshold": 0.3},
        {"validation": "none", "head_input": "projected", "head_start": "text", "tuned": ("vision/blocks/",)},
        {"validation": "confidence", "threshold": 0.0, "visual_prompts": 0, "detached": "both"},
    ],
    ids=str,
)
def test_baselines_and_variants_run(unlabelled, settings):
    found = clipjax.adapt("coft", unlabelled, **QUICK | settings)
    assert len(found.members) == settings.get("models", 2)
    assert np.isfinite(found.scores(np.stack(_pixels(unlabelled)))).all()
    if settings["validation"] == "none":
        assert found.provenance["accepted"] == [1.0, 1.0]
        old, new = unlabelled.params["vision"], found.members[0].params["vision"]
        assert_array_equal(old["class_embedding"], new["class_embedding"])


def test_another_backbone_can_be_taught(unlabelled, adapted):
    model, params = small_clip(vision=dataclasses.replace(VIT, image_size=24, width=16, mlp_width=24), embed_dim=8)
    taught = dataclasses.replace(unlabelled, student=Student(model, params))
    found = clipjax.adapt("coft", taught, **QUICK)
    assert found.members[0].class_weights.shape == (3, 16) and found.model.config.image_size == 24
    assert found.provenance["accepted"] == adapted.provenance["accepted"]
    assert taught.identity != unlabelled.identity
    other = model.replace(config=dataclasses.replace(model.config, mean=(0.0, 0.0, 0.0)))
    assert dataclasses.replace(taught, student=Student(other, params)).identity != taught.identity
    with pytest.raises(ConfigError, match="head_start='random'"):
        clipjax.adapt("coft", taught, **QUICK | {"head_start": "text"})


def test_labelled_shots_join_and_are_never_rejected(problem):
    few = dataclasses.replace(problem, shots=problem.shots.select(range(6)))
    found = clipjax.adapt("coft", few, **QUICK)
    assert found.provenance["images"] == 30
    assert found.members[0].provenance["accepted"] >= 6


def test_noisy_labels_are_proposals(problem):
    found = clipjax.adapt("coft", problem, **QUICK | {"labels": "noisy", "validation": "none"})
    said = found.provenance
    assert said["images"] == 24 and said["accepted"] == [1.0, 1.0] and said["empty_classes"] == [0, 0]


def test_nothing_accepted_is_said_in_a_line(unlabelled):
    with pytest.raises(DataError, match="not one pseudo-label was accepted"):
        clipjax.adapt("coft", unlabelled, **QUICK | {"validation": "confidence", "threshold": 1.0})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"models": 1}, "one model has no peer"),
        ({"models": 3}, "models is 3"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"crop": 0.0}, "crop is 0.0; it must be above 0"),
        ({"contexts": 16}, "use at most 12 contexts"),
        ({"validation": "vote"}, "one of 'peer'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(unlabelled, settings, words):
    with pytest.raises(ConfigError, match=words):
        clipjax.adapt("coft", unlabelled, **QUICK | settings)


def test_the_defaults_are_coft_and_not_plus():
    assert Config().rounds == 1 and Config().contrast_weight == 0 and Config().validation == "peer"
