"""Blocks of texts change the memory of both losses and nothing else."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from clipjax.losses import clip_loss, siglip_loss

LOSSES = [pytest.param(clip_loss, (), id="clip"), pytest.param(siglip_loss, (jnp.float32(-5.0),), id="siglip")]


def draw(key, batch, dim=6):
    return tuple(jax.random.normal(k, (batch, dim)) for k in jax.random.split(key))


def temporary_bytes(loss, batch, rest, chunk):
    side = jax.ShapeDtypeStruct((batch, 8), jnp.float32)
    gradient = jax.jit(jax.grad(functools.partial(loss, chunk=chunk), (0, 1)))
    return gradient.lower(side, side, 10.0, *rest).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize(("loss", "rest"), LOSSES)
def test_blocks_change_neither_value_nor_gradient(getkey, loss, rest, chunk):
    arguments = (*draw(getkey(), 11), jnp.float32(20.0), *rest)
    every = tuple(range(len(arguments)))
    whole = jax.jit(jax.value_and_grad(loss, every))(*arguments)
    parts = jax.jit(jax.value_and_grad(functools.partial(loss, chunk=chunk), every))(*arguments)
    for part, want in zip(jax.tree.leaves(parts), jax.tree.leaves(whole)):
        assert_allclose(part, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("loss", "rest"), LOSSES)
def test_memory_of_blocks_does_not_grow_with_the_square_of_the_batch(loss, rest):
    chunked = [temporary_bytes(loss, batch, rest, chunk=64) for batch in (1024, 4096)]
    whole = [temporary_bytes(loss, batch, rest, chunk=None) for batch in (1024, 4096)]
    assert whole[1] > 12 * whole[0]
    assert chunked[1] < 4.5 * chunked[0]
    assert chunked[1] < whole[1] / 16


@pytest.mark.parametrize(("loss", "rest"), LOSSES)
def test_large_scale_stays_finite_in_blocks(getkey, loss, rest):
    value, grads = jax.jit(jax.value_and_grad(functools.partial(loss, chunk=2), (0, 1, 2)))(
        *draw(getkey(), 5), jnp.float32(1e30), *rest
    )
    assert np.isfinite(value) and value > 0
    assert all(np.isfinite(g).all() for g in grads)
