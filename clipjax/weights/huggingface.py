"""transformers' config.json to `CLIPConfig` and back; how images are prepared is in `huggingface_pixels`.

Covers CLIPModel and the text-only and vision-only classes, with and without projection.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from clipjax.errors import CheckpointError, ConfigError
from clipjax.models.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from clipjax.weights.fields import Fields, read_json
from clipjax.weights.huggingface_pixels import pixels_document, read_pixels
from clipjax.weights.names import Row, huggingface_names

_ACTIVATIONS = {"quick_gelu": "quick_gelu", "gelu": "gelu"}
_LEGACY_EOS = 2  # with this eos_token_id transformers pools at the largest id
_MODEL_TYPES = ("clip", "clip_text_model", "clip_vision_model")


def read_config(folder: Path, names: Collection[str]) -> tuple[CLIPConfig, tuple[Row, ...]]:
    """Read the configuration of a directory whose weights have these tensor names, and its name table.

    Raises:
      ConfigError: config.json or the image processor's file contradicts itself, the weights, or is not CLIP's.
    """
    config_file = folder / "config.json"
    fields = Fields(config_file, read_json(config_file))
    model_type = fields.values.get("model_type")
    if model_type not in _MODEL_TYPES:
        raise ConfigError(f"{config_file}: model_type is {model_type!r}; clipjax reads {', '.join(_MODEL_TYPES)}")
    vision = text = None
    vision_prefix, text_prefix = _prefixes(model_type == "clip", names)
    if model_type != "clip_text_model":
        section = fields.section("vision_config") if model_type == "clip" else fields
        vision = _vision(section, _depth(names, vision_prefix))
    if model_type != "clip_vision_model":
        section = fields.section("text_config") if model_type == "clip" else fields
        text = _text(section, _depth(names, text_prefix))
    pixels = {} if vision is None else read_pixels(folder, vision.image_size)
    embed_dim = None
    if model_type == "clip" or {"visual_projection.weight", "text_projection.weight"} & set(names):
        embed_dim = fields.integer("projection_dim", 512, high=65_536)
    try:
        config = CLIPConfig(vision, text, embed_dim, **pixels)
    except ConfigError as error:
        raise ConfigError(f"{config_file}: {error}") from None
    return config, huggingface_names(config, vision_prefix, text_prefix)


def name_table(config: CLIPConfig, names: Collection[str]) -> tuple[Row, ...]:
    """Return the name table of a model of known configuration for weights with these tensor names."""
    both = config.vision is not None and config.text is not None
    return huggingface_names(config, *_prefixes(both, names))


def write_config(folder: Path, config: CLIPConfig, dtype: str) -> tuple[Row, ...]:
    """Write config.json and, with an image tower, preprocessor_config.json; return the name table to write by.

    Raises:
      CheckpointError: transformers' CLIP lacks something this model needs: a ResNet, or a rule for its end of text.
    """
    if isinstance(config.vision, ResNetConfig):
        raise CheckpointError("transformers has no CLIP with a ResNet; save it as openclip or openai-state-dict")
    text = config.text
    if text is not None and (text.end_of_text, text.eos_token_id) == ("first", _LEGACY_EOS):
        raise CheckpointError(
            f"this model pools at the first end token, {_LEGACY_EOS}; for that id transformers pools at the largest id "
            f"instead: save it as {'openclip or orbax' if config.vision else 'orbax'}"
        )
    text_only, vision_only = config.vision is None, config.text is None
    sections: dict[str, Any] = {}
    if config.vision:
        sections["vision_config"] = _vision_section(config)
    if config.text:
        sections["text_config"] = _text_section(config)
    if text_only or vision_only:
        kind = "Text" if text_only else "Vision"
        (section,) = sections.values()
        head = f"CLIP{kind}Model" + ("WithProjection" if config.embed_dim else "")
        document = {"architectures": [head], **section, "dtype": dtype}
    else:
        document = {
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "projection_dim": config.embed_dim,
            "logit_scale_init_value": 2.6592,
            "initializer_factor": 1.0,
            "dtype": dtype,
            **sections,
        }
    _write_json(folder / "config.json", document)
    if config.vision:
        _write_json(folder / "preprocessor_config.json", pixels_document(config))
    # transformers 5 names the towers of the classes without a projection without a prefix
    bare = config.embed_dim is None
    return huggingface_names(config, "" if bare else "vision_model.", "" if bare else "text_model.")


def _prefixes(both: bool, names: Collection[str]) -> tuple[str, str]:
    """Tell the prefixes of the image and the text tower: transformers 5 saves classes of one tower without any."""

    def found(prefix: str) -> str:
        return prefix if both or any(name.startswith(prefix) for name in names) else ""

    return found("vision_model."), found("text_model.")


def _depth(names: Collection[str], prefix: str) -> int:
    start = prefix + "encoder.layers."
    numbers = {name[len(start) :].split(".", 1)[0] for name in names if name.startswith(start)}
    return max((int(n) + 1 for n in numbers if n.isdecimal() and len(n) < 9), default=0)


def _transformer(fields: Fields, depth: int, *, width: int, heads: int) -> dict[str, Any]:
    """Read what the towers share; `width` and `heads` are transformers' defaults."""
    mlp_width = fields.integer("intermediate_size", 4 * width, high=1_048_576)
    width = fields.integer("hidden_size", width, high=65_536)
    layers = fields.integer("num_hidden_layers", 12, high=1_000_000_000)
    heads = fields.integer("num_attention_heads", heads, high=1024)
    if width % heads:
        raise ConfigError(
            f"{fields.path}: {fields.prefix}num_attention_heads is {heads}, which does not divide hidden_size {width}"
        )
    if layers > depth:  # fewer than the weights hold show up as unexpected tensors, by name
        raise ConfigError(
            f"{fields.path}: {fields.prefix}num_hidden_layers is {layers}, but the weights hold {depth} layers"
        )
    eps = fields.number("layer_norm_eps", 1e-5)
    if not 0 < eps < 1:
        raise ConfigError(f"{fields.path}: {fields.prefix}layer_norm_eps is {eps}; it must lie between 0 and 1")
    return {
        "width": width,
        "layers": layers,
        "heads": heads,
        "mlp_width": mlp_width,
        "activation": fields.choice("hidden_act", "quick_gelu", _ACTIVATIONS),
        "layer_norm_eps": eps,
    }


def _vision(fields: Fields, depth: int) -> ViTConfig:
    image_size = fields.integer("image_size", 224, high=16_384)
    patch_size = fields.integer("patch_size", 32, high=16_384)
    if patch_size > image_size:
        raise ConfigError(f"{fields.path}: {fields.prefix}patch_size {patch_size} exceeds image_size {image_size}")
    if fields.integer("num_channels", 3, high=65_536) != 3:
        raise ConfigError(f"{fields.path}: {fields.prefix}num_channels must be 3")
    return ViTConfig(image_size, patch_size, **_transformer(fields, depth, width=768, heads=12))


def _text(fields: Fields, depth: int) -> TextConfig:
    eos = fields.integer("eos_token_id", 49407, low=0, high=2**31 - 1)
    return TextConfig(
        vocab_size=fields.integer("vocab_size", 49408, high=16_777_216),
        context_length=fields.integer("max_position_embeddings", 77, high=1_048_576),
        end_of_text="largest" if eos == _LEGACY_EOS else "first",
        bos_token_id=fields.integer("bos_token_id", 49406, low=0, high=2**31 - 1),
        eos_token_id=eos,
        pad_token_id=fields.integer("pad_token_id", 1, low=0, high=2**31 - 1),
        **_transformer(fields, depth, width=512, heads=8),
    )


def _section(model_type: str, tower: ViTConfig | TextConfig, config: CLIPConfig) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": tower.width,
        "intermediate_size": tower.mlp_width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "hidden_act": tower.activation,
        "layer_norm_eps": tower.layer_norm_eps,
        "attention_dropout": 0.0,
        **({} if config.embed_dim is None else {"projection_dim": config.embed_dim}),
    }


def _vision_section(config: CLIPConfig) -> dict[str, Any]:
    vision = config.vision
    assert isinstance(vision, ViTConfig)
    sizes = {"image_size": vision.image_size, "patch_size": vision.patch_size, "num_channels": 3}
    return _section("clip_vision_model", vision, config) | sizes


def _text_section(config: CLIPConfig) -> dict[str, Any]:
    text = config.text
    assert text is not None
    return _section("clip_text_model", text, config) | {
        "vocab_size": text.vocab_size,
        "max_position_embeddings": text.context_length,
        "bos_token_id": text.bos_token_id,
        "eos_token_id": _LEGACY_EOS if text.end_of_text == "largest" else text.eos_token_id,
        "pad_token_id": text.pad_token_id,
    }


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
