"""The parts of CoFT: seeds, a step of each phase against what its formulas say, filtering, reports."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import clipjax
from clipjax.errors import ConfigError, DataError
from clipjax.methods.coft import filtering
from clipjax.methods.coft.algorithm import accepted_cross_entropy, draw_complements, ema, moco_loss, prompt_loss
from clipjax.methods.coft.config import Config
from clipjax.methods.coft.filtering import Judged, judged, positive_predictions
from clipjax.methods.coft.phases import Phases
from clipjax.methods.coft.prompting import Prompted, PromptStep, initial_prompts, read_with
from clipjax.methods.coft.report import without_labels
from clipjax.methods.coft.seeds import Known, seeds, with_shots
from clipjax.methods.coft.tuning import (
    TuneStep,
    divided,
    feature_count,
    initial_queue,
    on_pooled,
    queue_size,
    random_head,
    text_head,
)
from clipjax.methods.learned_contexts import class_embeddings, context_tokens, contexts_from_words
from clipjax.methods.pseudo_labels import Predicted
from clipjax.models.clip import unit
from clipjax.parallel.mesh import make_mesh
from clipjax.training.partition import join
from clipjax.training.run import Run


def rows(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def mesh(devices=1):
    return make_mesh(devices=jax.devices()[:devices])


# ---- seeds and what is known ----


def test_labels_that_are_right_are_always_among_the_seeds():
    predicted = Predicted(np.array([0, 0, 0, 1]), np.array([0.9, 0.6, 0.8, 0.7]))
    certain = np.array([-1, 1, -1, -1], np.int32)
    chosen, labels = seeds(predicted, Known(certain=certain), 1)
    assert_array_equal(chosen, [0, 1, 3])
    assert_array_equal(labels, [0, 1, 1])


def test_of_given_labels_those_count_that_the_model_says_too():
    predicted = Predicted(np.array([0, 0, 0, 1]), np.array([0.9, 0.6, 0.8, 0.7]))
    chosen, labels = seeds(predicted, Known(given=np.array([1, 0, 0, 0], np.int32)), 5)
    assert_array_equal(chosen, [1, 2])
    assert_array_equal(labels, [0, 0])
    with pytest.raises(DataError, match="not one given label"):
        seeds(predicted, Known(given=np.array([1, 1, 1, 0], np.int32)), 5)


def test_shots_join_the_images_and_none_is_there_twice(problem):
    some = dataclasses.replace(problem, shots=problem.images.select([3, 7]))
    found, known = with_shots(some, "clean")
    assert found.shots is None and found.images is problem.images
    assert_array_equal(np.flatnonzero(known.certain != -1), [3, 7])
    assert_array_equal(known.certain[[3, 7]], problem.images.labels[[3, 7]])
    others, known = with_shots(problem, "clean")
    assert_array_equal(others.images.ids, problem.images.ids + problem.shots.ids)
    assert_array_equal(known.certain, [-1] * 24 + problem.shots.labels.tolist())


def test_shots_can_be_proposals_or_nothing(problem):
    noisy, known = with_shots(problem, "noisy")
    assert noisy.images is problem.shots and known.certain is None
    assert_array_equal(known.given, problem.shots.labels)
    ignored, known = with_shots(problem, "ignored")
    assert ignored.shots is None and known == Known()
    with pytest.raises(DataError, match="pass them"):
        with_shots(ignored, "noisy")


# ---- phase I ----


def test_prompts_start_small_and_different_for_each_model(problem):
    first, second = (initial_prompts(problem.model, jax.random.key(i), 4, 5) for i in range(2))
    assert first["visual_prompts"].shape == (3, 5, 32) and first["contexts"].shape == (2, 4, 24)
    bound = (6 / (3 * 4**2 + 32)) ** 0.5
    assert 0.9 * bound < np.abs(first["visual_prompts"]).max() <= bound
    assert_allclose(np.std(first["contexts"]), 0.02, rtol=0.2)
    assert not np.allclose(first["contexts"][0], first["contexts"][1])
    assert not np.allclose(first["contexts"], second["contexts"])


def test_visual_prompts_for_a_resnet_are_refused_with_the_remedy(problem):
    from small_models import RESNET

    model = problem.model.replace(config=dataclasses.replace(problem.model.config, vision=RESNET))
    with pytest.raises(ConfigError, match="set visual_prompts=0"):
        initial_prompts(model, jax.random.key(0), 4, 5)
    assert "visual_prompts" not in initial_prompts(model, jax.random.key(0), 4, 0)


def step_of(problem, devices=1, **options):
    """A phase I step on random images: the objective's loss as a function of the prompts, and all it was given."""
    tokens = context_tokens(problem.model, problem.tokenizer, problem.class_names, 4)
    batch = {"images": rows(8, 16, 16, 3, seed=1), "labels": jnp.arange(8) % 3}
    frozen = {"params": problem.params, "tokens": tokens, "weight": jnp.float32(0.5)}
    objective = PromptStep(problem.model, mesh(devices), **options)
    run = lambda prompts: objective(prompts, frozen, {}, batch, jax.random.key(7), 0)
    return run, batch, tokens


@pytest.mark.parametrize("detached", ["nothing", "both"])
def test_a_prompt_step_is_its_formulas_on_what_the_towers_say(problem, detached):
    run, batch, tokens = step_of(problem, detached=detached)
    prompts = initial_prompts(problem.model, jax.random.key(0), 4, 2)
    loss, (metrics, _) = run(prompts)
    model, params = problem.model, problem.params
    images = unit(model.encode_image(params, batch["images"], visual_prompts=prompts["visual_prompts"]))
    texts = jnp.stack([class_embeddings(model, params, tokens, contexts) for contexts in prompts["contexts"]])
    complements = draw_complements(jax.random.key(7), batch["labels"], 3)
    scale = jnp.exp(params["logit_scale"])
    wanted, parts = prompt_loss(images, texts, batch["labels"], complements, scale=scale, weight=0.5, detached=detached)
    assert_allclose(loss, wanted, rtol=1e-5)
    assert_allclose(metrics["clean_label"], parts["clean_label"], rtol=1e-5)


def test_devices_and_parts_of_the_texts_change_no_gradient(problem):
    prompts = initial_prompts(problem.model, jax.random.key(0), 4, 2)
    value = lambda run: jax.jit(jax.value_and_grad(lambda prompts: run(prompts)[0]))(prompts)
    wanted, gradient = value(step_of(problem)[0])
    assert np.abs(gradient["visual_prompts"]).max() > 0 and np.abs(gradient["contexts"][1]).max() > 0
    for options in ({"devices": 4}, {"devices": 2, "text_parts": 3}):
        found, other = value(step_of(problem, **options)[0])
        assert_allclose(found, wanted, rtol=1e-5)
        for name in gradient:
            assert_allclose(other[name], gradient[name], atol=1e-5 * np.abs(gradient[name]).max())


def read(problem, prompts, devices=1, batch_size=8, run=None):
    tokens = context_tokens(problem.model, problem.tokenizer, problem.class_names, prompts["contexts"].shape[1])
    return read_with(
        prompts,
        problem.model,
        problem.params,
        tokens,
        problem.images,
        run or Run(),
        weights="w",
        mesh=mesh(devices),
        batch_size=batch_size,
    )


@pytest.mark.parametrize("none", ["left out", "zero of them"])
def test_without_visual_prompts_and_with_words_it_is_clip_itself(problem, none):
    words = contexts_from_words(problem.model, problem.params, problem.tokenizer, "a photo of a")
    prompts = {"contexts": jnp.stack([words, words])}
    if none == "zero of them":
        prompts["visual_prompts"] = jnp.zeros((3, 0, 32))
    found = read(problem, prompts)
    pixels = np.stack([clipjax.preprocess(problem.images.image(i), 16) for i in range(24)])
    assert_allclose(found.images, unit(problem.model.encode_image(problem.params, pixels)), atol=1e-6)
    assert_allclose(found.texts[0], problem.zero_shot.class_weights, atol=1e-5)
    assert_array_equal(found.texts[0], found.texts[1])


def test_images_are_read_alike_on_any_number_of_devices(problem):
    prompts = initial_prompts(problem.model, jax.random.key(0), 4, 2)
    assert_allclose(read(problem, prompts).images, read(problem, prompts, devices=4).images, atol=1e-6)
    assert_allclose(read(problem, prompts).images, read(problem, prompts, batch_size=7).images, atol=1e-6)


def test_without_visual_prompts_images_are_read_once_for_all_prompts(problem, tmp_path):
    labels = []
    watch = lambda items, label, **_: labels.append(label) or items
    run = Run(folder=tmp_path, progress=watch)
    for seed in range(2):
        read(problem, initial_prompts(problem.model, jax.random.key(seed), 4, 0), run=run)
    assert labels == ["embedding images"]


# ---- between the phases ----


def prompted(seed, images=11, classes=4, dim=6):
    draw = np.random.default_rng(seed)
    unit_rows = lambda *shape: (x := draw.normal(size=shape)) / np.linalg.norm(x, axis=-1, keepdims=True)
    return Prompted({}, jnp.asarray(unit_rows(2, classes, dim), jnp.float32), unit_rows(images, dim).astype(np.float32))


def test_one_proposes_and_the_other_accepts_image_by_image(monkeypatch):
    proposer, validator = prompted(0), prompted(1)
    found = judged(proposer, validator, 10.0)
    for image in range(11):
        label = int(np.argmax(proposer.texts[0] @ proposer.images[image]))
        positive, negative = (validator.texts[kind, label] @ validator.images[image] for kind in range(2))
        assert found.labels[image] == label
        assert found.accepted[image] == (positive > negative) == (found.clean[image] > 0.5)
        assert_allclose(found.clean[image], 1 / (1 + np.exp(-10 * (positive - negative))), rtol=1e-5)
    assert 0 < found.accepted.sum() < 11
    monkeypatch.setattr(filtering, "IMAGES_AT_A_TIME", 4)
    for name, values in judged(proposer, validator, 10.0)._asdict().items():
        if name != "complement":
            assert_allclose(values, getattr(found, name), rtol=1e-6)


def test_other_ways_to_validate():
    proposer, validator = prompted(0), prompted(1)
    confidence = positive_predictions(proposer, 10.0).confidence
    found = judged(proposer, validator, 10.0, validation="confidence", threshold=0.9)
    assert_array_equal(found.accepted, confidence >= 0.9)
    assert judged(proposer, validator, 10.0, validation="none").accepted.all()
    assert_allclose(found.confidence, confidence, rtol=1e-5)


def test_given_labels_are_proposals_and_certain_ones_beyond_doubt():
    proposer, validator = prompted(0), prompted(1)
    given = np.arange(11, dtype=np.int32) % 4
    found = judged(proposer, validator, 10.0, said=given)
    assert_array_equal(found.labels, given)
    assert 0 < found.accepted.sum() < 11
    certain = np.where(np.arange(11) < 5, 3, -1).astype(np.int32)
    found = judged(proposer, validator, 10.0, said=certain, certain=True)
    free = judged(proposer, validator, 10.0)
    assert found.accepted[:5].all() and (found.labels[:5] == 3).all()
    assert_array_equal(found.accepted[5:], free.accepted[5:])
    assert_array_equal(found.labels[5:], free.labels[5:])
    gaps = [validator.images[i] @ (validator.texts[0, 3] - validator.texts[1, 3]) for i in range(5)]
    assert_allclose(found.clean[:5], 1 / (1 + np.exp(-10 * np.array(gaps))), rtol=1e-5)


# ---- phase II ----


def tune_parts(problem, head_input="pooled", contrast=True):
    tower, frozen = divided(problem.params, ("vision/",), head_input)
    features = feature_count(problem.model, head_input)
    trainable = {"tower": tower, "head": random_head(jax.random.key(1), 3, features)}
    frozen = {
        "params": frozen,
        "contrast_weight": jnp.float32(0.3),
        "momentum": jnp.float32(0.5),
        "temperature": jnp.float32(0.2),
    }
    older = jax.tree.map(lambda x: 0.9 * x, tower)
    carry = {"average": older, **initial_queue(jax.random.key(2), 12, features)} if contrast else {}
    batch = {
        "images": rows(4, 16, 16, 3, seed=1),
        "keys": rows(4, 16, 16, 3, seed=2),
        "owners": jnp.array([5, 9, 2, 7], jnp.int32),
        "labels": jnp.array([0, 1, 2, 0], jnp.int32),
        "accepted": jnp.array([True, False, True, True]),
    }
    return TuneStep(problem.model, mesh(), head_input, contrast), trainable, frozen, carry, batch


@pytest.mark.parametrize("head_input", ["pooled", "projected"])
def test_a_tuning_step_is_its_formulas_on_what_the_towers_say(problem, head_input):
    objective, trainable, frozen, carry, batch = tune_parts(problem, head_input)
    carry["owners"] = carry["owners"].at[3].set(9)
    loss, (_, after) = objective(trainable, frozen, carry, batch, jax.random.key(0), 0)

    def features(tower, images):
        params = join(tower, frozen["params"])
        pooled = problem.model.image_features(params, images).pooled
        return pooled if head_input == "pooled" else problem.model.project_image(params, pooled)

    query = features(trainable["tower"], batch["images"])
    logits = query @ trainable["head"]["weights"].T + trainable["head"]["bias"]
    average = ema(carry["average"], trainable["tower"], 0.5)
    key = features(average, batch["keys"])
    left_out = jnp.zeros((4, 12), bool).at[1, 3].set(True)
    contrasted = moco_loss(query, key, carry["queue"], temperature=0.2, left_out=left_out)
    wanted = accepted_cross_entropy(logits, batch["labels"], batch["accepted"]) + 0.3 * contrasted
    assert_allclose(loss, wanted, rtol=1e-5)
    assert_allclose(after["queue"][:4], unit(key), atol=1e-5)
    assert_array_equal(after["queue"][4:], carry["queue"][4:])
    assert_array_equal(after["owners"][:4], batch["owners"])
    assert after["pointer"] == 4
    for a, b in zip(jax.tree.leaves(after["average"]), jax.tree.leaves(average)):
        assert_allclose(a, b, rtol=1e-6)


def test_rejected_images_teach_only_through_the_contrast(problem):
    objective, trainable, frozen, carry, batch = tune_parts(problem)
    batch |= {"accepted": jnp.zeros(4, bool)}

    @jax.jit
    @jax.grad
    def gradient(trainable, weight):
        numbers = {**frozen, "contrast_weight": weight}
        return objective(trainable, numbers, carry, batch, jax.random.key(0), 0)[0]

    without, with_contrast = gradient(trainable, 0.0), gradient(trainable, 0.3)
    assert not any(x.any() for x in jax.tree.leaves(without))
    assert np.abs(with_contrast["tower"]["vision"]["class_embedding"]).max() > 0
    assert not any(x.any() for x in jax.tree.leaves(with_contrast["head"]))


def test_a_head_reads_the_same_before_and_after_the_projection(problem):
    texts = problem.zero_shot.class_weights
    images = rows(4, 16, 16, 3, seed=1)
    pooled = problem.model.image_features(problem.params, images).pooled
    head = text_head(texts, problem.params, "pooled")
    embedded = problem.model.encode_image(problem.params, images)
    assert_allclose(pooled @ head["weights"].T + head["bias"], embedded @ texts.T, rtol=1e-4, atol=1e-4)
    own = random_head(jax.random.key(0), 3, 16)
    weights, bias = on_pooled(own, problem.params, "projected")
    assert_allclose(pooled @ weights.T + bias, embedded @ own["weights"].T + own["bias"], rtol=1e-4, atol=1e-4)
    assert on_pooled(own, problem.params, "pooled")[0] is own["weights"]


def test_blocks_alone_can_be_trained(problem):
    tower, frozen = divided(problem.params, ("vision/blocks/",), "pooled")
    assert set(tower["vision"]) == {"blocks"} and "class_embedding" in frozen["vision"]
    assert "image_projection" not in frozen
    assert "image_projection" in divided(problem.params, ("",), "projected")[0]


def test_the_queue_holds_at_most_half_of_the_images_and_at_least_a_batch():
    assert queue_size(8192, 100_000, 64) == 8192
    assert queue_size(8192, 1000, 64) == 500
    assert queue_size(8192, 24, 16) == 16


def test_an_image_that_is_repeated_for_the_devices_stays_one_image(problem):
    class Watching(Run):
        def fit(self, stage):
            raise Stop(stage.batches)

    class Stop(Exception):
        pass

    config = Config(contexts=4, contrast_weight=0.1, batch_size=4)
    phases = Phases(problem, config, Watching(mesh=mesh(4)), problem.images.select(range(3)))
    found = Judged(np.arange(3), np.ones(3, bool), *np.full((3, 3), 0.9), np.zeros(3, bool))
    with pytest.raises(Stop) as stopped:
        phases.tuned(found, prompted(0, images=3), 0)
    batches = stopped.value.args[0]
    assert_array_equal(batches.columns["owners"], [0, 1, 2, 0, 1, 2])
    batch = next(batches.batches(0))
    assert_array_equal(batch["labels"], batch["owners"])


# ---- reports ----


def some_judged():
    return Judged(
        labels=np.array([0, 0, 1, 2]),
        accepted=np.array([True, True, True, False]),
        clean=np.array([0.95, 0.65, 0.55, 0.15]),
        complement=np.array([0.0, 0.2, 0.3, 1.0]),
        confidence=np.array([0.9, 0.8, 0.7, 0.6]),
        told=np.array([False, False, False, True]),
    )


def test_a_report_without_labels_counts_what_was_accepted():
    other = some_judged()._replace(labels=np.array([0, 1, 1, 2]), accepted=np.ones(4, bool))
    said = without_labels([some_judged(), other], [some_judged().labels, other.labels], 4)
    assert said["accepted"] == [0.75, 1.0] and said["empty_classes"] == [2, 1] and said["models_agree"] == 0.75
    assert said["clean_of_proposals"][0] == [0, 1, 0, 0, 0, 1, 1, 0, 0, 1]
    assert sum(said["clean_of_complements"][0]) == 4


def test_models_that_were_given_the_same_labels_need_not_agree():
    predicted = [np.array([0, 1, 2, 0]), np.array([0, 2, 1, 1])]
    assert without_labels([some_judged(), some_judged()], predicted, 4)["models_agree"] == 0.25


def test_images_whose_label_is_certain_do_not_make_acceptance_look_better():
    known = some_judged()._replace(accepted=np.ones(4, bool))
    said = without_labels([known, some_judged()], [some_judged().labels] * 2, 4, certain=True)
    assert said["accepted"] == [1.0, 1.0] and said["empty_classes"] == [1, 2]
    assert sum(said["clean_of_proposals"][0]) == sum(said["clean_of_complements"][1]) == 3
    assert without_labels([known], [known.labels], 4)["accepted"] == [1.0]
    told = known._replace(told=np.ones(4, bool))
    assert without_labels([told], [told.labels], 4, certain=True)["accepted"] == [None]
