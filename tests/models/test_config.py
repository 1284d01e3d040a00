import dataclasses

import pytest
from small_models import RESNET, TEXT, VIT

from clipjax.errors import ConfigError
from clipjax.models.config import OPENAI_MEAN, CLIPConfig

WHOLE = CLIPConfig(VIT, TEXT, 16)


def test_grid_counts_whole_patches():
    assert [dataclasses.replace(VIT, image_size=side).grid for side in (4, 16, 19, 20)] == [1, 4, 4, 5]


def test_resnet_reduces_its_image_by_thirty_two():
    assert (dataclasses.replace(RESNET, image_size=96).grid, RESNET.features) == (3, 128)


def test_image_size_and_context_length_are_the_towers():
    assert (WHOLE.image_size, WHOLE.context_length) == (16, 12)


def test_pixels_are_openais_unless_said_otherwise():
    assert WHOLE.mean == OPENAI_MEAN


@pytest.mark.parametrize(
    ("config", "change", "complaint"),
    [
        (VIT, {"heads": 5}, "5 heads do not divide the width 32"),
        (VIT, {"patch_size": 17}, "patch_size 17 exceeds image_size 16"),
        (VIT, {"width": "32"}, "ViTConfig.width is '32'"),
        (VIT, {"layers": 0}, "ViTConfig.layers is 0"),
        (VIT, {"layers": 10**6}, "ViTConfig.layers is 1000000"),
        (VIT, {"mlp_width": True}, "ViTConfig.mlp_width is True"),
        (VIT, {"activation": "relu"}, "activation is 'relu'; known are 'quick_gelu' and 'gelu'"),
        (VIT, {"layer_norm_eps": 0.0}, "layer_norm_eps is 0.0"),
        (TEXT, {"context_length": -1}, "TextConfig.context_length is -1"),
        (TEXT, {"end_of_text": "last"}, "end_of_text is 'last'; known are 'largest' and 'first'"),
        (RESNET, {"image_size": 100}, "image_size is 100; it must be a multiple of 32"),
        (RESNET, {"blocks": (1, 2, 3)}, r"blocks is \(1, 2, 3\)"),
        (RESNET, {"blocks": (1, 2, 3, 0)}, r"blocks is \(1, 2, 3, 0\)"),
        (RESNET, {"heads": 3}, "3 heads do not divide 128 features"),
        (WHOLE, {"vision": None, "text": None}, "neither an image tower nor a text tower"),
        (WHOLE, {"embed_dim": None}, "embed_dim is None"),
        (WHOLE, {"std": (1.0, 0.0, 1.0)}, "std is .* must be positive"),
        (WHOLE, {"mean": (0.5, 0.5)}, "mean is .* three numbers"),
        (WHOLE, {"preprocessing": "own"}, "preprocessing is 'own'"),
    ],
)
def test_field_that_makes_no_model_is_refused_by_name(config, change, complaint):
    with pytest.raises(ConfigError, match=complaint):
        dataclasses.replace(config, **change)


def test_size_of_a_missing_tower_is_refused():
    with pytest.raises(ConfigError, match="no image tower"):
        _ = dataclasses.replace(WHOLE, vision=None).image_size
    with pytest.raises(ConfigError, match="no text tower"):
        _ = dataclasses.replace(WHOLE, text=None).context_length
