import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose

from clipjax.classify.embed import embed_images, embed_texts, encode_pixels
from clipjax.errors import ConfigError, DataError
from clipjax.inputs.image import preprocess
from clipjax.models.clip import CLIP
from clipjax.progress import silent

LONG = "a very long caption about " + ", ".join(["cats and dogs"] * 20)
TEXTS = [
    "a cat",
    "",
    "a photo of two dogs in the park",
    LONG,
    "a cat",
    "!",
    "café über 猫",
    "a dog and a cat and an emu",
]


@pytest.fixture
def shapes(monkeypatch):
    """The shapes of the tokens that are encoded; the embeddings are mere row numbers."""
    seen = []

    def encode_text(self, params, tokens):
        seen.append(tokens.shape)
        return np.arange(len(tokens), dtype=np.float32)[:, None]

    monkeypatch.setattr(CLIP, "encode_text", encode_text)
    return seen


def test_texts_are_embedded_as_one_by_one_at_full_length(small):
    model, params, tokenizer = small
    one_by_one = [model.encode_text(params, tokenizer([text], model.config.context_length))[0] for text in TEXTS]
    assert_allclose(embed_texts(model, params, tokenizer, TEXTS), one_by_one, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batch_size_changes_nothing_but_speed(batch_size, small):
    expected = embed_texts(*small, TEXTS)
    assert_allclose(embed_texts(*small, TEXTS, batch_size=batch_size), expected, atol=1e-5)


def test_equal_texts_are_encoded_once(small, shapes):
    embeddings = embed_texts(*small, ["a cat", "a dog"] * 50, batch_size=2)
    assert len(shapes) == 1
    assert embeddings[:, 0].tolist() == [0, 1] * 50


def test_short_texts_are_encoded_at_a_short_length(small, shapes):
    embed_texts(*small, [LONG, "a cat"], batch_size=1)
    assert shapes == [(1, 16), (1, 40)]


def test_any_number_of_texts_needs_few_compiled_sizes(small, shapes):
    for count in range(1, 65):
        embed_texts(*small, [f"number {i}" for i in range(count)], batch_size=32)
    assert {shape[0] for shape in shapes} == {1, 2, 4, 8, 16, 32}


def test_one_string_is_one_text(small):
    assert_allclose(embed_texts(*small, "a cat"), embed_texts(*small, ["a cat"]))


def test_no_texts_is_an_error(small):
    with pytest.raises(DataError, match="no texts"):
        embed_texts(*small, [])


def test_tokenizer_with_more_tokens_than_the_model_is_an_error(small):
    model, params, tokenizer = small
    narrow = dataclasses.replace(model.config.text, vocab_size=300)
    narrow = model.replace(config=dataclasses.replace(model.config, text=narrow))
    with pytest.raises(ConfigError, match="the tokenizer has 49408 tokens, the model 300"):
        embed_texts(narrow, params, tokenizer, ["a cat"])


def test_model_without_a_text_tower_is_an_error(small):
    model, params, tokenizer = small
    blind = model.replace(config=dataclasses.replace(model.config, text=None))
    with pytest.raises(ConfigError, match="no text tower"):
        embed_texts(blind, params, tokenizer, ["a cat"])


def expected_images(model, params, source):
    prepared = np.stack([preprocess(source.image(i), model.config.image_size) for i in range(len(source))])
    return model.encode_image(params, prepared)


@pytest.mark.parametrize("batch_size", [4, 100])
def test_images_are_embedded_as_encode_image_does_after_preprocess(batch_size, small, pictures):
    model, params, _ = small
    source = pictures(7)
    embeddings, positions, skipped = embed_images(model, params, source, batch_size=batch_size)
    assert_allclose(embeddings, expected_images(model, params, source), atol=1e-5)
    assert positions.tolist() == list(range(7))
    assert skipped == []


def test_bad_images_are_left_out_and_listed_in_order(small, pictures):
    model, params, _ = small
    source = pictures(9, bad=(0, 3, 4, 8))
    embeddings, positions, skipped = embed_images(model, params, source, batch_size=2, skip_bad=True)
    assert positions.tolist() == [1, 2, 5, 6, 7]
    assert_allclose(embeddings, expected_images(model, params, source.select(positions)), atol=1e-5)
    assert [bad.id for bad in skipped] == [source.ids[i] for i in (0, 3, 4, 8)]


def test_bad_image_is_an_error_that_names_it(small, pictures):
    model, params, _ = small
    with pytest.raises(DataError, match=r"000003 in memory.*--skip-bad"):
        embed_images(model, params, pictures(5, bad=[3]))


def test_nothing_but_bad_images_is_an_error(small, pictures):
    model, params, _ = small
    with pytest.raises(DataError, match="not one of 2 images"):
        embed_images(model, params, pictures(2, bad=[0, 1]), skip_bad=True)


def test_pixels_are_normalised_with_the_checkpoints_own_numbers(small):
    model, params, _ = small
    config = dataclasses.replace(model.config, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    normalised = (pixels / 255 - config.mean) / config.std
    expected = model.encode_image(params, normalised.astype(np.float32))
    assert_allclose(encode_pixels(model.replace(config=config), params, pixels), expected, atol=1e-5)


def test_progress_hears_of_every_image_and_text(small, pictures):
    model, params, tokenizer = small
    heard = []

    def progress(items, *, total, label, unit="images", step=1):
        heard.append((label, unit, total, step))
        return silent(items, total=total, label=label)

    embed_images(model, params, pictures(5), batch_size=2, progress=progress)
    embed_texts(model, params, tokenizer, ["a", "b", "c"], batch_size=2, progress=progress)
    assert heard == [("encoding images", "images", 5, 2), ("encoding texts", "texts", 3, 2)]
