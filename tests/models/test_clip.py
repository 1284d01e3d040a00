"""The public model: what it promises whatever the towers are."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_models import RESNET, TEXT, VIT, random_images, random_params, random_texts, small_clip

from clipjax.errors import ConfigError
from clipjax.models.clip import CLIP, unit
from clipjax.models.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig

# as small as every part of a tower can be, for what costs one program or run per parameter
TINY_VIT = ViTConfig(image_size=4, patch_size=2, width=6, layers=2, heads=2, mlp_width=5)
TINY_TEXT = TextConfig(9, 5, width=4, layers=2, heads=2, mlp_width=6, bos_token_id=7, eos_token_id=8)
TINY_RESNET = ResNetConfig(32, width=2, blocks=(1, 1, 1, 1), heads=2)


def test_equal_models_share_one_compilation(texts):
    def encode(model, params):
        model.encode_text(params, texts)
        return CLIP.encode_text._cache_size()

    text = dataclasses.replace(TEXT, layers=1)  # no other test uses this one
    model, params = small_clip(None, text)
    compiled = encode(model, params)
    again = CLIP(CLIPConfig(None, dataclasses.replace(text), 16))
    assert again is not model and again == model and hash(again) == hash(model)
    assert encode(again, params) == compiled
    assert encode(again.replace(dtype="bfloat16"), params) == compiled + 1


def test_params_may_change_without_another_compilation(vit, texts):
    model, params = vit
    model.encode_text(params, texts)
    compiled = CLIP.encode_text._cache_size()
    model.encode_text(random_params(model, seed=5), texts)
    assert CLIP.encode_text._cache_size() == compiled


def test_logits_are_scaled_cosines(vit, images, texts):
    model, params = vit
    image, text = (
        np.asarray(x, np.float64) for x in (model.encode_image(params, images), model.encode_text(params, texts))
    )
    cosines = image @ text.T / (np.linalg.norm(image, axis=1)[:, None] * np.linalg.norm(text, axis=1))
    assert_allclose(model.logits(params, images, texts), np.exp(params["logit_scale"]) * cosines, rtol=1e-4, atol=1e-5)


def test_logits_of_one_tower_are_refused(texts):
    model, params = small_clip(None, TEXT)
    with pytest.raises(ConfigError, match="logits need both towers"):
        model.logits(params, jnp.zeros((3, 16, 16, 3)), texts)


def test_unit_rows_have_length_one_and_their_direction(getkey):
    rows = jax.random.normal(getkey(), (4, 7))
    assert_allclose(np.sum(unit(rows) * rows, axis=1), np.linalg.norm(rows, axis=1), rtol=1e-5)
    assert_allclose(np.linalg.norm(unit(rows), axis=1), 1.0, rtol=1e-6)


def test_without_a_projection_the_embedding_is_the_pooled_state(texts):
    model, params = small_clip(None, TEXT, None)
    assert np.array_equal(model.encode_text(params, texts), model.text_features(params, texts).pooled)


def test_projecting_the_pooled_state_is_the_embedding(resnet):
    model, params = resnet
    images = random_images(model)
    pooled = model.image_features(params, images).pooled
    assert_allclose(model.project_image(params, pooled), model.encode_image(params, images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close_and_returns_float32(vit, images, texts, dtype):
    model, params = vit
    half = model.replace(dtype=dtype)
    for whole, rough in (
        (model.encode_image(params, images), half.encode_image(params, images)),
        (model.encode_text(params, texts), half.encode_text(params, texts)),
    ):
        assert rough.dtype == jnp.float32
        distance = np.linalg.norm(rough - whole, axis=1) / np.linalg.norm(whole, axis=1)
        assert 0 < distance.max() < {"bfloat16": 0.05, "float16": 0.01}[dtype]


def test_half_precision_of_a_resnet_stays_close_and_returns_float32(resnet):
    model, params = resnet
    images = random_images(model)
    whole, rough = (m.encode_image(params, images) for m in (model, model.replace(dtype="bfloat16")))
    assert rough.dtype == jnp.float32
    assert 0 < np.linalg.norm(rough - whole) < 0.05 * np.linalg.norm(whole)


def test_half_precision_params_are_used_as_if_widened(texts):
    model, params = small_clip(None, TEXT)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    widened = jax.tree.map(lambda x: x.astype(jnp.float32), half)
    embedding = model.encode_text(half, texts)
    assert embedding.dtype == jnp.float32
    assert_allclose(embedding, model.encode_text(widened, texts), rtol=1e-4, atol=1e-5)


def test_remat_changes_no_value_and_no_gradient():
    model, params = small_clip(TINY_VIT, None, 3)
    images = random_images(model)

    @jax.jit
    def values(params):
        def loss(params, remat):
            return jnp.sum(model.replace(remat=remat).encode_image(params, images) ** 2)

        return {remat: jax.value_and_grad(loss)(params, remat) for remat in ("none", "dots", "full")}

    results = values(params)
    for remat in ("dots", "full"):
        jax.tree.map(lambda x, y: assert_allclose(x, y, rtol=1e-4, atol=1e-5), results[remat], results["none"])


@pytest.mark.parametrize(("vision", "text"), [(TINY_VIT, None), (None, TINY_TEXT)], ids=["vit", "text"])
def test_gradients_equal_finite_differences(vision, text):
    random, step = np.random.default_rng(5), 1e-6
    with jax.enable_x64(True):
        model = CLIP(CLIPConfig(vision, text, 3), dtype="float64")
        params = random_params(model, dtype="float64")
        weights = jnp.asarray(random.normal(size=(2, 3)))
        if vision:
            images = random_images(model, 2).astype(jnp.float64)
            value_and_grad = jax.jit(jax.value_and_grad(lambda p: jnp.sum(weights * model.encode_image(p, images))))
        else:
            texts = random_texts(TINY_TEXT, (3, 5))
            value_and_grad = jax.jit(jax.value_and_grad(lambda p: jnp.sum(weights * model.encode_text(p, texts))))
        leaves, tree = jax.tree.flatten(params)
        for i, gradient in enumerate(jax.tree.leaves(value_and_grad(params)[1])):
            direction = random.normal(size=gradient.shape)
            above, below = (
                value_and_grad(tree.unflatten([*leaves[:i], leaves[i] + side * direction, *leaves[i + 1 :]]))[0]
                for side in (step, -step)
            )
            assert_allclose(np.sum(gradient * direction), (above - below) / (2 * step), rtol=1e-5, atol=1e-7)


def test_float64_without_x64_mode_is_refused():
    with pytest.raises(ConfigError, match="JAX_ENABLE_X64"):
        CLIP(CLIPConfig(VIT, TEXT, 16), dtype="float64")


def test_unknown_compute_type_is_refused():
    with pytest.raises(ConfigError, match="dtype 'int8' is not one of float32"):
        CLIP(CLIPConfig(VIT, TEXT, 16), dtype="int8")


def test_unknown_remat_is_refused():
    model = CLIP(CLIPConfig(VIT, TEXT, 16))
    object.__setattr__(model, "remat", "some")  # the type check of these tests would refuse it before the model does
    with pytest.raises(ConfigError, match="remat 'some' is not one of none, dots, full"):
        model.__post_init__()


def test_own_params_pass_the_check(vit, resnet):
    for model, params in (vit, resnet):
        model.check_params(params)


def test_missing_leaf_is_named(vit):
    model, params = vit
    without = {**params, "image_projection": {}}
    with pytest.raises(ConfigError, match=r"params lack image_projection/kernel \(32, 16\)"):
        model.check_params(without)


def test_unexpected_leaf_is_named(vit):
    model, params = vit
    with pytest.raises(ConfigError, match=r"params have adapter/kernel \(2, 3\), which this model does not know"):
        model.check_params({**params, "adapter": {"kernel": jnp.zeros((2, 3))}})


def test_leaf_of_another_shape_is_named(vit):
    model, params = vit
    transposed = {**params, "image_projection": {"kernel": params["image_projection"]["kernel"].T}}
    with pytest.raises(ConfigError, match=r"image_projection/kernel \(16, 32\); this model needs \(32, 16\)"):
        model.check_params(transposed)


def test_renamed_leaf_is_refused_although_its_shape_fits(vit):
    model, params = vit
    vision = dict(params["vision"])
    vision["norm_before"] = vision.pop("pre_norm")
    with pytest.raises(ConfigError, match="norm_before"):
        model.check_params({**params, "vision": vision})


TOWERS = list(itertools.product((TINY_VIT, TINY_RESNET, None), (TINY_TEXT, None), (3, None)))
MODELS = [
    CLIP(CLIPConfig(vision, text, dim))
    for vision, text, dim in TOWERS
    if (vision or text) and (dim or not ((vision and text) or isinstance(vision, ResNetConfig)))
]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{type(m.config.vision).__name__}-{m.config.embed_dim}")
def test_drawn_params_have_the_promised_shapes(model, getkey):
    drawn = jax.eval_shape(model.init, getkey())
    assert drawn == model.param_shapes()


def test_drawn_params_start_as_openai_did():
    model = CLIP(CLIPConfig(dataclasses.replace(TINY_VIT, width=64), TINY_TEXT, 64))
    params = jax.jit(model.init)(jax.random.key(0))
    assert_allclose(np.exp(params["logit_scale"]), 1 / 0.07, rtol=1e-4)
    assert_allclose(np.std(params["image_projection"]["kernel"]), 64**-0.5, rtol=0.05)
    assert_allclose(np.std(params["text"]["token_embedding"]), 0.02, rtol=0.4)
    assert not np.array_equal(*params["vision"]["blocks"]["attention"]["query"]["kernel"])


def test_towers_that_the_space_cannot_join_are_refused():
    with pytest.raises(ConfigError, match="may lack a projection"):
        CLIPConfig(RESNET, None, None)
