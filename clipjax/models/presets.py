"""The published CLIP models by name: OpenAI's nine, and OpenCLIP's LAION and DataComp vision transformers."""

from clipjax.errors import ConfigError
from clipjax.models.config import Activation, CLIPConfig, ResNetConfig, TextConfig, ViTConfig

_INCEPTION = (0.5, 0.5, 0.5)


def _text(width: int, layers: int = 12, activation: Activation = "quick_gelu") -> TextConfig:
    return TextConfig(49408, 77, width, layers, width // 64, 4 * width, activation)


def _vit(image_size, patch_size, width, layers, embed_dim, text_width) -> CLIPConfig:
    vision = ViTConfig(image_size, patch_size, width, layers, width // 64, 4 * width)
    return CLIPConfig(vision, _text(text_width), embed_dim)


def _resnet(image_size, width, blocks, embed_dim, text_width) -> CLIPConfig:
    return CLIPConfig(ResNetConfig(image_size, width, blocks, width * 32 // 64), _text(text_width), embed_dim)


def _open(patch_size, width, layers, heads, mlp_width, embed_dim, text_width, text_layers=12, norm=None):
    vision = ViTConfig(224, patch_size, width, layers, heads, mlp_width, "gelu")
    pixels = {} if norm is None else {"mean": norm, "std": norm}
    return CLIPConfig(vision, _text(text_width, text_layers, "gelu"), embed_dim, **pixels)


PRESETS: dict[str, CLIPConfig] = {
    "RN50": _resnet(224, 64, (3, 4, 6, 3), 1024, 512),
    "RN101": _resnet(224, 64, (3, 4, 23, 3), 512, 512),
    "RN50x4": _resnet(288, 80, (4, 6, 10, 6), 640, 640),
    "RN50x16": _resnet(384, 96, (6, 8, 18, 8), 768, 768),
    "RN50x64": _resnet(448, 128, (3, 15, 36, 10), 1024, 1024),
    "ViT-B/32": _vit(224, 32, 768, 12, 512, 512),
    "ViT-B/16": _vit(224, 16, 768, 12, 512, 512),
    "ViT-L/14": _vit(224, 14, 1024, 24, 768, 768),
    "ViT-L/14@336": _vit(336, 14, 1024, 24, 768, 768),
    "laion/ViT-B-32": _open(32, 768, 12, 12, 3072, 512, 512),
    "laion/ViT-B-16": _open(16, 768, 12, 12, 3072, 512, 512),
    # LAION's L/14 was trained on pixels scaled to [-1, 1], DataComp's on OpenAI's mean and deviation
    "laion/ViT-L-14": _open(14, 1024, 24, 16, 4096, 768, 768, norm=_INCEPTION),
    "laion/ViT-H-14": _open(14, 1280, 32, 16, 5120, 1024, 1024, 24),
    "laion/ViT-g-14": _open(14, 1408, 40, 16, 6144, 1024, 1024, 24),
    "laion/ViT-bigG-14": _open(14, 1664, 48, 16, 8192, 1280, 1280, 32),
    "datacomp/ViT-B-32": _open(32, 768, 12, 12, 3072, 512, 512),
    "datacomp/ViT-B-16": _open(16, 768, 12, 12, 3072, 512, 512),
    "datacomp/ViT-L-14": _open(14, 1024, 24, 16, 4096, 768, 768),
}


def preset(name: str) -> CLIPConfig:
    """Return the configuration of a published model.

    Raises:
      ConfigError: the name is not one of `PRESETS`.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise ConfigError(f"no preset {name!r}; known are {', '.join(PRESETS)}") from None
