"""Captions of drawn scenes: a small language model, and the embedded CLIP's tokens before it."""

import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import clipjax
from clipjax.data.glyph_captions import captions
from clipjax.data.glyph_dice import dice_for
from clipjax.data.glyphs import draw
from clipjax.data.language_rows import LanguageRows, caption_rows, document_rows, question_rows
from clipjax.data.source import memory_source
from clipjax.errors import ConfigError, DataError
from clipjax.inputs.tokenizer_trainer import train_tokenizer
from clipjax.methods.captioning import (
    Captioner,
    Config,
    fit_captioner,
    perplexity,
    train_language_model,
    unigram_perplexity,
    visual_features,
    write_texts,
)
from clipjax.methods.captioning import language as language_model
from clipjax.models.causal_lm import CausalLM
from clipjax.models.config import LanguageConfig
from clipjax.models.decoding import greedy, sample
from clipjax.parallel.mesh import make_mesh
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run
from clipjax.weights.embedded import EMBEDDED

PAIRS, SEED, LENGTH = 50, 3, 24
GREEDY = functools.partial(greedy, max_tokens=LENGTH - 1)
RUN = Run(mesh=make_mesh(devices=jax.devices()[:1]))
STEEP = Optimizer(lr=5e-3, warmup=10, clip_norm=1.0)


def scene_texts(count: int) -> list[list[str]]:
    return [[captions(draw(p, SEED), dice_for(SEED, p, k).generator) for k in (1, 2)] for p in range(count)]


@pytest.fixture(scope="module")
def world():
    """Two captions of each of 200 scenes, and a tokenizer for them."""
    texts = scene_texts(200)
    return texts, train_tokenizer((text for both in texts for text in both), 540, 64)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """What the embedded CLIP sees in the first scenes."""
    encoded = []
    for position in range(PAIRS):
        with io.BytesIO() as file:
            Image.fromarray(draw(position, SEED).image).save(file, "png")
            encoded.append(file.getvalue())
    return visual_features(*clipjax.load(EMBEDDED), memory_source(encoded, name="scenes"), RUN)


@pytest.fixture(scope="module")
def language(world):
    """A language model that has read the captions of the last scenes."""
    texts, tokenizer = world
    config = LanguageConfig(
        tokenizer.vocab_size, 60, 48, 2, 2, 96, bos_token_id=tokenizer.start_id, eos_token_id=tokenizer.end_id
    )
    model = CausalLM(config)
    rows = document_rows(texts[PAIRS:], tokenizer, 32)
    return model, train_language_model(
        model, rows, language_model.Config(steps=80, batch_size=16, optimizer=STEEP), RUN
    )


@pytest.fixture(scope="module")
def pairs(world):
    """One caption of each of the first scenes."""
    texts, tokenizer = world
    return caption_rows([both[:1] for both in texts[:PAIRS]], tokenizer, LENGTH)


@pytest.fixture(scope="module")
def fitted(language, scenes, pairs):
    """A captioner with an extra token whose pairs were learned by heart, before and after."""
    captioner = Captioner(language[0])
    images = {"visual": scenes.tokens, "prompt": scenes.embeddings}
    start = captioner.init(jax.random.key(0), language[1], images)
    config = Config(steps=140, batch_size=PAIRS, optimizer=STEEP, tuned=("language",))
    return captioner, images, start, fit_captioner(captioner, start, images, pairs, config, RUN)


def test_language_model_beats_word_frequencies_on_captions_it_has_not_read(language, world):
    texts, tokenizer = world
    read, held_out = (caption_rows(part, tokenizer, LENGTH) for part in (texts[PAIRS:], texts[:PAIRS]))
    rows = LanguageRows(held_out.tokens[:, 0], held_out.learned[:, 0])
    assert perplexity(*language, *rows) < 0.6 * unigram_perplexity(read, rows, tokenizer.vocab_size)


def test_perplexity_is_that_of_each_text_by_itself(language, world):
    texts, tokenizer = world
    rows = caption_rows([both[:1] for both in texts[:5]], tokenizer, LENGTH)
    model, params = language
    scores = jax.nn.log_softmax(model.logits(params, jnp.asarray(rows.tokens[:, 0])))
    each = [-scores[i, j - 1, rows.tokens[i, 0, j]] for i in range(5) for j in range(LENGTH) if rows.learned[i, 0, j]]
    found = perplexity(model, params, rows.tokens[:, 0], rows.learned[:, 0], batch_size=2)
    assert found == pytest.approx(float(np.exp(np.mean(each))), rel=1e-4)


def test_unigram_perplexity_of_equal_tokens_is_their_number():
    rows = LanguageRows(np.arange(8)[None], np.ones((1, 8), bool))
    assert unigram_perplexity(rows, rows, 8) == pytest.approx(8)


def test_fifty_pairs_are_learned_by_heart(fitted, world, pairs):
    captioner, images, _, params = fitted
    tokenizer = world[1]
    wanted = [
        tokenizer.decode(row[learned][:-1]).strip() for row, learned in zip(pairs.tokens[:, 0], pairs.learned[:, 0])
    ]
    written = write_texts(captioner, params, images, tokenizer, GREEDY, batch_size=32)
    assert written == wanted
    assert len(set(wanted)) > 40


def test_captions_follow_their_images(fitted, world):
    captioner, images, _, params = fitted
    written = write_texts(captioner, params, images, world[1], GREEDY, batch_size=32)
    order = np.roll(np.arange(PAIRS), 7)
    turned = {name: array[order] for name, array in images.items()}
    assert write_texts(captioner, params, turned, world[1], GREEDY, batch_size=32) == [written[i] for i in order]


def test_drawn_texts_of_each_batch_have_numbers_of_their_own(fitted, world):
    captioner, images, _, params = fitted
    alike = {name: np.repeat(array[:1], 8, axis=0) for name, array in images.items()}
    draw = functools.partial(sample, max_tokens=6, temperature=5.0)
    key = jax.random.key(1)
    texts = write_texts(captioner, params, alike, world[1], draw, batch_size=4, key=key)
    assert texts[:4] != texts[4:]
    assert texts == write_texts(captioner, params, alike, world[1], draw, batch_size=4, key=key)


def test_no_images_have_no_texts(fitted, world):
    captioner, images, _, params = fitted
    none = {name: array[:0] for name, array in images.items()}
    assert write_texts(captioner, params, none, world[1], GREEDY) == []


def test_maps_begin_with_the_spread_of_token_embeddings(fitted):
    captioner, images, start, _ = fitted
    prefix = captioner.prefix(start, images)
    spread = float(jnp.std(start["language"]["token_embedding"]))
    assert prefix.shape == (PAIRS, 18, 48)
    assert float(jnp.std(prefix[:, :17])) == pytest.approx(spread, rel=0.2)
    assert float(jnp.std(prefix[:, 17])) == pytest.approx(spread, rel=0.3)


def test_extra_token_stands_last_and_belongs_to_the_prompt_embedding(fitted):
    captioner, images, start, _ = fitted
    changed = {**images, "prompt": images["prompt"] + 1}
    before, after = captioner.prefix(start, images), captioner.prefix(start, changed)
    assert_array_equal(before[:, :-1], after[:, :-1])
    assert np.abs(before[:, -1] - after[:, -1]).min(axis=1).max() > 0
    without = captioner.prefix({name: part for name, part in start.items() if name != "prompt"}, images)
    assert_array_equal(without, before[:, :-1])


def test_frozen_parts_stay_as_they_are(language, scenes, pairs):
    captioner = Captioner(language[0], generate=doubled)
    images = {"visual": scenes.tokens, "prompt": scenes.embeddings}
    start = captioner.init(jax.random.key(0), language[1], images, generator={"factor": jnp.float32(2.0)})
    config = Config(steps=2, batch_size=PAIRS, optimizer=STEEP, tuned=("generator",))
    found = fit_captioner(captioner, start, images, pairs, config, RUN)
    same = lambda name: all(map(np.array_equal, jax.tree.leaves(start[name]), jax.tree.leaves(found[name])))
    assert {name for name in start if not same(name)} == {"map", "prompt", "generator"}


def test_four_devices_learn_what_one_does(language, scenes, pairs):
    captioner = Captioner(language[0])
    images = {"visual": scenes.tokens}
    start = captioner.init(jax.random.key(0), language[1], images)
    config = Config(steps=2, batch_size=48, optimizer=Optimizer("sgd", lr=1e-2, clip_norm=1.0))
    four = Run(mesh=make_mesh(devices=jax.devices()[:4], fsdp=2))
    found, wanted = (fit_captioner(captioner, start, images, pairs, config, run) for run in (four, RUN))
    assert_allclose(found["map"]["kernel"], wanted["map"]["kernel"], rtol=1e-4, atol=1e-6)
    assert np.abs(wanted["map"]["kernel"] - start["map"]["kernel"]).max() > 1e-4


def doubled(params, x):
    return params["factor"] * x


def test_generator_makes_the_prompt_embedding(language, scenes):
    images = {"visual": scenes.tokens[:3], "prompt": scenes.embeddings[:3]}
    captioner = Captioner(language[0], generate=doubled)
    params = captioner.init(jax.random.key(0), language[1], images, generator={"factor": jnp.float32(2.0)})
    given = Captioner(language[0]).prefix(params, {**images, "prompt": 2 * images["prompt"]})
    assert_allclose(captioner.prefix(params, images), given, rtol=1e-6)


def test_answers_follow_questions_of_any_length(fitted, world):
    captioner, images, _, params = fitted
    tokenizer = world[1]
    asked = question_rows(["a?", "what is it?"], tokenizer, 16)
    two = {name: array[:2] for name, array in images.items()}
    together = write_texts(captioner, params, two, tokenizer, GREEDY, questions=asked.tokens, lengths=asked.lengths)
    for row in range(2):
        one = {name: array[row : row + 1] for name, array in images.items()}
        alone = asked.tokens[row : row + 1, : asked.lengths[row]]
        assert together[row : row + 1] == write_texts(
            captioner, params, one, tokenizer, GREEDY, questions=alone, lengths=asked.lengths[row : row + 1]
        )


def test_visual_features_are_the_tower_s_tokens_and_the_unit_embedding(scenes):
    model, params = clipjax.load(EMBEDDED)
    pixels = (draw(7, SEED).image.astype(np.float32) / 255 - model.config.mean) / np.array(model.config.std)
    images = jnp.asarray(pixels[None], jnp.float32)
    features = model.image_features(params, images)
    assert_allclose(scenes.tokens[7], features.tokens[0], rtol=1e-3, atol=1e-3)
    embedding = model.encode_image(params, images)[0]
    assert_allclose(scenes.embeddings[7], embedding / jnp.linalg.norm(embedding), atol=1e-5)


def test_what_does_not_fit_together_is_refused(language, scenes, pairs):
    captioner = Captioner(language[0])
    images = {"visual": scenes.tokens}
    params = captioner.init(jax.random.key(0), language[1], images)
    with pytest.raises(DataError, match="49 images but texts for 50"):
        fit_captioner(captioner, params, {"visual": scenes.tokens[1:]}, pairs, Config(steps=1), RUN)
    with pytest.raises(ConfigError, match="tuned='generator', but the captioner has no such part"):
        fit_captioner(captioner, params, images, pairs, Config(steps=1, tuned=("generator",)), RUN)
    long = LanguageRows(np.zeros((50, 1, 45), np.int32), np.ones((50, 1, 45), bool))
    with pytest.raises(ConfigError, match="a text of 61 tokens; this model takes 60"):
        fit_captioner(captioner, params, images, long, Config(steps=1), RUN)
