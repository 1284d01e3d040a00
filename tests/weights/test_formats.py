"""There and back through every format: each number keeps its bits, each model its configuration."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest
from small_models import PLAIN_TEXT, PLAIN_VIT, RESNET, assert_same_params, random_params

from clipjax.errors import ClipjaxError
from clipjax.models.clip import CLIP
from clipjax.models.config import CLIPConfig
from clipjax.models.presets import PRESETS
from clipjax.weights import openclip
from clipjax.weights.load import load
from clipjax.weights.native import config_from_dict, config_to_dict
from clipjax.weights.save import FORMATS, save

VIT_CLIP = CLIPConfig(PLAIN_VIT, PLAIN_TEXT, 16)
RESNET_CLIP = CLIPConfig(RESNET, PLAIN_TEXT, 16)
HOLDABLE = [(format, config) for format in FORMATS for config in (VIT_CLIP, RESNET_CLIP)]
HOLDABLE.remove(("huggingface", RESNET_CLIP))
ONE_TOWER = {
    "text": CLIPConfig(None, PLAIN_TEXT, None),
    "text-projected": CLIPConfig(None, PLAIN_TEXT, 16),
    "vision": CLIPConfig(PLAIN_VIT, None, None),
    "vision-projected": CLIPConfig(PLAIN_VIT, None, 16),
}


def drawn(config: CLIPConfig, types: str):
    """Draw params of one type, or of three types side by side; one tensor has one type in every layout."""
    model = CLIP(config)
    if types != "mixed":
        return model, random_params(model, dtype=types)
    params = random_params(model)
    params["vision"] = jax.tree.map(lambda x: x.astype(jnp.float16), params["vision"])
    params["text"] = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params["text"])
    return model, params


def without_what_transformers_does_not_say(config: CLIPConfig) -> CLIPConfig:
    """transformers' legacy id for "pool at the largest" takes the end token's place, and images get its own rule."""
    text = config.text and dataclasses.replace(config.text, eos_token_id=0)
    return dataclasses.replace(config, text=text, preprocessing="openai")


@pytest.mark.parametrize("types", ["float32", "float16", "bfloat16", "mixed"])
@pytest.mark.parametrize(("format", "config"), HOLDABLE, ids=[f"{f}-{type(c.vision).__name__}" for f, c in HOLDABLE])
def test_every_bit_comes_back(tmp_path, format, config, types):
    model, params = drawn(config, types)
    save(tmp_path / "saved", model, params, format=format)
    loaded, found = load(tmp_path / "saved", dtype=None)
    assert_same_params(found, params)
    assert without_what_transformers_does_not_say(loaded.config) == without_what_transformers_does_not_say(config)


@pytest.mark.parametrize("format", ["huggingface", "orbax"])
@pytest.mark.parametrize("config", ONE_TOWER.values(), ids=ONE_TOWER)
def test_one_tower_comes_back(tmp_path, format, config):
    model, params = drawn(config, "float32")
    save(tmp_path / "saved", model, params, format=format)
    loaded, found = load(tmp_path / "saved")
    assert_same_params(found, params)
    assert without_what_transformers_does_not_say(loaded.config) == without_what_transformers_does_not_say(config)


@pytest.mark.parametrize("format", ["openclip", "openai-state-dict"])
@pytest.mark.parametrize("config", ONE_TOWER.values(), ids=ONE_TOWER)
def test_one_tower_is_refused_by_the_formats_of_two(tmp_path, format, config):
    with pytest.raises(ClipjaxError, match="both towers; save this model as huggingface"):
        save(tmp_path / "saved", *drawn(config, "float32"), format=format)
    assert not list(tmp_path.iterdir())


def test_chain_of_all_formats_keeps_every_bit(tmp_path):
    model, first = drawn(VIT_CLIP, "float32")
    params = first
    for format in (*FORMATS, *FORMATS[::-1]):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}-{format}"
        save(path, model, params, format=format)
        model, params = load(path)
    assert_same_params(params, first)


@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "gelu"},
        {"layer_norm_eps": 1e-3},
        {"heads": 4},
        {"mlp_width": 77},
    ],
    ids=str,
)
@pytest.mark.parametrize("format", ["huggingface", "openclip", "orbax"])
def test_what_a_state_dict_cannot_say_is_kept_by_the_other_formats(tmp_path, format, changes):
    vision, text = (dataclasses.replace(tower, **changes) for tower in (PLAIN_VIT, PLAIN_TEXT))
    model, params = drawn(CLIPConfig(vision, text, 16, mean=(0.5, 0.4, 0.3), std=(0.3, 0.2, 0.1)), "float32")
    save(tmp_path / "saved", model, params, format=format)
    loaded, _ = load(tmp_path / "saved")
    assert without_what_transformers_does_not_say(loaded.config) == without_what_transformers_does_not_say(model.config)


@pytest.mark.parametrize("format", ["huggingface", "openclip", "orbax"])
def test_rule_of_the_first_end_token_is_kept(tmp_path, format):
    text = dataclasses.replace(PLAIN_TEXT, end_of_text="first", bos_token_id=20, eos_token_id=21)
    model, params = drawn(CLIPConfig(PLAIN_VIT, text, 16), "float32")
    save(tmp_path / "saved", model, params, format=format)
    assert load(tmp_path / "saved")[0].config.text == text


@pytest.mark.parametrize("format", ["huggingface", "openclip", "orbax"])
def test_pixels_that_fill_no_patch_are_kept(tmp_path, format):
    model, params = drawn(CLIPConfig(dataclasses.replace(PLAIN_VIT, image_size=18), PLAIN_TEXT, 16), "float32")
    save(tmp_path / "saved", model, params, format=format)
    assert load(tmp_path / "saved")[0].config.vision.image_size == 18


@pytest.mark.parametrize("name", PRESETS)
def test_openclip_keeps_the_configuration_of_every_published_model(tmp_path, name):
    openclip.write_config(tmp_path, PRESETS[name])
    assert openclip.read_config(tmp_path / openclip.CONFIG_FILE) == PRESETS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_own_format_keeps_the_configuration_of_every_published_model(tmp_path, name):
    assert config_from_dict(tmp_path, json.loads(json.dumps(config_to_dict(PRESETS[name])))) == PRESETS[name]
