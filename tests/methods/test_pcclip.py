"""PC-CLIP as a whole, on a small world of plain colours: what it learns, what it leaves alone, what it counts."""

import dataclasses
import io
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

import clipjax
from clipjax.classify.classifier import Classifier
from clipjax.classify.problem import Problem
from clipjax.data.source import memory_source
from clipjax.errors import ConfigError, DataError, Diverged
from clipjax.methods.pcclip import Config, difference_accuracy
from clipjax.methods.pcclip.adapt import encoded, prepare
from clipjax.methods.pcclip.rows import compact_tokens, have_difference, sentences_of, with_swapped
from clipjax.methods.pcclip.step import text_side
from clipjax.models.clip import CLIP
from clipjax.models.presets import preset
from clipjax.parallel.mesh import make_mesh
from clipjax.parallel.rules import path_name
from clipjax.texts.collected import Texts
from clipjax.training.checkpoints import Keeping
from clipjax.training.partition import split
from clipjax.training.run import Run

COLOURS = {
    "black": (0, 0, 0),
    "red": (200, 0, 0),
    "green": (0, 200, 0),
    "blue": (0, 0, 200),
    "yellow": (200, 200, 0),
    "pink": (200, 0, 200),
    "turquoise": (0, 200, 200),
    "white": (200, 200, 200),
}
PER_COLOUR = 6
QUICK: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 32,
    "temperature": 0.1,
    "optimizer": {"lr": 3e-3},
    "held_out": 0.34,
}


def tuned(problem: Problem, run: Run | None = None, **settings: Any) -> Classifier:
    found = clipjax.adapt("pcclip", problem, run=run, **settings)
    assert isinstance(found, Classifier)
    return found


def sentence(first, second):
    return f"the first image is {first}, while the second image is {second}."


@pytest.fixture(scope="module")
def world(problem) -> Problem:
    """Noisy pictures of eight colours, and a sentence about each pair of different colours in one of its orders."""
    random = np.random.default_rng(0)
    encoded, names = [], list(COLOURS) * PER_COLOUR
    for name in names:
        pixels = np.array(COLOURS[name]) + random.integers(0, 56, (16, 16, 3))
        with io.BytesIO() as file:
            Image.fromarray(pixels.astype(np.uint8)).save(file, "png")
            encoded.append(file.getvalue())
    source = memory_source(encoded, name="colours")
    differences = {}
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            a, b = (i, j) if random.random() < 0.5 else (j, i)
            if names[a] != names[b]:
                differences[source.ids[a], source.ids[b]] = (sentence(names[a], names[b]),)
    captions = {(image,): (f"a {name} picture",) for image, name in zip(source.ids, names)}
    rewrites = {(image,): (f"this is {name}",) for image, name in zip(source.ids, names)}
    texts = Texts({"difference": differences, "caption": captions, "rewrite": rewrites})
    return dataclasses.replace(problem, images=source, shots=None, texts=texts)


def with_differences(world, differences):
    return dataclasses.replace(world, texts=Texts({**world.texts.of_kind, "difference": differences}))


@pytest.fixture(scope="module")
def adapted(world):
    return tuned(world, **QUICK)


def leaves(params):
    return {path_name(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def test_differences_of_unseen_images_are_told_far_better_than_before(adapted):
    said = adapted.provenance
    assert 0.35 < said["difference_accuracy_before"] < 0.65
    assert said["difference_accuracy"] > 0.85


def test_shuffled_sentences_teach_nothing(world):
    found = world.texts.pairs()
    sentences = list(found.values())
    shuffled = np.random.default_rng(1).permutation(len(found))
    control = tuned(with_differences(world, {pair: sentences[i] for pair, i in zip(found, shuffled)}), **QUICK)
    # measured on the true sentences of pairs that training did not see
    true = prepare(world, Config(held_out=QUICK["held_out"]), Run())
    assert true.held_out is not None
    first, second = (jnp.asarray(true.images[places]) for places in (true.held_out.first, true.held_out.second))
    texts = jnp.asarray(encoded(world, control.params, true.held_out))
    assert 0.35 < float(difference_accuracy(first, second, texts)) < 0.65


def test_only_the_text_blocks_move_and_all_of_them_do(world, adapted):
    before, after = leaves(world.params), leaves(adapted.params)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {name for name in before if name.startswith("text/blocks/")}


def test_as_many_numbers_are_trained_as_in_the_paper():
    trainable, frozen = split(text_side(CLIP(preset("ViT-L/14")).param_shapes()), Config().trainable)
    count = lambda tree: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
    assert count(trainable) == 85_054_464 and count(trainable) + count(frozen) == 123_650_304


def test_devices_do_not_matter(world):
    # Adam would make a full step of a gradient that is only rounding, such as that of a key's bias
    settings = {"epochs": 1, "batch_size": 32, "pairs": 320, "optimizer": {"name": "sgd", "lr": 0.1}}
    one, four = (tuned(world, Run(mesh=make_mesh(devices=jax.devices()[:count])), **settings) for count in (1, 4))
    before = leaves(world.params)["text/blocks/mlp/fc1/kernel"]
    assert np.abs(leaves(one.params)["text/blocks/mlp/fc1/kernel"] - before).max() > 1e-3
    for name, leaf in leaves(one.params).items():
        np.testing.assert_allclose(leaf, leaves(four.params)[name], atol=1e-5, err_msg=name)


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(world, adapted, tmp_path):
    def killed(items, label, **_):
        for number, item in enumerate(items):
            if label == "differences" and number == 5:
                raise KeyboardInterrupt
            yield item

    keeping = Keeping(every=2)
    with pytest.raises(KeyboardInterrupt):
        tuned(world, run=Run(folder=tmp_path, keeping=keeping, progress=killed), **QUICK)
    resumed = tuned(world, run=Run(folder=tmp_path, keeping=keeping), **QUICK)
    for name, leaf in leaves(resumed.params).items():
        assert_array_equal(leaf, leaves(adapted.params)[name])


# ---- steps as small as the paper's ----

TINY: dict[str, Any] = {"epochs": 8, "batch_size": 64, "optimizer": {"schedule": "constant"}, "pairs": 800}


@pytest.fixture(scope="module")
def tiny_steps(world):
    """The text blocks before and after 100 steps at a rate of 1e-8, by how the weights are stored."""
    narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), world.params["text"]["blocks"])
    in_bfloat16 = {**world.params, "text": {**world.params["text"], "blocks": narrow}}
    found = {}
    for name, storage, params in (
        ("delta", "delta", world.params),
        ("plain", "plain", world.params),
        ("bfloat16", "plain", in_bfloat16),
    ):
        problem = dataclasses.replace(world, params=params)
        after = tuned(problem, storage=storage, **TINY)
        assert after.provenance["steps"] == 100
        found[name] = leaves(params["text"]["blocks"]), leaves(after.params["text"]["blocks"])
    return found


@pytest.mark.slow
def test_plain_storage_moves_small_weights_and_not_the_gains_of_norms(tiny_steps):
    before, after = tiny_steps["plain"]
    for name in (name for name in before if name.endswith("kernel")):
        small = np.abs(before[name]) < 0.06
        assert np.mean(before[name][small] != after[name][small]) > 0.95, name
    gains = [name for name in before if name.endswith("scale")]
    assert len(gains) == 2
    for name in gains:
        large = before[name] >= 0.5
        assert large.mean() > 0.9
        assert_array_equal(after[name][large], before[name][large])


@pytest.mark.slow
def test_storage_in_bfloat16_changes_nothing(tiny_steps):
    before, after = tiny_steps["bfloat16"]
    for name in before:
        assert_array_equal(after[name].view(np.uint16), before[name].view(np.uint16))


def test_a_change_kept_apart_is_not_lost_in_weights_stored_in_bfloat16(world):
    narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), world.params)
    after = tuned(dataclasses.replace(world, params=narrow), **TINY | {"epochs": 1})
    before, after = leaves(narrow["text"]["blocks"]), leaves(after.params["text"]["blocks"])
    for name in (name for name in before if name.endswith("kernel")):
        assert np.mean(before[name].astype(np.float32) != after[name]) > 0.8, name


@pytest.mark.slow
def test_a_change_kept_apart_adds_up_until_the_gains_move(tiny_steps):
    before, after = tiny_steps["delta"]
    gains = [name for name in before if name.endswith("scale")]
    assert all(np.mean(before[name] != after[name]) > 0.8 for name in gains)


# ---- what is learnt from ----


def test_copies_of_an_image_are_dropped_and_counted(world):
    first, second = world.images.ids[:2]
    copied = dataclasses.replace(
        world,
        images=memory_source([world.images.read(0)] * 2 + [world.images.read(i) for i in (1, 2)], name="copies"),
    )
    a, b, c, _ = copied.images.ids
    assert {a, b} == {first, second}
    copied = with_differences(copied, {(a, b): (sentence("x", "y"),), (a, c): (sentence("black", "red"),)})
    said = tuned(copied, epochs=1).provenance
    assert (said["images"], said["without_difference"], said["sentences"]) == (3, 1, 1)
    with pytest.raises(DataError, match="all are copies of one"):
        tuned(with_differences(copied, {(a, b): (sentence("x", "y"),)}))


def test_a_scaled_copy_has_no_difference(monkeypatch):
    monkeypatch.setattr("clipjax.methods.pcclip.rows.DIFFERENCES_AT_A_TIME", 2)
    embeddings = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    embeddings[3] = 2.5 * embeddings[1]
    pairs = np.array([[0, 1], [1, 3], [2, 3], [3, 1], [2, 0]])
    assert_array_equal(have_difference(embeddings, pairs), [True, False, True, False, True])
    assert have_difference(embeddings, pairs[:0]).shape == (0,)


def test_few_images_and_few_pairs_are_drawn_by_the_seed(world):
    found = [prepare(world, Config(images=10, pairs=20, seed=seed), Run()) for seed in (0, 0, 1)]
    assert [len(one.rows) for one in found] == [20, 20, 20] and [len(one.images) for one in found] == [10, 10, 10]
    assert_array_equal(found[0].rows.tokens, found[1].rows.tokens)
    assert_array_equal(found[0].images, found[1].images)
    assert not np.array_equal(found[0].images, found[2].images)


def test_no_image_is_both_trained_on_and_held_out(world):
    found = prepare(world, Config(held_out=0.25), Run())
    assert found.held_out is not None
    of = lambda rows: set(rows.first.tolist()) | set(rows.second.tolist())
    assert len(of(found.held_out)) == 12 and not of(found.rows) & of(found.held_out)


def test_swapped_sentences_are_about_the_other_order(world):
    plain = sentences_of(world.texts, world.images.ids, "differences").select(np.arange(3))
    both = with_swapped(plain)
    assert_array_equal(both.first, [*plain.first, *plain.second])
    assert_array_equal(both.second, [*plain.second, *plain.first])
    assert both.texts[3] == plain.texts[0].replace("first", "1").replace("second", "first").replace("1", "second")


def test_tokens_take_two_bytes_and_mean_the_same(world, monkeypatch):
    monkeypatch.setattr("clipjax.methods.pcclip.rows.SENTENCES_AT_A_TIME", 2)
    texts = ["a red picture", "one", sentence("green", "red"), "a", "the first image"]
    tokens = compact_tokens(world, texts)
    assert tokens.dtype == np.uint16 and tokens.shape == (5, 15)
    whole = world.tokenizer(texts, 16)
    found, wanted = (world.model.encode_text(world.params, jnp.asarray(rows, jnp.int32)) for rows in (tokens, whole))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_baselines_and_the_caption_term_read_the_texts_of_their_kind(world):
    baselines = (Config(learn_from="captions"), "a {} picture"), (Config(learn_from="rewrites"), "this is {}")
    for config, words in baselines:
        found = prepare(world, config, Run())
        wanted = compact_tokens(world, [words.format(name) for name in list(COLOURS) * PER_COLOUR])
        assert_array_equal(found.rows.tokens[np.argsort(found.rows.first)], wanted)
        assert_array_equal(found.rows.first, found.rows.second)
    captions = prepare(world, Config(caption_weight=0.5), Run()).captions
    assert_array_equal(captions, compact_tokens(world, [f"a {name} picture" for name in list(COLOURS) * PER_COLOUR]))


@pytest.mark.parametrize(
    "settings",
    [
        {"learn_from": "captions", "images": None},
        {"learn_from": "rewrites"},
        {"swap": True, "kind": "squared"},
        {"caption_weight": 0.5, "temperature": 0.5},
    ],
    ids=["captions", "rewrites", "swapped-squared", "caption-term"],
)
def test_baselines_and_extensions_train_on_what_they_say(world, settings):
    common = {"epochs": 1, "batch_size": 24, "pairs": 48, "optimizer": {"lr": 1e-3}}
    found = tuned(world, **common | settings)
    said: dict[str, Any] = found.provenance
    assert (said["sentences"], said.get("swapped")) == ((96, 48) if settings.get("swap") else (48, None))
    before, after = (leaves(params["text"]["blocks"]) for params in (world.params, found.params))
    assert all(np.abs(after[name] - before[name]).max() > 1e-4 for name in before if "key/bias" not in name)


def test_of_several_settings_the_best_on_held_out_images_is_kept(world, adapted):
    said: dict[str, Any] = tuned(world, **QUICK, learning_rates=(1e30, 1e-8, 3e-3), temperatures=(0.1,)).provenance
    assert said["learning_rate"] == 3e-3 and said["difference_accuracy"] == adapted.provenance["difference_accuracy"]
    assert [row[:2] for row in said["tried"]] == [[1e30, 0.1], [1e-8, 0.1], [3e-3, 0.1]]
    assert said["tried"][0][2] is None and said["tried"][1][2] < said["tried"][2][2]


def test_where_every_setting_diverges_the_run_says_so(world):
    with pytest.raises(Diverged, match=r"lower optimizer\.lr"):
        tuned(world, **QUICK, learning_rates=(1e30, 1e31), temperatures=(0.1,))


def test_what_is_measured_at_the_end_is_what_is_returned(world, adapted):
    half = tuned(world, **QUICK, mix=0.5)
    for name, leaf in leaves(half.params).items():
        old, new = leaves(world.params)[name], leaves(adapted.params)[name]
        np.testing.assert_allclose(leaf, (old + new) / 2, rtol=1e-6, atol=1e-7, err_msg=name)
    prepared = prepare(world, Config(held_out=QUICK["held_out"]), Run())
    assert prepared.held_out is not None
    first, second = (jnp.asarray(prepared.images[at]) for at in (prepared.held_out.first, prepared.held_out.second))
    accuracy = difference_accuracy(first, second, jnp.asarray(encoded(world, half.params, prepared.held_out)))
    said: dict[str, Any] = half.provenance
    assert said["difference_accuracy"] == float(accuracy) < said["tried"][0][2]


def test_mixing_with_nothing_of_the_new_weights_is_the_zero_shot_classifier(world):
    found = tuned(world, **QUICK, mix=0.0)
    assert_array_equal(found.class_weights, world.zero_shot.class_weights)


def test_what_is_missing_is_said(world):
    with pytest.raises(DataError, match="pass --texts STORE"):
        tuned(dataclasses.replace(world, texts=None))
    with pytest.raises(DataError, match="no difference of these 48 images"):
        tuned(with_differences(world, {("nowhere.jpg", "neither.jpg"): ("x",)}))
    few = dict(list(world.texts.pairs().items())[:3])
    with pytest.raises(DataError, match="of 3 sentences about 4 images, none is about two of the 2 that were drawn"):
        tuned(with_differences(world, few), images=2)
    with pytest.raises(DataError, match="set held_out nearer to one half"):
        tuned(world, held_out=0.99)


@pytest.mark.parametrize("wrong", [0.0, np.nan])
def test_an_image_whose_embedding_has_no_direction_is_named(world, monkeypatch, wrong):
    embed = lambda self, source, *rest, **options: np.where(
        np.arange(len(source))[:, None] == 3, wrong, np.ones((len(source), 16), np.float32)
    )
    monkeypatch.setattr(Run, "embed", embed)
    with pytest.raises(DataError, match=f"the embedding of {world.images.ids[3]!r} is zero or not finite"):
        tuned(world)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"learning_rates": (1e-8, 1e-7)}, "set held_out"),
        ({"temperatures": (0.0,)}, "each must be above 0"),
        ({"temperature": 0.0}, "above 0"),
        ({"learn_from": "captions", "swap": True}, "not for captions"),
        ({"images": 1}, "at least 2"),
        ({"kind": "mse"}, "'contrastive', 'squared'"),
    ],
)
def test_senseless_settings_are_refused(problem, settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        tuned(problem, **settings)
