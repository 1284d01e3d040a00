"""Floating-point operations of a CLIP's matrix products, counted from its configuration (one multiply-add is two)."""

from clipjax.models.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig


def transformer_flops(config: ViTConfig | TextConfig, tokens: int) -> int:
    """Count one forward pass of the blocks over one sequence."""
    projections = 4 * config.width**2 + 2 * config.width * config.mlp_width
    attention = 2 * tokens * config.width
    return 2 * config.layers * tokens * (projections + attention)


def image_flops(config: CLIPConfig) -> int:
    """Count one forward pass of a vision transformer over one image."""
    vision = config.vision
    if vision is None or isinstance(vision, ResNetConfig):
        raise ValueError("counted for vision transformers only")
    patches = 2 * vision.grid**2 * vision.patch_size**2 * 3 * vision.width
    return patches + transformer_flops(vision, vision.grid**2 + 1) + 2 * vision.width * (config.embed_dim or 0)


def text_flops(config: CLIPConfig, length: int) -> int:
    """Count one forward pass of the text tower over one text of `length` tokens."""
    text = config.text
    if text is None:
        raise ValueError("this model has no text tower")
    return transformer_flops(text, length) + 2 * text.width * (config.embed_dim or 0)
