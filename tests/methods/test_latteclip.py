"""LatteCLIP: one step against a naive reference and its properties, then the whole method on a small problem."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import clipjax
from clipjax.errors import ConfigError, DataError
from clipjax.methods.latteclip import Rules, mixer_weights, objective
from clipjax.methods.latteclip.step import LatteStep
from clipjax.methods.latteclip.watch import unwatched
from clipjax.parallel.mesh import make_mesh
from clipjax.texts.collected import Texts
from clipjax.training.checkpoints import Keeping
from clipjax.training.run import Run

ALPHA, SCALE = 0.01, 10.0


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def arrays(batch=8, classes=5, dim=8, seed=0):
    """Unit embeddings of images, class texts, captions and group captions, labels, prototypes and their snapshot."""
    draw = np.random.default_rng(seed)
    rows = lambda n: jnp.asarray(unit(draw.normal(size=(n, dim))), jnp.float32)
    # the last class never occurs
    labels = jnp.asarray(draw.integers(0, classes - 1, batch), jnp.int32)
    return rows(batch), rows(classes), rows(batch), rows(batch), labels, rows(classes), rows(classes)


def step(given, **options):
    return objective(*given, **({"alpha": ALPHA, "logit_scale": SCALE} | options))


def cross_entropy(logits):
    logits = logits - logits.max(1, keepdims=True)
    return -np.mean(np.diag(logits - np.log(np.exp(logits).sum(1, keepdims=True))))


def naive(given, texts=("class", "image", "group"), branches=("finetuned", "zero_shot"), renormalize=False):
    """Compute a step sample by sample, as the paper says it."""
    images, class_texts, captions, groups, z, prototypes, reference = (np.asarray(x, np.float64) for x in given)
    z = z.astype(int)

    def weight(text, kind):
        best = np.sort(reference @ text)[::-1]
        return (best[0] - best[1] + 1e-6) * (kind in texts)

    y = [int(np.argmax([image @ unit(p) for p in prototypes])) for image in images]
    losses, moved = {}, {c: [] for c in range(len(prototypes))}
    for branch, labels in (("finetuned", y), ("zero_shot", z)):
        targets = []
        for n, label in enumerate(labels):
            parts = [(class_texts[label], "class"), (captions[n], "image"), (groups[n], "group")]
            weights = [weight(text, kind) for text, kind in parts]
            mixed = sum(w * text for w, (text, _) in zip(weights, parts)) / sum(weights)
            mixed = unit(mixed) if renormalize else mixed
            targets.append(prototypes[label] + ALPHA * (mixed - prototypes[label]))
            if branch in branches:
                moved[label].append(targets[-1])
        logits = SCALE * images @ np.array(targets).T
        losses[branch] = (cross_entropy(logits) + cross_entropy(logits.T)) / 2
    after = [unit(np.mean(moved[c], 0)) if moved[c] else prototypes[c] for c in moved]
    return sum(losses[branch] for branch in branches), y, np.array(after)


CHOICES = [
    {},
    {"texts": ("image",)},
    {"texts": ("class", "group")},
    {"branches": ("zero_shot",)},
    {"branches": ("finetuned",), "renormalize": True},
]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_a_step_is_what_a_loop_over_samples_computes(choice):
    given = arrays()
    loss, out = step(given, rules=Rules(**choice))
    wanted_loss, wanted_labels, wanted_prototypes = naive(given, **choice)
    assert_array_equal(out["labels"], wanted_labels)
    assert_allclose(loss, wanted_loss, rtol=1e-5)
    assert_allclose(out["prototypes"], wanted_prototypes, atol=1e-6)


def test_without_a_step_of_prototypes_nothing_moves_and_texts_get_no_gradient():
    given = arrays()
    texts = given[1:4]
    of_texts = lambda class_texts, captions, groups: step(
        (given[0], class_texts, captions, groups, *given[4:]), alpha=0.0
    )
    gradients, out = jax.grad(of_texts, (0, 1, 2), has_aux=True)(*texts)
    assert_allclose(out["prototypes"], given[5], atol=1e-6)
    for gradient in gradients:
        assert_array_equal(gradient, 0)


def test_the_order_of_a_batch_does_not_matter_unless_as_released():
    given = arrays()
    order = np.random.default_rng(1).permutation(8)
    shuffled = tuple(x[order] if i in (0, 2, 3, 4) else x for i, x in enumerate(given))
    for mode, same in (("intended", True), ("released", False)):
        (loss, out), (other_loss, other) = step(given, mode=mode), step(shuffled, mode=mode)
        assert np.allclose(out["prototypes"], other["prototypes"], atol=1e-6) == same
        assert np.allclose(loss, other_loss, rtol=1e-6) == same


def test_prototypes_stay_of_unit_length_and_absent_classes_where_they_are():
    given = arrays(classes=12)
    _, out = step(given)
    assert_allclose(np.linalg.norm(out["prototypes"], axis=1), 1, atol=1e-6)
    absent = sorted(set(range(12)) - {*out["labels"].tolist(), *given[4].tolist()})
    assert absent
    assert_array_equal(out["prototypes"][np.array(absent)], given[5][np.array(absent)])


def test_equal_labels_make_equal_branches():
    given = arrays()
    labels = step(given)[1]["labels"]
    same = (*given[:4], labels, *given[5:])
    both, out = step(same)
    assert_allclose(out["loss_finetuned"], out["loss_zero_shot"], rtol=1e-6)
    alone = step(same, rules=Rules(branches=("finetuned",)))
    assert_allclose(both, 2 * alone[0], rtol=1e-6)
    assert_allclose(out["prototypes"], alone[1]["prototypes"], atol=1e-6)


def test_equal_label_weights_make_released_what_was_intended():
    given = arrays()
    # all class texts alike to the snapshot: one weight for every label
    same = (given[0], jnp.tile(given[1][:1], (5, 1)), *given[2:])
    (loss, out), (other_loss, other) = step(same), step(same, mode="released")
    assert_allclose(loss, other_loss, rtol=1e-6)
    assert_allclose(out["prototypes"], other["prototypes"], atol=1e-6)


def test_released_mode_needs_a_batch_as_large_as_the_embedding():
    with pytest.raises(ValueError, match="a batch of 7 and embeddings of 8"):
        step(arrays(batch=7), mode="released")


def test_a_text_between_two_prototypes_weighs_next_to_nothing():
    prototypes = jnp.eye(3, 4)
    texts = jnp.asarray([[1.0, 0, 0, 0], [1.0, 1.0, 0, 0]])
    assert_allclose(mixer_weights(texts, prototypes), [1 + 1e-6, 1e-6], rtol=1e-4)


# ---- the training step ----


def own_texts(model, count, seed):
    """A pool of one text for each owner, all different, and the texts."""
    tokens = np.random.default_rng(seed).integers(1, 1000, (count, 8)).astype(np.int32)
    tokens[:, -1] = model.config.text.eos_token_id
    return {"tokens": tokens, "starts": np.arange(count, dtype=np.int32), "counts": np.ones(count, np.int32)}, tokens


@pytest.mark.parametrize("reference", ["epoch", "current"])
def test_a_step_takes_each_image_s_own_texts_and_the_prototypes_of_the_epoch_s_start(problem, reference):
    model, params = problem.model, problem.params
    draw = np.random.default_rng(0)
    captions, caption_tokens = own_texts(model, 9, seed=1)
    groups, group_tokens = own_texts(model, 3, seed=2)
    _, prompts = own_texts(model, 3, seed=3)
    batch = {
        "images": draw.normal(size=(4, 16, 16, 3)).astype(np.float32),
        "indices": np.array([7, 2, 5, 0], np.int32),
        "labels": np.array([2, 0, 0, 1], np.int32),
    }
    frozen = {"params": {}, "alpha": np.float32(0.1), "prompts": prompts, "captions": captions, "groups": groups}
    latte = jax.jit(LatteStep(model, make_mesh(devices=jax.devices()[:1]), Rules(), (1, 1, 1), 2, reference))
    start = jnp.asarray(unit(draw.normal(size=(3, params["image_projection"]["kernel"].shape[1]))), jnp.float32)
    carry = {**dict.fromkeys(("prototypes", "reference", "first"), start), "watched": unwatched()}
    embedded = [
        unit(np.asarray(x))
        for x in (
            model.encode_image(params, batch["images"]),
            model.encode_text(params, prompts),
            model.encode_text(params, caption_tokens[batch["indices"]]),
            model.encode_text(params, group_tokens[batch["labels"]]),
        )
    ]
    prototypes, snapshot = start, None
    for number in range(4):  # epochs begin at 0 and 2
        snapshot = prototypes if number % 2 == 0 else snapshot
        loss, (metrics, carry) = latte(params, frozen, carry, batch, jax.random.key(number), number)
        wanted, out = objective(
            *embedded,
            jnp.asarray(batch["labels"]),
            prototypes,
            snapshot if reference == "epoch" else prototypes,
            alpha=0.1,
            logit_scale=jnp.exp(params["logit_scale"]),
        )
        prototypes = out["prototypes"]
        assert_allclose(loss, wanted, rtol=1e-5)
        assert_allclose(carry["prototypes"], prototypes, atol=1e-5)
        assert_allclose(metrics["agreement"], np.mean(np.asarray(out["labels"]) == batch["labels"]))
        assert_allclose(metrics["drift"], 1 - np.mean(np.sum(np.asarray(prototypes) * np.asarray(start), 1)), atol=1e-5)


# ---- the whole method ----

QUICK = {"epochs": 3, "batch_size": 12, "optimizer": {"lr": 1e-3}, "jitter": 0.0, "grayscale": 0.0}


@pytest.fixture
def written(problem):
    """The problem without labels, and a caption and a group caption of each image that name the class it looks like."""
    names = problem.class_names
    labels = problem.images.labels
    ids = problem.images.ids
    say = {name: f"a picture of a {names[label]}" for name, label in zip(ids, labels.tolist())}
    texts = Texts(
        {
            "caption": {(name,): (text,) for name, text in say.items()},
            "group_caption": {(name,): (f"{text} again", text) for name, text in say.items()},
        }
    )
    return dataclasses.replace(problem, shots=None, texts=texts)


def test_it_adapts_and_classifies_by_prototypes(written):
    tuned = clipjax.adapt("latteclip", written, **QUICK)
    assert tuned.class_weights.shape == written.zero_shot.class_weights.shape
    assert_allclose(np.linalg.norm(tuned.class_weights, axis=1), 1, atol=1e-5)
    assert not np.allclose(tuned.class_weights, written.zero_shot.class_weights)
    assert tuned.provenance["images"] == 24 and tuned.provenance["steps"] == 6


def test_no_label_is_seen(written):
    erased = dataclasses.replace(written.images, labels=written.images.labels * 0 - 1, classnames=("",) * 24)
    first, second = (
        clipjax.adapt("latteclip", p, **QUICK) for p in (written, dataclasses.replace(written, images=erased))
    )
    assert_array_equal(first.class_weights, second.class_weights)


@pytest.mark.parametrize("devices", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_any_number_of_devices_gives_the_same(written, devices):
    # Adam's steps have one size however small the gradient, and so make much of how sums are rounded
    settings = QUICK | {"optimizer": {"name": "sgd", "lr": 0.03}}
    one, many = (
        clipjax.adapt("latteclip", written, run=Run(mesh=make_mesh(devices=jax.devices()[:n])), **settings)
        for n in (1, devices)
    )
    assert_allclose(one.class_weights, many.class_weights, atol=1e-5)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(many.params)):
        assert_allclose(a, b, atol=1e-5)


def test_a_frozen_tower_and_one_kind_of_text(written):
    tuned = clipjax.adapt("latteclip", written, texts=["image"], trainable=("logit_scale",), **QUICK)
    for name in ("vision", "text"):
        for a, b in zip(jax.tree.leaves(written.params[name]), jax.tree.leaves(tuned.params[name])):
            assert_array_equal(a, b)
    assert not np.allclose(tuned.class_weights, written.zero_shot.class_weights)


def test_a_frozen_text_encoder_stays_as_it_is(written):
    tuned = clipjax.adapt("latteclip", written, trainable=("^vision/", "^image_projection/", "^logit_scale$"), **QUICK)
    for a, b in zip(jax.tree.leaves(written.params["text"]), jax.tree.leaves(tuned.params["text"])):
        assert_array_equal(a, b)
    assert not np.array_equal(written.params["vision"]["class_embedding"], tuned.params["vision"]["class_embedding"])


def test_a_stopped_run_goes_on_to_the_same_bits(written, tmp_path):
    whole = clipjax.adapt("latteclip", written, **QUICK)
    keeping = Keeping(every=2)

    def stop_at_four(items, **_):
        for number, item in enumerate(items):
            if number == 4:
                raise KeyboardInterrupt
            yield item

    run = Run(folder=tmp_path, keeping=keeping, progress=stop_at_four)
    with pytest.raises(KeyboardInterrupt):
        clipjax.adapt("latteclip", written, run=run, **QUICK)
    resumed = clipjax.adapt("latteclip", written, run=Run(folder=tmp_path, keeping=keeping), **QUICK)
    assert_array_equal(whole.class_weights, resumed.class_weights)
    for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(resumed.params)):
        assert_array_equal(a, b)


def test_what_can_be_watched_without_labels_is_recorded(written, tmp_path):
    run = tmp_path / "run"
    clipjax.adapt("latteclip", written, folder=run, **QUICK)
    text = (run / "metrics.jsonl").read_text()
    assert all(f'"{name}"' in text for name in ("agreement", "drift", "mixer_entropy", "loss_finetuned"))


def test_texts_are_asked_for_only_where_they_are_used(written):
    none = dataclasses.replace(written, texts=None)
    with pytest.raises(DataError, match=r"clipjax texts generate.*--texts STORE"):
        clipjax.adapt("latteclip", none, **QUICK)
    clipjax.adapt("latteclip", none, texts=["class"], **QUICK)
    captions = {"caption": dict(itertools.islice(written.texts.of_kind["caption"].items(), 23))}
    with pytest.raises(DataError, match="1 of 24 have no caption"):
        clipjax.adapt("latteclip", dataclasses.replace(written, texts=Texts(captions)), texts=["image"], **QUICK)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "released"}, "batch_size is 12, and the embeddings have"),
        ({"texts": []}, "texts is"),
        ({"branches": ["finetuned", "finetuned"]}, "none twice"),
        ({"alpha": 2.0}, "alpha is 2.0"),
        ({"stopping": {"patience": -1}}, "patience is -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(written, settings, words):
    with pytest.raises(ConfigError, match=words):
        clipjax.adapt("latteclip", written, **{**QUICK, **settings})
