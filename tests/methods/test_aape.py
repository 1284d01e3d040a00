"""AAPE as a method: what it learns, what it needs, and what remains of it at test time."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from described import described
from numpy.testing import assert_allclose, assert_array_equal

import clipjax
from clipjax.classify.embed import embed_texts
from clipjax.classify.heads import part
from clipjax.classify.saved import load_classifier, save_classifier
from clipjax.errors import DataError
from clipjax.methods.aape import Aggregation, Config, aggregation, fit
from clipjax.methods.aape.algorithm import attention_weights
from clipjax.methods.cached_shots import (
    CachedShots,
    Descriptions,
    Views,
    cached_shots,
    embedded_descriptions,
)
from clipjax.models.conditioned import generate
from clipjax.parallel.mesh import make_mesh
from clipjax.texts.collected import Texts
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run
from clipjax.training.settings import from_mapping

ONE_DEVICE = make_mesh(devices=jax.devices()[:1])
QUICK = {
    "epochs": 30,
    "batch_size": 8,
    "views": {"count": 2, "crop": 0.8},
    "hidden": 8,
    "optimizer": {"name": "adam", "lr": 0.03},
    "aggregation": {"epochs": 4, "heads": 2},
}


@pytest.fixture(scope="module")
def told(problem):
    return described(problem)


@pytest.fixture(scope="module")
def learned(told, tmp_path_factory):
    """A classifier, and the directory of its run."""
    folder = tmp_path_factory.mktemp("aape") / "run"
    return clipjax.adapt("aape", told, folder=folder, **QUICK), folder


@pytest.fixture(scope="module")
def shots(told):
    return cached_shots(told, Views(2, 0.8), Run(), 0)


def loss(classifier, shots):
    scores = np.asarray(jax.nn.log_softmax(classifier.scores_of(shots.plain)))
    return -scores[np.arange(len(shots.labels)), shots.labels].mean()


def test_phrases_are_joined_to_the_class_names(problem):
    phrases = [("long legs", "a beak"), ("often striped",), ("used at sea", "sails")]
    joined = ["{}, which has long legs", "{}, which is a beak", "{}, which often striped"]
    joined += ["{}, which is used at sea", "{}, which has sails"]
    names = problem.class_names
    texts = Texts({"class_description": {(name,): own for name, own in zip(names, phrases, strict=True)}})
    found = embedded_descriptions(dataclasses.replace(problem, texts=texts), Run())
    wanted = [text.format(names[owner]) for text, owner in zip(joined, (0, 0, 1, 2, 2))]
    rows = embed_texts(problem.model, problem.params, problem.tokenizer, wanted)
    assert_allclose(found.rows[found.present], rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-5)


def test_labels_are_learnt_and_neither_tower_changes(told, learned, shots):
    assert loss(learned[0], shots) < loss(told.zero_shot, shots) - 0.05
    assert_array_equal(learned[0].class_weights, told.zero_shot.class_weights)
    for a, b in zip(jax.tree.leaves(told.params), jax.tree.leaves(learned[0].params)):
        assert_array_equal(a, b)


def test_generator_learns_what_the_aggregator_says(told, learned, shots):
    with np.load(learned[1] / "once" / "targets.npz") as stored:
        targets = stored["rows"]
    assert_allclose(np.linalg.norm(targets, axis=1), 1, atol=1e-5)
    said = generate(part(learned[0].head.arrays, "generator"), jnp.asarray(shots.plain))
    distances = lambda rows: np.mean(np.sum((np.asarray(rows) - targets) ** 2, axis=1))
    assert distances(said) < 0.5 * distances(np.zeros_like(targets))


def test_a_run_that_is_repeated_is_only_read(told, learned):
    entries = (learned[1] / "metrics.jsonl").read_text()
    again = clipjax.adapt("aape", told, folder=learned[1], **QUICK)
    for name, array in learned[0].head.arrays.items():
        assert_array_equal(array, again.head.arrays[name])
    assert (learned[1] / "metrics.jsonl").read_text() == entries


def test_prediction_touches_neither_descriptions_nor_aggregator(told, learned, tmp_path):
    save_classifier(tmp_path / "model", learned[0], told.tokenizer)
    assert {name.split("/")[0] for name in learned[0].head.arrays} == {"generator", "head"}
    program = (
        "import sys, numpy as np\nfrom clipjax.classify.saved import load_classifier\n"
        f"classifier = load_classifier({str(tmp_path / 'model')!r})\n"
        "np.save(sys.argv[1], classifier.scores(np.ones((2, 16, 16, 3), np.float32)))\n"
        "print([m for m in sys.modules if m.startswith(('clipjax.methods', 'clipjax.texts'))])"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "scores.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    here = learned[0].scores(jnp.ones((2, 16, 16, 3), jnp.float32))
    assert_allclose(np.load(tmp_path / "scores.npy"), here, atol=1e-4)


def test_class_weights_depend_on_the_image(learned, shots):
    plain = np.asarray(learned[0].scores_of(shots.plain))
    cosines = shots.scale * shots.plain @ np.asarray(learned[0].class_weights).T
    shifts = plain - cosines
    assert np.std(shifts - shifts[:, :1], axis=0)[1:].min() > 1e-3


def test_damaged_head_is_refused(told, learned, tmp_path):
    save_classifier(tmp_path / "model", learned[0], told.tokenizer)
    path = tmp_path / "model" / "classifier.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **{**arrays, "head/head/w1": arrays["head/head/w1"][1:]})
    with pytest.raises(clipjax.ClipjaxError, match="head is damaged") as caught:
        load_classifier(tmp_path / "model")
    assert "\n" not in str(caught.value)
    note = tmp_path / "model" / "classifier.json"
    note.write_text(note.read_text().replace('"V2"', '"V9"'))
    with pytest.raises(clipjax.ClipjaxError, match="there is no head 'V9'"):
        load_classifier(tmp_path / "model")


def test_without_distillation_no_description_is_needed_and_one_device_learns_what_four_do(problem, shots):
    # not Adam, to which gradients of rounding size count in full
    settings = QUICK | {"epochs": 1, "weight": 0.0, "optimizer": {"name": "sgd", "lr": 0.1}}
    found = clipjax.adapt("aape", problem, **settings)
    assert found.provenance["shots"] == 24
    alone = fit(shots, None, from_mapping(Config, settings), Run(mesh=ONE_DEVICE))
    for name, array in alone.arrays.items():
        assert_allclose(found.head.arrays[name], array, atol=2e-4, err_msg=name)


def test_descriptions_and_shots_are_asked_for(problem, told):
    with pytest.raises(DataError, match="learns from descriptions of the classes"):
        clipjax.adapt("aape", problem)
    with pytest.raises(DataError, match="learns from labelled images"):
        clipjax.adapt("aape", dataclasses.replace(told, shots=None))


def test_aggregator_and_generator_can_learn_together(told, shots):
    run = Run(mesh=ONE_DEVICE)
    head = fit(shots, embedded_descriptions(told, run), from_mapping(Config, QUICK | {"joint": True}), run)
    found = dataclasses.replace(told.zero_shot, head=head)
    assert loss(found, shots) < loss(told.zero_shot, shots) - 0.05
    assert {name.split("/")[0] for name in head.arrays} == {"generator", "head"}


@pytest.fixture(scope="module")
def clouds():
    """Images of three classes around three points, five texts about each, and the same nonsense about all."""
    draw = np.random.default_rng(0)
    unit = lambda x: (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
    centres, labels = unit(draw.normal(size=(3, 64))), np.arange(48, dtype=np.int32) % 3
    plain = unit(centres[labels] + 0.05 * draw.normal(size=(48, 64)))
    texts = unit(centres[:, None] + 0.05 * draw.normal(size=(3, 6, 64)) + unit(draw.normal(size=64)))
    texts[:, -1] = unit(draw.normal(size=64))
    return CachedShots(plain[:, None], plain, labels, centres, 10.0), Descriptions(texts, np.ones((3, 6), bool))


class Remembering(Run):
    """A run that keeps what its last stage ended with."""

    def fit(self, stage):
        fitted = super().fit(stage)
        kept.update(steps=fitted.steps, weights=fitted.trainable)
        return fitted


kept = {}


def aggregated(clouds, **settings):
    return aggregation.targets(*clouds, Aggregation(**settings), Remembering(mesh=ONE_DEVICE), batch_size=16, seed=0)


def test_aggregator_stops_when_the_images_are_nearer(clouds):
    aggregated(clouds, epochs=5, rise=100.0)
    assert kept["steps"] == 15
    aggregated(clouds, epochs=5, rise=0.0, optimizer=Optimizer("adam", lr=1e-2, schedule="constant"))
    assert kept["steps"] < 15


def test_aggregators_that_differ_in_numbers_share_one_program():
    other = Aggregation(epochs=3, rise=0.5, optimizer=Optimizer("adam", lr=1e-2))
    assert other.program() == Aggregation().program() != Aggregation(heads=2).program()


def test_junk_gets_less_than_its_share_of_attention(clouds):
    shots, descriptions = clouds
    aggregated(clouds)
    rows, present = descriptions.rows[shots.labels], descriptions.present[shots.labels]
    attention = attention_weights(kept["weights"], kept["weights"]["query"], rows, present, heads=4)
    assert np.mean(attention[..., -1]) < 0.5 / 6


@pytest.mark.parametrize("settings", [{"kind": "mlp"}, {"query": "class"}, {"query": "amortised"}])
def test_other_aggregators_learn_targets_too(clouds, settings):
    shots, descriptions = clouds
    found = aggregated(clouds, epochs=10, rise=100.0, optimizer=Optimizer("adam", lr=1e-2), **settings)
    cosines = lambda rows: np.mean(np.sum(shots.plain * rows, axis=1))
    means = aggregation.fixed_targets(shots.labels, descriptions, Aggregation(kind="mean"), 0)
    assert cosines(found) > cosines(means) + 0.01
    of_one = found[shots.labels == 0]
    # those of a class are alike but for rounding, unless the query is made of the image
    assert (np.abs(of_one - of_one[0]).max() > 1e-5) == (settings == {"query": "amortised"})


def test_settings_out_of_range_are_refused():
    with pytest.raises(clipjax.ClipjaxError, match="weight"):
        Config(weight=-1.0)
    with pytest.raises(clipjax.ClipjaxError, match="dropout"):
        Aggregation(dropout=1.0)


@pytest.mark.parametrize("variant", ["V2", "V3"])
def test_a_head_that_would_never_learn_is_refused(variant):
    with pytest.raises(clipjax.ClipjaxError, match="alpha is 0, with which"):
        Config(variant=variant, alpha=0.0)
    Config(variant="V0", alpha=0.0)  # which has none


def test_heads_that_do_not_divide_the_width_are_refused(clouds):
    with pytest.raises(clipjax.ClipjaxError, match="does not divide embeddings of 64"):
        aggregated(clouds, heads=3)
