"""Heads on pooled features, learned visual prompts and ensembles: scores, and the way to a directory and back."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_models import random_images, random_params

from clipjax.classify.classifier import Classifier
from clipjax.classify.embed import embed_images, score_images, score_members
from clipjax.classify.ensemble import Ensemble
from clipjax.classify.saved import load_classifier, save_classifier
from clipjax.errors import CheckpointError, ConfigError
from clipjax.weights.load import load

NAMES = ("cat", "dog", "owl")


def numbers(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.fixture
def plain(small):
    model, params, _ = small
    return Classifier(model, params, NAMES, numbers(3, 16), {"method": "a"})


@pytest.fixture
def head(small):
    model, _, _ = small
    params = random_params(model, seed=5)
    return Classifier(
        model, params, NAMES, numbers(3, 32, seed=1), {"method": "b"}, bias=numbers(3, seed=2), features="pooled"
    )


@pytest.fixture
def prompted(small):
    model, params, _ = small
    return Classifier(model, params, NAMES, numbers(3, 16), visual_prompts=numbers(3, 4, 32, seed=3))


def test_a_head_on_pooled_features_is_linear(head):
    images = random_images(head.model)
    pooled = head.model.image_features(head.params, images).pooled
    assert_allclose(head.scores(images), pooled @ head.class_weights.T + head.bias, rtol=1e-4, atol=1e-4)
    assert_allclose(head.scores_of(2 * pooled), 2 * (pooled @ head.class_weights.T) + head.bias, rtol=1e-4, atol=1e-4)


def test_visual_prompts_are_seen_by_the_tower(prompted, plain):
    images = random_images(prompted.model)
    embedded = prompted.model.encode_image(prompted.params, images, visual_prompts=prompted.visual_prompts)
    assert_allclose(prompted.scores(images), plain.scores_of(embedded), rtol=1e-5)
    assert not np.allclose(prompted.scores(images), plain.scores(images), atol=1e-2)


def test_an_ensemble_holds_for_likely_what_its_members_do_on_average(plain, head):
    images = random_images(plain.model, 5)
    both = Ensemble((plain, head))
    mean = (jax.nn.softmax(plain.scores(images)) + jax.nn.softmax(head.scores(images))) / 2
    assert_allclose(jax.nn.softmax(both.scores(images)), mean, atol=1e-6)
    assert_allclose(jnp.exp(both.scores(images)), mean, atol=1e-6)


def test_the_golden_mean_of_two(shared_data):
    from clipjax.classify.ensemble import mean_vote

    golden = np.load(shared_data / "golden/losses/coft_fft.npz")
    logits = jnp.stack([jnp.asarray(golden[name], jnp.float32) for name in ("in_logits", "in_logits_model2")])
    assert_allclose(jnp.exp(mean_vote(logits)), golden["out_ensemble_prob"], atol=1e-6)
    assert_array_equal(jnp.argmax(mean_vote(logits), axis=1), golden["out_ensemble_pred"])


def test_an_ensemble_of_one_is_that_one(head):
    images = random_images(head.model)
    assert_allclose(jax.nn.softmax(Ensemble((head,)).scores(images)), jax.nn.softmax(head.scores(images)), atol=1e-6)


def test_scores_far_apart_stay_finite(plain):
    loud = dataclasses.replace(plain, class_weights=1e4 * plain.class_weights)
    assert np.isfinite(Ensemble((loud, plain)).scores(random_images(plain.model))).all()


def test_members_of_other_classes_or_other_images_are_refused(plain, small):
    with pytest.raises(ConfigError, match="different classes"):
        Ensemble((plain, dataclasses.replace(plain, class_names=("a", "b", "c"))))
    other = plain.model.replace(config=dataclasses.replace(plain.model.config, mean=(0.0, 0.0, 0.0)))
    with pytest.raises(ConfigError, match="prepare images differently"):
        Ensemble((plain, dataclasses.replace(plain, model=other)))
    with pytest.raises(ConfigError, match="without members"):
        Ensemble(())


def test_sources_are_scored_in_batches_as_their_embeddings_are(plain, pictures):
    source = pictures(7, bad=(2,))
    scores, rows, skipped = score_images(plain, source, batch_size=3, skip_bad=True)
    embedded, same_rows, _ = embed_images(plain.model, plain.params, source, batch_size=3, skip_bad=True)
    assert_array_equal(rows, same_rows)
    assert [bad.id for bad in skipped] == [source.ids[2]]
    assert_allclose(scores, plain.scores_of(embedded), rtol=1e-5, atol=1e-5)


def test_members_are_scored_once_and_vote_as_the_ensemble_does(plain, head, pictures):
    source, both = pictures(5), Ensemble((plain, head))
    scores, members, rows = score_members(both, source)
    assert_array_equal(rows, range(5))
    assert_allclose(scores, score_images(both, source)[0], rtol=1e-5, atol=1e-5)
    for member, found in zip(both.members, members, strict=True):
        assert_allclose(found, score_images(member, source)[0], rtol=1e-5, atol=1e-5)
    alone, none, _ = score_members(plain, source)
    assert_array_equal(alone, score_images(plain, source)[0])
    assert none == []


def test_another_compute_type_reaches_every_member(plain, head):
    found = Ensemble((plain, head)).with_dtype("bfloat16")
    assert [member.model.dtype for member in found.members] == ["bfloat16"] * 2


@pytest.mark.parametrize("kind", ["head", "prompted", "ensemble"])
def test_what_was_saved_scores_the_same(kind, plain, head, prompted, small, tmp_path):
    made = {"head": head, "prompted": prompted, "ensemble": Ensemble((head, prompted), {"method": "both"})}[kind]
    save_classifier(tmp_path / "model", made, small[2])
    found = load_classifier(tmp_path / "model")
    images = random_images(plain.model)
    assert type(found) is type(made)
    assert found.class_names == NAMES and found.provenance == made.provenance
    assert_array_equal(found.scores(images), made.scores(images))
    save_classifier(tmp_path / "model", plain, small[2], overwrite=True)
    assert isinstance(load_classifier(tmp_path / "model"), Classifier)


def test_an_ensemble_loads_as_the_checkpoint_of_its_first_member(plain, head, small, tmp_path):
    save_classifier(tmp_path / "model", Ensemble((head, plain)), small[2])
    _, params = load(tmp_path / "model")
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(head.params), strict=True):
        assert_array_equal(a, b)


def test_a_member_that_is_gone_is_named(plain, head, small, tmp_path):
    save_classifier(tmp_path / "model", Ensemble((plain, head)), small[2])
    (tmp_path / "model/member-2/classifier.json").unlink()
    with pytest.raises(CheckpointError, match="member-2: holds no classifier"):
        load_classifier(tmp_path / "model")


def test_a_member_of_something_else_is_refused_with_the_place(plain, head, small, tmp_path):
    save_classifier(tmp_path / "model", Ensemble((plain, head)), small[2])
    note = tmp_path / "model/member-2/classifier.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"class_names": ["a", "b", "c"]}))
    with pytest.raises(CheckpointError, match=r"model: the classifier is damaged .*different classes"):
        load_classifier(tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "words"), [({"features": "both"}, "features 'both'"), ({"features": "embedding"}, "does not fit 3")]
)
def test_a_note_that_does_not_fit_is_refused(head, small, tmp_path, change, words):
    save_classifier(tmp_path / "model", head, small[2])
    note = tmp_path / "model/classifier.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | change))
    with pytest.raises(CheckpointError, match=words):
        load_classifier(tmp_path / "model")


def test_prompts_of_another_tower_are_refused(prompted, small, tmp_path):
    wrong = dataclasses.replace(prompted, visual_prompts=numbers(2, 4, 32))
    save_classifier(tmp_path / "model", wrong, small[2])
    with pytest.raises(CheckpointError, match="no prompts of this image tower"):
        load_classifier(tmp_path / "model")
