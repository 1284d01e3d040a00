"""What a CLIP or a language model is made of: frozen, hashable descriptions that say everything the maths needs.

Reading and writing them in some checkpoint's format belongs to `clipjax.weights`.
"""

from dataclasses import dataclass, fields
from typing import Literal

from clipjax.errors import ConfigError

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

Activation = Literal["quick_gelu", "gelu", "gelu_new"]
EndOfText = Literal["largest", "first"]
Preprocessing = Literal["openai", "transformers"]

# Far above every published model: a typing error is refused before anything is built.
_LIMITS = {
    "layers": (1, 512),
    "heads": (1, 1024),
    "width": (1, 65_536),
    "mlp_width": (1, 1_048_576),
    "vocab_size": (1, 16_777_216),
    "context_length": (1, 1_048_576),
    "image_size": (1, 16_384),
    "patch_size": (1, 16_384),
    "embed_dim": (1, 65_536),
    "bos_token_id": (0, 2**31 - 1),
    "eos_token_id": (0, 2**31 - 1),
    "pad_token_id": (0, 2**31 - 1),
}


def _check_sizes(config: object) -> None:
    for field in fields(config):  # pyright: ignore[reportArgumentType]
        value = getattr(config, field.name)
        if field.name not in _LIMITS or (field.name == "embed_dim" and value is None):
            continue
        low, high = _LIMITS[field.name]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ConfigError(
                f"{type(config).__name__}.{field.name} is {value!r}; it must be an integer from {low} to {high}"
            )


def _check_transformer(
    config: "ViTConfig | TextConfig | LanguageConfig", activations: tuple[str, ...] = ("quick_gelu", "gelu")
) -> None:
    _check_sizes(config)
    name = type(config).__name__
    if config.width % config.heads:
        raise ConfigError(f"{name}: {config.heads} heads do not divide the width {config.width}")
    if config.activation not in activations:
        known = " and ".join(map(repr, activations))
        raise ConfigError(f"{name}.activation is {config.activation!r}; known are {known}")
    if not isinstance(config.layer_norm_eps, int | float) or not 0 < config.layer_norm_eps < 1:
        raise ConfigError(f"{name}.layer_norm_eps is {config.layer_norm_eps}; it must lie between 0 and 1")


@dataclass(frozen=True)
class ViTConfig:
    """A vision transformer. `gelu` means the exact (erf) form."""

    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: Activation = "quick_gelu"
    layer_norm_eps: float = 1e-5

    def __post_init__(self):
        _check_transformer(self)
        if self.patch_size > self.image_size:
            raise ConfigError(f"ViTConfig: patch_size {self.patch_size} exceeds image_size {self.image_size}")

    @property
    def grid(self) -> int:
        """Patches per side; pixels beyond the last whole patch are dropped."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class ResNetConfig:
    """OpenAI's ModifiedResNet: `blocks` bottlenecks in each of four stages, then attention pooling."""

    image_size: int
    width: int
    blocks: tuple[int, int, int, int]
    heads: int

    def __post_init__(self):
        _check_sizes(self)
        if (
            not isinstance(self.blocks, tuple)
            or len(self.blocks) != 4
            or not all(isinstance(b, int) and 1 <= b <= 512 for b in self.blocks)
        ):
            raise ConfigError(f"ResNetConfig.blocks is {self.blocks!r}; it must hold four integers from 1 to 512")
        if self.image_size % 32:
            raise ConfigError(f"ResNetConfig.image_size is {self.image_size}; it must be a multiple of 32")
        if self.features % self.heads:
            raise ConfigError(f"ResNetConfig: {self.heads} heads do not divide {self.features} features")

    @property
    def features(self) -> int:
        """Channels of the last feature map."""
        return self.width * 32

    @property
    def grid(self) -> int:
        """Positions per side of the last feature map."""
        return self.image_size // 32


@dataclass(frozen=True)
class TextConfig:
    """A causal text transformer.

    `end_of_text` says where a text is pooled: at the `largest` id (OpenAI's rule, and
    transformers' for `eos_token_id == 2`) or at the `first` occurrence of `eos_token_id`
    (position 0 when it does not occur).
    """

    vocab_size: int
    context_length: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: Activation = "quick_gelu"
    layer_norm_eps: float = 1e-5
    end_of_text: EndOfText = "largest"
    bos_token_id: int = 49406
    eos_token_id: int = 49407
    pad_token_id: int = 0

    def __post_init__(self):
        _check_transformer(self)
        if self.end_of_text not in ("largest", "first"):
            raise ConfigError(f"TextConfig.end_of_text is {self.end_of_text!r}; known are 'largest' and 'first'")


@dataclass(frozen=True)
class LanguageConfig:
    """A causal language model of GPT-2's kind. `gelu_new` means the tanh approximation of GELU.

    A text stands between the start and the end token, which are the same one in GPT-2.
    """

    vocab_size: int
    context_length: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: Activation = "gelu_new"
    layer_norm_eps: float = 1e-5
    bos_token_id: int = 50256
    eos_token_id: int = 50256

    def __post_init__(self):
        _check_transformer(self, ("gelu_new", "gelu"))
        for name in ("bos_token_id", "eos_token_id"):
            if getattr(self, name) >= self.vocab_size:
                raise ConfigError(
                    f"LanguageConfig.{name} is {getattr(self, name)}; the vocabulary has {self.vocab_size} tokens"
                )


@dataclass(frozen=True)
class CLIPConfig:
    """An image tower, a text tower, and the space they share.

    Either tower may be missing (text-only and vision-only checkpoints). `embed_dim` is the size
    of the shared space; None means that the towers have no projection. `preprocessing` says whose
    rule for modes and odd sizes the images were prepared by (see `clipjax.inputs.image`).
    """

    vision: ViTConfig | ResNetConfig | None
    text: TextConfig | None
    embed_dim: int | None
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    preprocessing: Preprocessing = "openai"

    def __post_init__(self):
        _check_sizes(self)
        if self.preprocessing not in ("openai", "transformers"):
            raise ConfigError(f"CLIPConfig.preprocessing is {self.preprocessing!r}; known are 'openai', 'transformers'")
        if self.vision is None and self.text is None:
            raise ConfigError("CLIPConfig has neither an image tower nor a text tower")
        if self.embed_dim is None and (isinstance(self.vision, ResNetConfig) or (self.vision and self.text)):
            raise ConfigError("CLIPConfig.embed_dim is None; only a single transformer tower may lack a projection")
        for name in ("mean", "std"):
            value = getattr(self, name)
            numbers = isinstance(value, tuple) and all(isinstance(v, int | float) and abs(v) < 1e6 for v in value)
            if not numbers or len(value) != 3:
                raise ConfigError(f"CLIPConfig.{name} is {value!r}; it must hold three numbers")
        if min(self.std) <= 0:
            raise ConfigError(f"CLIPConfig.std is {self.std}; its entries must be positive")

    @property
    def image_size(self) -> int:
        """Side of the square input image in pixels."""
        if self.vision is None:
            raise ConfigError("this model has no image tower")
        return self.vision.image_size

    @property
    def context_length(self) -> int:
        """Longest text in tokens, start and end tokens included."""
        if self.text is None:
            raise ConfigError("this model has no text tower")
        return self.text.context_length
