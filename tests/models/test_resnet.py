"""The ResNet tower: its parts against plain formulas. Whole models are compared in tests/test_golden.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_allclose
from small_models import RESNET, VIT, random_images

from clipjax.errors import ConfigError
from clipjax.models.resnet import BATCH_NORM_EPS, AttentionPool, BatchNorm, Bottleneck, average_pool


def with_random_numbers(module: nnx.Module) -> nnx.Module:
    graph, state = nnx.split(module)
    random = np.random.default_rng(0)
    return nnx.merge(graph, jax.tree.map(lambda x: jnp.asarray(0.5 + random.random(x.shape), x.dtype), state))


def test_batch_norm_scales_by_its_running_statistics(getkey):
    norm = with_random_numbers(BatchNorm(5))
    x = jax.random.normal(getkey(), (2, 3, 3, 5))
    scale, bias, mean, var = (p[...] for p in (norm.scale, norm.bias, norm.mean, norm.var))
    assert_allclose(norm(x), (x - mean) / jnp.sqrt(var + BATCH_NORM_EPS) * scale + bias, rtol=1e-4, atol=1e-5)


def test_batch_norm_keeps_the_compute_type(getkey):
    assert BatchNorm(5)(jax.random.normal(getkey(), (1, 2, 2, 5), jnp.bfloat16)).dtype == jnp.bfloat16


def test_average_pool_drops_what_fills_no_window(getkey):
    x = jax.random.normal(getkey(), (2, 5, 4, 3))
    want = x[:, :4].reshape(2, 2, 2, 2, 2, 3).mean(axis=(2, 4))
    assert_allclose(average_pool(x, 2), want, rtol=1e-5, atol=1e-6)


def test_bottleneck_whose_branch_is_switched_off_is_a_relu(getkey):
    block = Bottleneck(8, 2, 1, dtype=jnp.float32, rngs=nnx.Rngs(0))
    block.bn3.scale[...] = jnp.zeros(8)
    x = jax.random.normal(getkey(), (2, 4, 4, 8))
    assert_allclose(block(x), jax.nn.relu(x), rtol=1e-6)


def test_strided_bottleneck_halves_both_sides_by_averaging(getkey):
    block = Bottleneck(8, 2, 2, dtype=jnp.float32, rngs=nnx.Rngs(0))
    block.bn3.scale[...] = jnp.zeros(8)
    x = jax.random.normal(getkey(), (2, 4, 4, 8))
    shortcut = average_pool(x, 2) @ block.downsample_conv.kernel[...][0, 0]
    assert_allclose(block(x), jax.nn.relu(shortcut), rtol=1e-3, atol=1e-5)


def test_attention_pool_ignores_the_order_of_places_that_share_a_position(getkey):
    pool = AttentionPool(RESNET, dtype=jnp.float32, rngs=nnx.Rngs(0))
    pool.position_embedding[...] = jnp.ones_like(pool.position_embedding[...])
    places = jax.random.normal(getkey(), (2, 4, RESNET.features))
    assert_allclose(pool(places[:, ::-1]), pool(places), rtol=1e-4, atol=1e-5)


def test_attention_pool_of_equal_places_is_their_value(getkey):
    pool = AttentionPool(RESNET, dtype=jnp.float32, rngs=nnx.Rngs(0))
    pool.position_embedding[...] = jnp.zeros_like(pool.position_embedding[...])
    place = jax.random.normal(getkey(), (2, 1, RESNET.features))
    assert_allclose(pool(jnp.repeat(place, 4, axis=1)), pool.value(place)[:, 0], rtol=1e-4, atol=1e-5)


def test_each_image_is_embedded_on_its_own(resnet):
    model, params = resnet
    images = random_images(model)
    together = model.encode_image(params, images)
    assert_allclose(model.encode_image(params, images.at[0].set(3.0))[1:], together[1:], rtol=1e-4, atol=1e-5)
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
