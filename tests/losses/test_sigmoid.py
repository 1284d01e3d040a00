import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from clipjax.losses import siglip_loss

GOLDEN = ["contrastive_siglip_init", "contrastive_siglip_trained", "contrastive_siglip_zero_bias"]


@pytest.fixture
def naive_loss(float64_similarity):
    """The loss as loops over float64 numbers."""

    def loss(image, text, scale, bias, normalize=True, ids=None, share=False):
        total = 0.0
        ids = range(len(image)) if ids is None else ids
        for i, row in enumerate(float64_similarity(image, text, normalize).tolist()):
            for j, similarity in enumerate(row):
                if i != j and ids[i] == ids[j] and not share:
                    continue
                logit = (1 if ids[i] == ids[j] else -1) * (float(scale) * similarity + float(bias))
                total += math.log1p(math.exp(-abs(logit))) + max(-logit, 0.0)
        return total / len(image)

    return loss


@functools.cache
def value_and_grad(loss, arguments=0):
    return jax.jit(jax.value_and_grad(loss, arguments))


def pairs(key, batch=5, dim=4):
    return tuple(jax.random.normal(k, (batch, dim)) for k in jax.random.split(key))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("scale", "bias"), [(1.0, 0.0), (10.0, -10.0), (30.0, 5.0)])
def test_value_and_gradients_equal_a_loop(getkey, naive_loss, central_differences, scale, bias, normalize):
    image, text = pairs(getkey())
    naive = functools.partial(naive_loss, normalize=normalize)
    value, grads = value_and_grad(functools.partial(siglip_loss, normalize=normalize), (0, 1, 2, 3))(
        image, text, jnp.float32(scale), jnp.float32(bias)
    )
    assert_allclose(value, naive(image, text, scale, bias), rtol=1e-5)
    for grad, want in zip(grads, central_differences(naive, image, text, scale, bias)):
        assert_allclose(grad, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunk", [None, 2], ids=["at_once", "chunked"])
@pytest.mark.parametrize("equal_ids", ["ignore", "share"])
def test_equal_ids_equal_a_loop(getkey, naive_loss, central_differences, equal_ids, chunk):
    image, text = pairs(getkey())
    ids = [3, 7, 3, 1, 7]
    naive = functools.partial(naive_loss, ids=ids, share=equal_ids == "share")
    loss = functools.partial(siglip_loss, ids=jnp.asarray(ids), equal_ids=equal_ids, chunk=chunk)
    value, grads = value_and_grad(loss, (0, 1, 2, 3))(image, text, jnp.float32(10.0), jnp.float32(-3.0))
    assert_allclose(value, naive(image, text, 10.0, -3.0), rtol=1e-5)
    for grad, want in zip(grads, central_differences(naive, image, text, 10.0, -3.0)):
        assert_allclose(grad, want, rtol=1e-4, atol=1e-4)


def test_order_of_the_pairs_does_not_matter(getkey):
    image, text = pairs(getkey())
    order = jax.random.permutation(getkey(), 5)
    assert_allclose(siglip_loss(image[order], text[order], 20.0, -5.0), siglip_loss(image, text, 20.0, -5.0), rtol=1e-6)


def test_images_and_texts_may_change_places(getkey):
    image, text = pairs(getkey())
    assert_allclose(siglip_loss(text, image, 20.0, -5.0), siglip_loss(image, text, 20.0, -5.0), rtol=1e-6)


def test_length_of_the_rows_does_not_matter_when_normalised(getkey):
    image, text = pairs(getkey())
    sizes = jnp.array([[1e-20], [0.1], [1.0], [1e4], [1e25]])
    assert_allclose(siglip_loss(image * sizes, text, 20.0, -5.0), siglip_loss(image, text, 20.0, -5.0), rtol=1e-6)


def test_without_scale_and_bias_every_pair_costs_log_two(getkey):
    image, text = pairs(getkey())
    assert_allclose(siglip_loss(image, text, 0.0, 0.0), 5 * np.log(2), rtol=1e-6)


@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_large_scale_stays_finite(getkey, scale):
    image, text = pairs(getkey())
    value, grads = value_and_grad(siglip_loss, (0, 1, 2, 3))(image, text, jnp.float32(scale), jnp.float32(-10.0))
    assert np.isfinite(value) and value > 0
    assert all(np.isfinite(g).all() for g in grads)


def test_zero_embedding_leaves_every_gradient_finite(getkey):
    image, text = pairs(getkey())
    _, grads = value_and_grad(siglip_loss, (0, 1))(image.at[2].set(0.0), text.at[4].set(0.0), 20.0, -5.0)
    assert all(np.isfinite(g).all() for g in grads)


def test_half_precision_embeddings_give_a_float32_loss(getkey):
    image, text = (x.astype(jnp.bfloat16) for x in pairs(getkey()))
    value = siglip_loss(image, text, 20.0, -5.0)
    assert value.dtype == jnp.float32
    assert_allclose(value, siglip_loss(image.astype(jnp.float32), text.astype(jnp.float32), 20.0, -5.0), rtol=1e-6)


def test_unequal_numbers_are_refused(getkey):
    image, text = pairs(getkey())
    with pytest.raises(ValueError, match="pair up"):
        siglip_loss(image[:3], text, 20.0, -5.0)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(shared_data, name):
    g = np.load(shared_data / "golden" / "losses" / f"{name}.npz")
    keys = ("image", "text", "log_t", "bias")
    arrays = [jnp.asarray(g[f"in_{key}"], jnp.float32) for key in keys]
    value, grads = value_and_grad(lambda i, t, s, b: siglip_loss(i, t, jnp.exp(s), b), (0, 1, 2, 3))(*arrays)
    assert_allclose(value, g["out_loss"], rtol=1e-5)
    for key, grad in zip(keys, grads):
        want = g[f"out_grad_{key}"]
        assert_allclose(grad, want, rtol=0, atol=2e-5 * max(1e-3, np.abs(want).max()))


def test_no_golden_file_is_left_out(shared_data):
    files = (shared_data / "golden" / "losses").glob("contrastive_siglip_*.npz")
    assert {f.stem for f in files} == set(GOLDEN)
