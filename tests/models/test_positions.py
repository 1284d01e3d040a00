import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_models import TEXT, VIT, random_images, small_clip

from clipjax.errors import ConfigError
from clipjax.models.positions import resize_positions


def positions_of(params) -> np.ndarray:
    return np.asarray(params["vision"]["position_embedding"])


def with_positions(params, positions):
    return {**params, "vision": {**params["vision"], "position_embedding": jnp.asarray(positions)}}


@pytest.mark.parametrize("image_size", [16, 18])
def test_same_grid_keeps_every_number(vit, image_size):
    model, params = vit
    resized, moved = resize_positions(model, params, image_size)
    assert resized.config.image_size == image_size
    assert moved is params


@pytest.mark.parametrize("image_size", [8, 24])
def test_equal_positions_stay_equal(vit, image_size):
    model, params = vit
    row = positions_of(params)[1]
    _, moved = resize_positions(model, with_positions(params, np.stack([row] * 17)), image_size)
    assert_allclose(positions_of(moved), np.stack([row] * (1 + (image_size // 4) ** 2)), rtol=1e-5)


def test_class_token_keeps_its_position(vit):
    model, params = vit
    _, moved = resize_positions(model, params, 28)
    assert np.array_equal(positions_of(moved)[0], positions_of(params)[0])


def test_rows_and_columns_keep_their_places(vit):
    model, params = vit
    grid = positions_of(params)[1:].reshape(4, 4, VIT.width)
    _, moved = resize_positions(model, params, 24)
    mirrored = with_positions(params, np.concatenate([positions_of(params)[:1], grid[:, ::-1].reshape(16, -1)]))
    _, moved_mirrored = resize_positions(model, mirrored, 24)
    grids = [positions_of(p)[1:].reshape(6, 6, VIT.width) for p in (moved, moved_mirrored)]
    assert_allclose(grids[1], grids[0][:, ::-1], rtol=1e-4, atol=1e-5)
    assert np.abs(grids[0].swapaxes(0, 1) - grids[0]).max() > 0.1


def test_resized_model_takes_the_new_size(vit):
    model, params = vit
    resized, moved = resize_positions(model, params, 24)
    resized.check_params(moved)
    assert resized.image_features(moved, random_images(resized)).tokens.shape == (3, 37, VIT.width)


def test_given_params_are_left_alone(vit):
    model, params = vit
    before = positions_of(params).copy()
    _, moved = resize_positions(model, params, 24)
    assert np.array_equal(positions_of(params), before)
    assert moved["vision"]["blocks"] is params["vision"]["blocks"]


def test_positions_keep_their_type(vit):
    model, params = vit
    _, moved = resize_positions(model, with_positions(params, positions_of(params).astype(jnp.bfloat16)), 24)
    assert positions_of(moved).dtype == jnp.bfloat16


def test_pooling_positions_of_a_resnet_move_too(resnet):
    model, params = resnet
    resized, moved = resize_positions(model, params, 96)
    resized.check_params(moved)
    pool = [p["vision"]["attention_pool"]["position_embedding"] for p in (params, moved)]
    assert pool[1].shape[0] == 10
    assert np.array_equal(pool[1][0], pool[0][0])


def test_size_that_the_tower_cannot_have_is_refused(vit, resnet):
    with pytest.raises(ConfigError, match="patch_size 4 exceeds image_size 3"):
        resize_positions(*vit, 3)
    with pytest.raises(ConfigError, match="multiple of 32"):
        resize_positions(*resnet, 100)


def test_text_only_model_is_refused():
    with pytest.raises(ConfigError, match="no image tower"):
        resize_positions(*small_clip(None, TEXT), 24)


def test_params_of_another_model_are_refused(vit):
    model, params = vit
    with pytest.raises(ConfigError, match="position_embedding"):
        resize_positions(model, with_positions(params, np.zeros((10, VIT.width), np.float32)), 24)


@pytest.mark.torch
@pytest.mark.parametrize(("old", "new"), [(4, 7), (7, 4), (2, 5), (1, 3), (5, 1)])
def test_interpolation_equals_pytorchs(old, new):
    torch = pytest.importorskip("torch")
    model, params = small_clip(dataclasses.replace(VIT, image_size=4 * old), None)
    grid = torch.tensor(positions_of(params)[1:]).reshape(1, old, old, VIT.width).permute(0, 3, 1, 2)
    want = torch.nn.functional.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    _, moved = resize_positions(model, params, 4 * new)
    assert_allclose(positions_of(moved)[1:], want.permute(0, 2, 3, 1).reshape(new * new, -1), rtol=1e-5, atol=2e-6)


@pytest.mark.torch
@pytest.mark.parametrize("image_size", [24, 10])
def test_embedding_equals_transformers_with_interpolated_positions(tmp_path, image_size):
    torch = pytest.importorskip("torch")
    from transformers import CLIPVisionModelWithProjection

    from clipjax.weights.save import save

    model, params = small_clip(VIT, None)
    save(tmp_path / "model", model, params)
    images = np.random.default_rng(0).normal(size=(2, image_size, image_size, 3)).astype(np.float32)
    peer = CLIPVisionModelWithProjection.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        want = peer(torch.tensor(images).permute(0, 3, 1, 2), interpolate_pos_encoding=True).image_embeds
    resized, moved = resize_positions(model, params, image_size)
    assert_allclose(resized.encode_image(moved, images), want, rtol=1e-4, atol=1e-5)
