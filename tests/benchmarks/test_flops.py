"""Counted operations against those that XLA finds in the traced model."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from benchmarks.flops import image_flops, text_flops
from clipjax.models.clip import CLIP
from clipjax.models.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig

# XLA counts a scanned body once, so one layer; wide, so that matrix products outweigh the rest
VIT = ViTConfig(image_size=64, patch_size=8, width=512, layers=1, heads=4, mlp_width=1024)
TEXT = TextConfig(100, 64, width=384, layers=1, heads=4, mlp_width=512, bos_token_id=98, eos_token_id=99)
CONFIG = CLIPConfig(VIT, TEXT, 256)


def counted_by_xla(function, *shapes) -> float:
    params = CLIP(CONFIG).param_shapes()
    return jax.jit(function).lower(params, *shapes).cost_analysis()["flops"]


def test_image_flops_are_those_of_the_traced_tower():
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    assert image_flops(CONFIG) == pytest.approx(counted_by_xla(CLIP(CONFIG).encode_image, images), rel=0.02)


def test_text_flops_are_those_of_the_traced_tower():
    tokens = jax.ShapeDtypeStruct((1, 64), jnp.int32)
    assert text_flops(CONFIG, 64) == pytest.approx(counted_by_xla(CLIP(CONFIG).encode_text, tokens), rel=0.02)


def test_each_further_layer_costs_the_same():
    one, two, three = (image_flops(replace(CONFIG, vision=replace(VIT, layers=n))) for n in (1, 2, 3))
    assert three - two == two - one > 0


def test_resnet_is_not_counted_as_a_transformer():
    with pytest.raises(ValueError, match="vision transformers"):
        image_flops(replace(CONFIG, vision=ResNetConfig(64, 4, (1, 1, 1, 1), 2)))
