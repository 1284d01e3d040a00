"""The ResNet tower: its parts against plain formulas. Whole models are compared in tests/test_golden.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_allclose
from small_models import RESNET, VIT, random_images, random_module

from clipjax.errors import ConfigError
from clipjax.models.resnet import BATCH_NORM_EPS, AttentionPool, BatchNorm, Bottleneck, average_pool


def draw(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(9).normal(size=shape), jnp.float32)


@nnx.jit
def run(module, x):
    return module(x)


def test_batch_norm_scales_by_its_running_statistics():
    norm = random_module(lambda: BatchNorm(5, rngs=nnx.Rngs(0)))
    norm.var[...] = jnp.asarray([0.5, 1.0, 2.0, 4.0, 0.1], jnp.float32)
    x = draw(2, 3, 3, 5)
    scale, bias, mean, var = (np.asarray(p[...]) for p in (norm.scale, norm.bias, norm.mean, norm.var))
    assert_allclose(run(norm, x), (x - mean) / np.sqrt(var + BATCH_NORM_EPS) * scale + bias, rtol=1e-4, atol=1e-5)


def test_batch_norm_keeps_the_compute_type():
    norm = random_module(lambda: BatchNorm(5, rngs=nnx.Rngs(0)))
    assert jax.eval_shape(norm, jax.ShapeDtypeStruct((1, 2, 2, 5), jnp.bfloat16)).dtype == jnp.bfloat16


def test_average_pool_drops_what_fills_no_window():
    x = draw(2, 5, 4, 3)
    want = np.asarray(x)[:, :4].reshape(2, 2, 2, 2, 2, 3).mean(axis=(2, 4))
    assert_allclose(average_pool(x, 2), want, rtol=1e-5, atol=1e-6)


def switched_off_bottleneck(stride: int) -> Bottleneck:
    """A bottleneck of which only the shortcut is left."""
    block = random_module(lambda: Bottleneck(8, 2, stride, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    for norm in (block.bn1, block.bn2, block.bn3, block.downsample_bn if stride > 1 else block.bn3):
        norm.mean[...], norm.bias[...] = jnp.zeros_like(norm.mean[...]), jnp.zeros_like(norm.bias[...])
        norm.scale[...] = norm.var[...] = jnp.ones_like(norm.var[...])
    block.bn3.scale[...] = jnp.zeros_like(block.bn3.scale[...])
    return block


def test_bottleneck_whose_branch_is_switched_off_is_a_relu():
    block = switched_off_bottleneck(stride=1)
    x = draw(2, 4, 4, 8)
    assert_allclose(run(block, x), np.maximum(x, 0), rtol=1e-6)


def test_strided_bottleneck_halves_both_sides_by_averaging():
    block = switched_off_bottleneck(stride=2)
    x = draw(2, 4, 4, 8)
    pooled = np.asarray(x).reshape(2, 2, 2, 2, 2, 8).mean(axis=(2, 4))
    shortcut = pooled @ np.asarray(block.downsample_conv.kernel[...])[0, 0]
    assert_allclose(run(block, x), np.maximum(shortcut, 0), rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def pool():
    """Attention pooling whose positions are all zero."""
    pool = random_module(lambda: AttentionPool(RESNET, dtype=jnp.float32, rngs=nnx.Rngs(0)), scale=0.1)
    pool.position_embedding[...] = jnp.zeros_like(pool.position_embedding[...])
    return pool


def test_attention_pool_ignores_the_order_of_places_that_share_a_position(pool):
    places = draw(2, 4, RESNET.features)
    assert_allclose(run(pool, places[:, ::-1]), run(pool, places), rtol=1e-4, atol=1e-5)


def test_attention_pool_of_equal_places_is_their_value(pool):
    place = draw(2, 1, RESNET.features)
    value = np.asarray(place)[:, 0] @ np.asarray(pool.value.kernel[...]) + np.asarray(pool.value.bias[...])
    assert_allclose(run(pool, jnp.repeat(place, 4, axis=1)), value, rtol=1e-4, atol=1e-5)


def test_each_image_is_embedded_on_its_own(resnet):
    model, params = resnet
    images = random_images(model)
    together = np.asarray(model.encode_image(params, images))
    changed = np.concatenate([np.full((1, 64, 64, 3), 3.0, np.float32), images[1:]])
    assert_allclose(model.encode_image(params, changed)[1:], together[1:], rtol=1e-4, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-2


def test_features_hold_one_token_per_place(resnet):
    model, params = resnet
    features = model.image_features(params, random_images(model))
    assert features.tokens.shape == (3, RESNET.grid**2, RESNET.features)
    assert features.pooled.shape == (3, RESNET.features)


def test_visual_prompts_are_refused(resnet):
    model, params = resnet
    with pytest.raises(ConfigError, match="visual prompts need a vision transformer"):
        model.encode_image(params, random_images(model), visual_prompts=jnp.zeros((3, 1, VIT.width)))


def test_training_starts_with_the_shortcuts_alone(getkey):
    block = Bottleneck(8, 2, 1, dtype=jnp.float32, rngs=nnx.Rngs(getkey()))
    x = draw(2, 4, 4, 8)
    assert np.array_equal(run(block, x), np.maximum(x, 0))
