import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_allclose
from small_models import VIT, random_module

from clipjax.models.layers import Attention, Block, activate, layer_norm, run_blocks, stacked_blocks


@pytest.fixture(scope="module")
def tokens():
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, VIT.width)), jnp.float32)


@pytest.fixture(scope="module")
def blocks():
    """Stacked blocks with numbers large enough that attention is far from uniform."""
    return random_module(lambda: stacked_blocks(VIT, dtype=jnp.float32, rngs=nnx.Rngs(0)), scale=0.2)


def one_block(blocks: Block, layer: int) -> Block:
    return jax.tree.map(lambda x: x[layer], blocks)


@functools.partial(jax.jit, static_argnames="causal")
def scanned_and_looped(blocks: Block, x, prompts, causal: bool):
    """Run the blocks by one scan, and by a loop in which each block sees its prompts and forgets them."""
    looped = x
    for layer in range(VIT.layers):
        with_prompts = jnp.concatenate([looped, jnp.stack([prompts[layer]] * 2)], axis=1)
        looped = one_block(blocks, layer)(with_prompts, causal=causal)[:, :5]
    return run_blocks(blocks, x, causal=causal, prompts=prompts if prompts.size else None), looped


def test_scanned_blocks_equal_a_loop_over_layers(blocks, tokens):
    no_prompts = np.zeros((VIT.layers, 0, VIT.width), np.float32)
    scanned, looped = scanned_and_looped(blocks, tokens, no_prompts, causal=True)
    assert_allclose(scanned, looped, rtol=1e-5, atol=1e-5)


def test_prompts_equal_tokens_that_each_block_sees_and_forgets(blocks, tokens):
    prompts = np.random.default_rng(1).normal(size=(VIT.layers, 3, VIT.width)).astype(np.float32)
    scanned, looped = scanned_and_looped(blocks, tokens, prompts, causal=False)
    assert_allclose(scanned, looped, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_equals_a_loop_over_heads_in_float64(blocks, tokens, causal):
    attention: Attention = one_block(blocks, 0).attention
    x = np.asarray(tokens, np.float64)

    def project(layer):
        return x @ np.asarray(layer.kernel[...], np.float64) + np.asarray(layer.bias[...], np.float64)

    heads = [np.split(project(layer), VIT.heads, axis=2) for layer in (attention.query, attention.key, attention.value)]
    mixed = []
    for query, key, value in zip(*heads):
        scores = query @ key.swapaxes(1, 2) / np.sqrt(query.shape[2])
        if causal:
            scores = np.where(np.tri(5, dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        mixed.append(weights / weights.sum(axis=2, keepdims=True) @ value)
    x = np.concatenate(mixed, axis=2)
    assert_allclose(attention(tokens, causal=causal), project(attention.out), rtol=1e-4, atol=1e-5)


def test_gelu_is_the_exact_form():
    x = jnp.asarray(np.linspace(-5, 5, 41), jnp.float32)
    exact = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x.tolist()]
    assert_allclose(activate("gelu", x), exact, rtol=1e-5, atol=1e-6)


def test_quick_gelu_is_a_scaled_sigmoid():
    x = jnp.asarray(np.linspace(-5, 5, 41), jnp.float32)
    assert_allclose(activate("quick_gelu", x), [v / (1 + math.exp(-1.702 * v)) for v in x.tolist()], rtol=1e-5)


def test_layer_norm_keeps_its_digits_when_the_mean_is_large():
    x = 1000 + np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    wide = x.astype(np.float64)
    want = (wide - wide.mean(axis=1, keepdims=True)) / np.sqrt(wide.var(axis=1, keepdims=True) + 1e-5)
    assert_allclose(layer_norm(64, 1e-5, jnp.float32, nnx.Rngs(0))(jnp.asarray(x)), want, atol=1e-3)


def test_layer_norm_uses_the_given_epsilon():
    x = jnp.array([[-1.0, 1.0]])
    assert_allclose(layer_norm(2, 3.0, jnp.float32, nnx.Rngs(0))(x), [[-0.5, 0.5]], rtol=1e-6)


def test_layer_norm_of_bfloat16_is_float32():
    x = jnp.array([[-1.0, 1.0]], jnp.bfloat16)
    assert layer_norm(2, 1e-5, jnp.bfloat16, nnx.Rngs(0))(x).dtype == jnp.float32
