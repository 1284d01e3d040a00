"""The vision transformer: patches, positions, the class token and visual prompts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_allclose
from small_models import TEXT, VIT, random_images, random_module, small_clip

from clipjax.errors import ConfigError
from clipjax.models.vision import PatchEmbedding


@pytest.mark.parametrize("image_size", [16, 19])
def test_patch_embedding_equals_a_strided_convolution(image_size):
    config = dataclasses.replace(VIT, image_size=image_size)
    embedding = random_module(lambda: PatchEmbedding(config, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, image_size, image_size, 3)), jnp.float32)
    convolved = jax.lax.conv_general_dilated(
        images, embedding.kernel[...], (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert_allclose(embedding(images), convolved.reshape(2, 16, VIT.width), rtol=1e-5, atol=1e-6)


def test_features_hold_the_class_token_and_every_patch(vit, images):
    model, params = vit
    features = model.image_features(params, images)
    assert features.tokens.shape == (3, 1 + 16, VIT.width)
    assert features.pooled.shape == (3, VIT.width)


def test_each_image_is_embedded_on_its_own(vit, images):
    model, params = vit
    together = np.asarray(model.encode_image(params, images))
    changed = np.concatenate([np.full((1, 16, 16, 3), 7.0, np.float32), images[1:]])
    assert_allclose(model.encode_image(params, np.asarray(images)[::-1]), together[::-1], rtol=1e-5, atol=1e-6)
    assert_allclose(np.asarray(model.encode_image(params, changed))[1:], together[1:], rtol=1e-5, atol=1e-6)


def test_patches_may_change_places_with_their_positions(vit, images):
    model, params = vit
    order = np.random.default_rng(0).permutation(16)
    patches = np.asarray(images).reshape(3, 4, 4, 4, 4, 3).swapaxes(2, 3).reshape(3, 16, 4, 4, 3)[:, order]
    moved_images = patches.reshape(3, 4, 4, 4, 4, 3).swapaxes(2, 3).reshape(images.shape)
    positions = np.asarray(params["vision"]["position_embedding"])
    moved_positions = np.concatenate([positions[:1], positions[1:][order]])
    moved = {**params, "vision": {**params["vision"], "position_embedding": jnp.asarray(moved_positions)}}
    embedding = model.encode_image(params, images)
    assert_allclose(model.encode_image(moved, moved_images), embedding, rtol=1e-4, atol=1e-5)
    assert np.abs(model.encode_image(params, moved_images) - embedding).max() > 1e-2


def test_pixels_beyond_the_last_whole_patch_do_not_matter():
    model, params = small_clip(dataclasses.replace(VIT, image_size=18), None)
    images = random_images(model)
    edge = np.array(images)
    edge[:, 16:] = edge[:, :, 16:] = 9.0
    assert np.array_equal(model.encode_image(params, edge), model.encode_image(params, images))


@pytest.fixture(scope="module")
def prompts():
    return np.random.default_rng(3).normal(size=(VIT.layers, 4, VIT.width)).astype(np.float32)


def test_prompts_leave_the_number_of_tokens(vit, images, prompts):
    model, params = vit
    prompted = model.image_features(params, images, visual_prompts=prompts)
    assert prompted.tokens.shape == (3, 17, VIT.width)


@pytest.mark.parametrize("layer", range(VIT.layers))
def test_prompts_of_every_layer_change_the_embedding(vit, images, prompts, layer):
    model, params = vit
    embedding = model.encode_image(params, images, visual_prompts=prompts)
    signs = np.where(np.arange(VIT.layers) == layer, np.float32(-1), np.float32(1))[:, None, None]
    changed = model.encode_image(params, images, visual_prompts=signs * prompts)
    assert np.abs(changed - embedding).max(axis=1).min() > 1e-3


def test_order_of_the_prompts_within_a_layer_does_not_matter(vit, images, prompts):
    model, params = vit
    embedding = model.encode_image(params, images, visual_prompts=prompts)
    reordered = model.encode_image(params, images, visual_prompts=prompts[:, ::-1])
    assert_allclose(reordered, embedding, rtol=1e-4, atol=1e-5)


def test_no_prompts_per_layer_equal_none(vit, images):
    model, params = vit
    empty = model.encode_image(params, images, visual_prompts=jnp.zeros((VIT.layers, 0, VIT.width)))
    assert_allclose(empty, model.encode_image(params, images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 15, 16, 3), (3, 32, 32, 3)])
def test_images_of_another_size_are_refused(vit, shape):
    model, params = vit
    with pytest.raises(ConfigError, match=r"takes \[batch, 16, 16, 3\]"):
        model.encode_image(params, jnp.zeros(shape))


def test_without_an_image_tower_images_are_refused(images):
    model, params = small_clip(None, TEXT)
    with pytest.raises(ConfigError, match="no image tower"):
        model.encode_image(params, images)
