"""OpenAI's state dict layout: the configuration is inferred from the shapes, as OpenAI's own loader does."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from clipjax.errors import CheckpointError, ConfigError
from clipjax.models.config import OPENAI_MEAN, OPENAI_STD, CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from clipjax.models.presets import PRESETS
from clipjax.weights.stored import StoredTensor

_HEAD_WIDTH = 64
_OPENCLIPS_OWN = ("laion/ViT-H-14", "laion/ViT-g-14", "laion/ViT-bigG-14")


def text_prefix(tensors: Mapping[str, StoredTensor]) -> str:
    """Return OpenCLIP's custom text prefix when the names have it, else the empty string."""
    return "text." if "text.positional_embedding" in tensors else ""


def infer_config(path: Path, tensors: Mapping[str, StoredTensor]) -> CLIPConfig:
    """Infer the configuration of an OpenAI or OpenCLIP state dict that comes without one.

    Shapes do not tell head counts and activations. The rule is OpenAI's (heads of width 64,
    QuickGELU), except where the shapes are those of an OpenCLIP model that OpenAI never
    published (H/14, g/14, bigG/14).

    Raises:
      CheckpointError: a tensor that tells a size is missing or has an impossible shape.
    """
    prefix = text_prefix(tensors)

    def shape(name: str, dims: int) -> tuple[int, ...]:
        if name not in tensors:
            raise CheckpointError(f"{path}: missing {name}; the file is not a whole CLIP")
        found = tensors[name].shape
        if len(found) != dims or 0 in found:
            raise CheckpointError(f"{path}: {name} has shape {list(found)}; {dims} dimensions are expected")
        return found

    def count(pattern: str) -> int:
        return len({m[1] for name in tensors if (m := re.match(pattern, name))})

    try:
        width = shape(prefix + "ln_final.weight", 1)[0]
        context_length = shape(prefix + "positional_embedding", 2)[0]
        vocab_size = shape(prefix + "token_embedding.weight", 2)[0]
        embed_dim = shape(prefix + "text_projection", 2)[1]
        text = TextConfig(
            vocab_size,
            context_length,
            width,
            count(re.escape(prefix) + r"transformer\.resblocks\.(\d+)\."),
            _heads(width),
            shape(prefix + "transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
            bos_token_id=vocab_size - 2,
            eos_token_id=vocab_size - 1,
        )
        if "visual.proj" in tensors:
            width, _, patch, _ = shape("visual.conv1.weight", 4)
            grid = _side(path, "visual.positional_embedding", shape("visual.positional_embedding", 2)[0])
            layers = count(r"visual\.transformer\.resblocks\.(\d+)\.")
            mlp_width = shape("visual.transformer.resblocks.0.mlp.c_fc.weight", 2)[0]
            vision = ViTConfig(_image_size(tensors, grid, patch), patch, width, layers, _heads(width), mlp_width)
        else:
            width = shape("visual.layer1.0.conv1.weight", 4)[0]
            blocks = tuple(count(rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
            name = "visual.attnpool.positional_embedding"
            grid = _side(path, name, shape(name, 2)[0])
            vision = ResNetConfig(32 * grid, width, blocks, _heads(32 * width))  # pyright: ignore[reportArgumentType]
        return _published(CLIPConfig(vision, text, embed_dim))
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}; pass the configuration, or a directory that holds it") from None


def is_openclips_own(config: CLIPConfig) -> bool:
    """Tell whether a configuration is of a size that OpenAI never published and OpenCLIP did."""
    return any(config == replace(PRESETS[name], embed_dim=config.embed_dim) for name in _OPENCLIPS_OWN)


def check_expressible(config: CLIPConfig) -> None:
    """Refuse what a bare state dict cannot say and `infer_config` would therefore get wrong.

    Raises:
      CheckpointError: the format cannot hold this model.
    """
    if config.vision is None or config.text is None:
        raise CheckpointError("a state dict in OpenAI's layout holds both towers; save this model as huggingface")
    heads = [(config.text.heads, config.text.width)]
    if isinstance(config.vision, ViTConfig):
        heads.append((config.vision.heads, config.vision.width))
    else:
        heads.append((config.vision.heads, config.vision.features))
    rule = all(n == _heads(width) for n, width in heads)
    towers = [tower for tower in (config.vision, config.text) if not isinstance(tower, ResNetConfig)]
    rule = rule and all((t.activation, t.layer_norm_eps) == ("quick_gelu", 1e-5) for t in towers)
    rule = rule and config.text.end_of_text == "largest"
    if isinstance(config.vision, ViTConfig):
        rule = rule and config.vision.image_size % config.vision.patch_size == 0
    if not rule or _published(config) != config:
        raise CheckpointError(
            "a state dict without configuration means OpenAI's rules (heads of width 64, QuickGELU, eps 1e-5, pooling "
            "at the largest id), which this model does not follow; save it as openclip or huggingface"
        )
    if (config.mean, config.std) != (OPENAI_MEAN, OPENAI_STD):
        raise CheckpointError(
            "a state dict without configuration means OpenAI's mean and deviation of pixels, which this model does not "
            "use; save it as openclip or huggingface"
        )


def _heads(width: int) -> int:
    return max(1, width // _HEAD_WIDTH)


def _side(path: Path, name: str, positions: int) -> int:
    side = round((positions - 1) ** 0.5)
    if side < 1 or side**2 + 1 != positions:
        raise CheckpointError(f"{path}: {name} has {positions} rows; a square number and one are expected")
    return side


def _image_size(tensors: Mapping[str, StoredTensor], grid: int, patch: int) -> int:
    """Trust the buffer that OpenAI's archives carry only where it agrees with the positions."""
    stored = tensors.get("input_resolution")
    if stored is not None and stored.shape == () and np.issubdtype(stored.dtype, np.integer):
        side = int(stored.read())
        if side // patch == grid:
            return side
    return grid * patch


def _published(config: CLIPConfig) -> CLIPConfig:
    """Exchange inferred head counts and activations for those of the OpenCLIP model with these shapes."""
    for name in _OPENCLIPS_OWN:
        known = PRESETS[name]
        assert known.text is not None and config.text is not None
        inferred = [
            None if tower is None else replace(tower, heads=published.heads, activation=published.activation)
            for tower, published in ((config.vision, known.vision), (config.text, known.text))
            if isinstance(tower, ViTConfig | TextConfig)
            and isinstance(published, ViTConfig | TextConfig)
            and tower.width % published.heads == 0
        ]
        if inferred == [known.vision, known.text]:
            return replace(known, embed_dim=config.embed_dim)
    return config
