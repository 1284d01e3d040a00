import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_models import random_images, small_clip

from clipjax.losses import clip_loss, siglip_loss
from clipjax.methods.contrastive import Contrastive, caption_ids, clamp_logit_scale
from clipjax.parallel.mesh import make_mesh


@pytest.fixture(scope="module")
def batch():
    model, params = small_clip()
    tokens = np.random.default_rng(0).integers(1, 38, (8, 12)).astype(np.int32)
    tokens[:, -1] = 39
    return model, params, {"images": random_images(model, 8), "tokens": jnp.asarray(tokens)}


def loss_of(objective, params, batch):
    return jax.jit(lambda p, b: objective(p, {}, {}, b, None, None)[0])(params, batch)


def test_loss_is_the_plain_one_where_no_caption_repeats(batch):
    model, params, rows = batch
    objective = Contrastive(model, make_mesh(devices=jax.devices()[:2]))
    image, text = model.encode_image(params, rows["images"]), model.encode_text(params, rows["tokens"])
    expected = clip_loss(image, text, jnp.exp(params["logit_scale"]))
    assert_allclose(loss_of(objective, params, rows), expected, rtol=1e-5)


def test_microbatches_change_neither_value_nor_gradient(batch):
    model, params, rows = batch
    mesh = make_mesh(devices=jax.devices()[:2])
    whole, parts = (
        jax.jit(jax.value_and_grad(lambda p, n=n: loss_of(Contrastive(model, mesh, microbatches=n), p, rows)))(params)
        for n in (1, 2)
    )
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-4, atol=1e-5), whole, parts)


def test_siglip_takes_its_bias_from_the_params(batch):
    model, params, rows = batch
    params = params | {"logit_bias": jnp.float32(-3.0)}
    objective = Contrastive(model, make_mesh(devices=jax.devices()[:2]), loss="siglip")
    image, text = model.encode_image(params, rows["images"]), model.encode_text(params, rows["tokens"])
    expected = siglip_loss(image, text, jnp.exp(params["logit_scale"]), -3.0)
    assert_allclose(loss_of(objective, params, rows), expected, rtol=1e-5)


def test_labels_of_images_say_nothing_about_captions(batch):
    # photographs without a class all have the label -1, and label 0 of two data sets are two things
    model, params, rows = batch
    objective = Contrastive(model, make_mesh(devices=jax.devices()[:2]), equal_ids="share")
    labelled = rows | {"labels": jnp.full(8, -1)}
    assert loss_of(objective, params, labelled) == loss_of(objective, params, rows)


def test_pairs_are_equal_where_the_method_says_so(batch):
    model, params, rows = batch
    objective = Contrastive(model, make_mesh(devices=jax.devices()[:2]))
    all_equal = rows | {"pair_ids": jnp.zeros(8, jnp.int32)}
    assert loss_of(objective, params, all_equal) == 0 < loss_of(objective, params, rows)


def test_equal_captions_have_equal_ids_and_different_ones_do_not():
    tokens = np.random.default_rng(0).integers(0, 50_000, (2000, 12)).astype(np.int32)
    ids = np.asarray(caption_ids(jnp.asarray(np.concatenate([tokens, tokens]))))
    assert len(set(ids.tolist())) == 2000
    np.testing.assert_array_equal(ids[:2000], ids[2000:])


def test_order_of_tokens_matters_to_ids():
    first, second = np.asarray(caption_ids(jnp.array([[1, 2, 3], [3, 2, 1]], jnp.int32)))
    assert first != second


def test_logit_scale_is_held_below_a_hundred():
    clamped = clamp_logit_scale({"logit_scale": jnp.float32(9.0), "x": 1})
    assert_allclose(jnp.exp(clamped["logit_scale"]), 100, rtol=1e-5)
    assert clamp_logit_scale({"x": 1}) == {"x": 1}
