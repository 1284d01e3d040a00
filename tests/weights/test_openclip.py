"""open_clip_config.json: what its fields mean, and which options would need another model."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import PLAIN_TEXT, PLAIN_VIT, RESNET

from clipjax.errors import CheckpointError, ConfigError
from clipjax.models.config import OPENAI_MEAN, CLIPConfig, TextConfig, ViTConfig
from clipjax.weights.openclip import CONFIG_FILE, read_config, write_config

BOTH = CLIPConfig(PLAIN_VIT, PLAIN_TEXT, 16)


@pytest.fixture
def read(tmp_path):
    """A function that reads a configuration with changed sections."""

    def reading(change=lambda model: None, config=BOTH):
        write_config(tmp_path, config)
        document = json.loads((tmp_path / CONFIG_FILE).read_text())
        change(document["model_cfg"])
        document["preprocess_cfg"] |= document["model_cfg"].pop("preprocess_cfg", {})
        (tmp_path / CONFIG_FILE).write_text(json.dumps(document))
        return read_config(tmp_path / CONFIG_FILE)

    return reading


def test_absent_fields_are_openclips_defaults(tmp_path):
    document = {"model_cfg": {"embed_dim": 512, "vision_cfg": {}, "text_cfg": {}}}
    (tmp_path / CONFIG_FILE).write_text(json.dumps(document))
    assert read_config(tmp_path / CONFIG_FILE) == CLIPConfig(
        ViTConfig(224, 16, 768, 12, 12, 3072, "gelu"), TextConfig(49408, 77, 512, 12, 8, 2048, "gelu"), 512
    )


def test_published_file_is_read(tmp_path):
    """As laion/CLIP-ViT-H-14-laion2B-s32B-b79K has it."""
    document = {
        "model_cfg": {
            "embed_dim": 1024,
            "vision_cfg": {"image_size": 224, "layers": 32, "width": 1280, "head_width": 80, "patch_size": 14},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 1024, "heads": 16, "layers": 24},
        },
        "preprocess_cfg": {
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
        },
    }
    (tmp_path / CONFIG_FILE).write_text(json.dumps(document))
    config = read_config(tmp_path / CONFIG_FILE)
    assert (config.vision.heads, config.vision.mlp_width, config.text.heads) == (16, 5120, 16)
    assert (config.vision.activation, config.mean) == ("gelu", OPENAI_MEAN)


@pytest.mark.parametrize(
    "config",
    [
        BOTH,
        CLIPConfig(RESNET, PLAIN_TEXT, 16),
        dataclasses.replace(BOTH, vision=dataclasses.replace(PLAIN_VIT, heads=8, layer_norm_eps=1e-6)),
        dataclasses.replace(BOTH, text=dataclasses.replace(PLAIN_TEXT, heads=6, layer_norm_eps=1e-6, pad_token_id=7)),
        dataclasses.replace(BOTH, mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0)),
        dataclasses.replace(
            BOTH, text=dataclasses.replace(PLAIN_TEXT, end_of_text="first", bos_token_id=20, eos_token_id=21)
        ),
    ],
)
def test_written_configuration_is_read_back(read, config):
    assert read(config=config) == config


@given(width=st.integers(1, 4096), mlp_width=st.integers(1, 16384))
def test_every_mlp_width_survives_openclips_ratio(tmp_path_factory, width, mlp_width):
    folder = tmp_path_factory.mktemp("ratio")
    config = dataclasses.replace(BOTH, text=dataclasses.replace(PLAIN_TEXT, width=width, heads=1, mlp_width=mlp_width))
    write_config(folder, config)
    assert read_config(folder / CONFIG_FILE).text.mlp_width == mlp_width


def test_sizes_may_be_pairs_of_equal_numbers(read):
    config = read(lambda m: m["vision_cfg"].update(image_size=[16, 16], patch_size=[4, 4]))
    assert config.vision == PLAIN_VIT


@pytest.mark.parametrize(
    "preparation",
    [
        {"interpolation": "random"},
        {"interpolation": None, "resize_mode": None, "mode": None},
        {"fill_color": 0, "size": 16},
    ],
    ids=str,
)
def test_preparation_that_comes_to_the_same_is_accepted(read, preparation):
    assert read(lambda m: m.update(preprocess_cfg=preparation)) == BOTH


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda m: m.update(preprocess_cfg={"resize_mode": "squash"}), "resize_mode is 'squash'; clipjax supports"),
        (lambda m: m.update(preprocess_cfg={"resize_mode": "longest"}), "resize_mode is 'longest'"),
        (lambda m: m.update(preprocess_cfg={"interpolation": "bilinear"}), "interpolation is 'bilinear'"),
        (lambda m: m.update(preprocess_cfg={"mode": "L"}), "preprocess_cfg.mode is 'L'"),
        (lambda m: m["vision_cfg"].update(global_average_pool=True), "global_average_pool is True"),
        (lambda m: m["vision_cfg"].update(mlp_ratio=10**400), "vision_cfg.mlp_ratio is 1000.*; it must be a number of"),
        (lambda m: m["text_cfg"].update(mlp_ratio=1e308), r"text_cfg.mlp_ratio is 1e\+308"),
        (lambda m: m["text_cfg"].update(mlp_ratio=1e29), "TextConfig.mlp_width is"),
        (lambda m: m.pop("vision_cfg"), "model_cfg.vision_cfg is missing"),
        (lambda m: m.pop("embed_dim"), "model_cfg.embed_dim is missing"),
        (lambda m: m.update(multimodal_cfg={}), "model_cfg.multimodal_cfg is {}; clipjax supports None only"),
        (lambda m: m.update(init_logit_bias=-10), "model_cfg.init_logit_bias is -10"),
        (lambda m: m["vision_cfg"].update(image_size=[16, 20]), r"vision_cfg.image_size is \[16, 20\]"),
        (lambda m: m["vision_cfg"].update(head_width=48), "vision_cfg.head_width 48 does not divide width 128"),
        (lambda m: m["vision_cfg"].update(width=-1), "vision_cfg.width is -1"),
        (lambda m: m["vision_cfg"].update(patch_size=17), "patch_size 17 exceeds image_size 16"),
        (lambda m: m["vision_cfg"].update(mlp_ratio="4"), "vision_cfg.mlp_ratio is '4'"),
        (lambda m: m["vision_cfg"].update(layers=[1, 2, 3]), r"layers is \[1, 2, 3\]; a ResNet has four stages"),
        (lambda m: m["vision_cfg"].update(layers=[1, 2, 3, "a"]), "layers is 'a'; it must be an integer"),
        (lambda m: m["vision_cfg"].update(timm_model_name="x"), "vision_cfg.timm_model_name is 'x'"),
        (lambda m: m["vision_cfg"].update(attentional_pool=True), "attentional_pool is True; clipjax supports False"),
        (lambda m: m["vision_cfg"].update(no_ln_pre=True), "no_ln_pre is True"),
        (lambda m: m["vision_cfg"].update(pool_type="avg"), "vision_cfg.pool_type is 'avg'"),
        (lambda m: m["vision_cfg"].update(final_ln_after_pool=True), "final_ln_after_pool is True"),
        (lambda m: m["vision_cfg"].update(ls_init_value=1e-5), "ls_init_value is 1e-05"),
        (lambda m: m["vision_cfg"].update(norm_kwargs={"eps": "a"}), "norm_kwargs.eps is 'a'"),
        (lambda m: m["text_cfg"].update(heads=5), "5 heads do not divide the width 24"),
        (lambda m: m["text_cfg"].update(hf_model_name="xlm"), "text_cfg.hf_model_name is 'xlm'"),
        (lambda m: m["text_cfg"].update(embed_cls=True), "embed_cls is True"),
        (lambda m: m["text_cfg"].update(no_causal_mask=True), "no_causal_mask is True"),
        (lambda m: m["text_cfg"].update(proj_bias=True), "proj_bias is True"),
        (lambda m: m["text_cfg"].update(proj_type="none"), "proj_type is 'none'"),
        (lambda m: m["text_cfg"].update(pool_type="last"), "text_cfg.pool_type is 'last'; known are argmax, eos"),
        (lambda m: m["text_cfg"].update(act_kwargs={"approximate": "tanh"}), "act_kwargs is"),
        (lambda m: m["text_cfg"].update(qk_norm=True), "qk_norm is True"),
    ],
)
def test_field_that_makes_another_model_is_refused_by_name(read, change, complaint):
    with pytest.raises(ConfigError, match=rf"open_clip_config\.json: .*{complaint}") as caught:
        read(change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (CLIPConfig(None, PLAIN_TEXT, 16), "both towers; save this model as huggingface"),
        (CLIPConfig(PLAIN_VIT, None, 16), "both towers; save this model as huggingface"),
        (
            dataclasses.replace(BOTH, text=dataclasses.replace(PLAIN_TEXT, activation="gelu")),
            "one activation for both towers; save this model as huggingface",
        ),
    ],
)
def test_what_openclip_cannot_say_is_refused(tmp_path, config, complaint):
    with pytest.raises(CheckpointError, match=complaint):
        write_config(tmp_path, config)
    assert not list(tmp_path.iterdir())
