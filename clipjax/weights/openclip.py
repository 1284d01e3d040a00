"""open_clip_config.json to `CLIPConfig` and back; the tensors have OpenAI's names."""

import json
from pathlib import Path
from typing import Any

from clipjax.errors import CheckpointError, ConfigError
from clipjax.models.config import OPENAI_MEAN, OPENAI_STD, CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from clipjax.weights.fields import Fields, read_json

CONFIG_FILE = "open_clip_config.json"

# Options of OpenCLIP that change the computation, each with the one value that the published CLIPs use.
_BLOCK_OPTIONS = {
    "ls_init_value": None,
    "act_kwargs": None,
    "final_ln_after_pool": False,
    "block_type": "default",
    "qk_norm": False,
    "scaled_cosine_attn": False,
    "scale_heads": False,
    "scale_attn_inner": False,
    "scale_attn": False,
    "scale_fc": False,
}
_VISION_OPTIONS = {
    **_BLOCK_OPTIONS,
    "timm_model_name": None,
    "attentional_pool": False,
    "global_average_pool": False,  # the name of `pool_type` in older files
    "input_patchnorm": False,
    "no_ln_pre": False,
    "pos_embed_type": "learnable",
    "pool_type": "tok",
}
_TEXT_OPTIONS = {
    **_BLOCK_OPTIONS,
    "hf_model_name": None,
    "embed_cls": False,
    "no_causal_mask": False,
    "proj_bias": False,
    "proj_type": "linear",
}


def read_config(path: Path) -> CLIPConfig:
    """Read open_clip_config.json.

    Raises:
      ConfigError: a field is malformed, or asks for an option that clipjax does not have.
    """
    document = Fields(path, read_json(path))
    model = document.section("model_cfg")
    model.refuse_unless(multimodal_cfg=None, init_logit_bias=None)
    activation = "quick_gelu" if model.values.get("quick_gelu") else "gelu"
    mean, std = OPENAI_MEAN, OPENAI_STD
    if "preprocess_cfg" in document.values:
        pixels = document.section("preprocess_cfg")
        pixels.refuse_unless(mode="RGB", resize_mode="shortest")
        if pixels.values.get("interpolation") != "random":  # for training; OpenCLIP measures with bicubic then
            pixels.refuse_unless(interpolation="bicubic")
        mean, std = pixels.numbers("mean", mean), pixels.numbers("std", std)
    try:
        return CLIPConfig(
            _vision(model.section("vision_cfg"), activation),
            _text(model.section("text_cfg"), activation),
            model.integer("embed_dim", high=65_536),
            mean,  # pyright: ignore[reportArgumentType]
            std,  # pyright: ignore[reportArgumentType]
        )
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if str(path) in message else f"{path}: {message}") from None


def write_config(folder: Path, config: CLIPConfig) -> None:
    """Write open_clip_config.json.

    Raises:
      CheckpointError: OpenCLIP has no field for something this model needs.
    """
    if config.vision is None or config.text is None:
        raise CheckpointError("OpenCLIP's layout holds both towers; save this model as huggingface")
    vision, text = config.vision, config.text
    activations = {tower.activation for tower in (vision, text) if not isinstance(tower, ResNetConfig)}
    if len(activations) > 1:
        raise CheckpointError("OpenCLIP has one activation for both towers; save this model as huggingface")
    document = {
        "model_cfg": {
            "embed_dim": config.embed_dim,
            "quick_gelu": activations == {"quick_gelu"},
            "vision_cfg": _vision_section(vision),
            "text_cfg": _text_section(text),
        },
        "preprocess_cfg": {
            "size": [vision.image_size, vision.image_size],
            "mode": "RGB",
            "mean": list(config.mean),
            "std": list(config.std),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    (folder / CONFIG_FILE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _square(fields: Fields, name: str, default: int) -> int:
    value = fields.values.get(name, default)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        fields = Fields(fields.path, {**fields.values, name: value[0]}, fields.prefix)
    return fields.integer(name, default, high=16_384)


def _eps(fields: Fields) -> float:
    if not fields.values.get("norm_kwargs"):
        return 1e-5
    return fields.section("norm_kwargs").number("eps", 1e-5)


def _vision(fields: Fields, activation: Any) -> ViTConfig | ResNetConfig:
    fields.refuse_unless(**_VISION_OPTIONS)
    image_size = _square(fields, "image_size", 224)
    width = fields.integer("width", 768, high=65_536)
    head_width = fields.integer("head_width", 64, high=65_536)
    if isinstance(fields.values.get("layers"), list):
        return ResNetConfig(image_size, width, _blocks(fields), width * 32 // head_width)
    patch_size = _square(fields, "patch_size", 16)
    mlp_width = int(width * fields.number("mlp_ratio", 4.0))
    layers = fields.integer("layers", 12, high=512)
    heads = _divide(fields, width, head_width)
    return ViTConfig(image_size, patch_size, width, layers, heads, mlp_width, activation, _eps(fields))


def _blocks(fields: Fields) -> tuple[int, int, int, int]:
    stages = fields.values["layers"]
    if len(stages) != 4:
        raise ConfigError(f"{fields.path}: {fields.prefix}layers is {stages!r}; a ResNet has four stages")
    one, two, three, four = (
        Fields(fields.path, {"layers": n}, fields.prefix).integer("layers", high=512) for n in stages
    )
    return one, two, three, four


def _divide(fields: Fields, width: int, head_width: int) -> int:
    if width % head_width:
        raise ConfigError(f"{fields.path}: {fields.prefix}head_width {head_width} does not divide width {width}")
    return width // head_width


def _text(fields: Fields, activation: Any) -> TextConfig:
    fields.refuse_unless(**_TEXT_OPTIONS)
    pooling = fields.choice("pool_type", "argmax", {"argmax": "largest", "eos": "first"})
    vocab_size = fields.integer("vocab_size", 49408, high=16_777_216)
    width = fields.integer("width", 512, high=65_536)
    if pooling == "first":
        eos = fields.integer("eos_id", 2, low=0, high=2**31 - 1)
    else:
        eos = vocab_size - 1
    return TextConfig(
        vocab_size,
        fields.integer("context_length", 77, high=1_048_576),
        width,
        fields.integer("layers", 12, high=512),
        fields.integer("heads", 8, high=1024),
        int(width * fields.number("mlp_ratio", 4.0)),
        activation,
        _eps(fields),
        pooling,
        bos_token_id=eos - 1,
        eos_token_id=eos,
        pad_token_id=fields.integer("pad_id", 0, low=0, high=2**31 - 1),
    )


def _ratio(mlp_width: int, width: int) -> float:
    """Find a ratio that OpenCLIP's int(width * ratio) turns into exactly this width again."""
    ratio = mlp_width / width
    return ratio if int(width * ratio) == mlp_width else (mlp_width + 0.5) / width


def _norm(eps: float) -> dict[str, Any]:
    return {} if eps == 1e-5 else {"norm_kwargs": {"eps": eps}}


def _vision_section(vision: ViTConfig | ResNetConfig) -> dict[str, Any]:
    if isinstance(vision, ResNetConfig):
        return {
            "image_size": vision.image_size,
            "layers": list(vision.blocks),
            "width": vision.width,
            "head_width": vision.features // vision.heads,
            "patch_size": None,
        }
    return {
        "image_size": vision.image_size,
        "layers": vision.layers,
        "width": vision.width,
        "head_width": vision.width // vision.heads,
        "mlp_ratio": _ratio(vision.mlp_width, vision.width),
        "patch_size": vision.patch_size,
        **_norm(vision.layer_norm_eps),
    }


def _text_section(text: TextConfig) -> dict[str, Any]:
    first = {"pool_type": "eos", "eos_id": text.eos_token_id} if text.end_of_text == "first" else {}
    return {
        "context_length": text.context_length,
        "vocab_size": text.vocab_size,
        "width": text.width,
        "heads": text.heads,
        "layers": text.layers,
        "mlp_ratio": _ratio(text.mlp_width, text.width),
        "pad_id": text.pad_token_id,
        **first,
        **_norm(text.layer_norm_eps),
    }
