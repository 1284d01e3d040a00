"""How transformers prepares images, as its image processor's file says, to the fields of `CLIPConfig` and back.

What clipjax does not implement is refused; what comes to the same, in whatever spelling, is accepted.
"""

import math
from pathlib import Path
from typing import Any

from clipjax.models.config import OPENAI_MEAN, OPENAI_STD, CLIPConfig
from clipjax.weights.fields import Fields, read_json

_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")
_KINDS = ("CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil", "CLIPFeatureExtractor")


def read_pixels(folder: Path, image_size: int) -> dict[str, Any]:
    """Read how images are prepared for a tower of this size; without a file, OpenAI's way is taken.

    Raises:
      ConfigError: a file is malformed, or asks for something that clipjax does not do.
    """
    fields = _processor(folder)
    if fields is None:
        return {}
    fields.refuse_unless(**dict.fromkeys(_STEPS, True), resample=3, do_pad=False)
    # files of transformers before 4.26 name a feature extractor, newer ones may name both
    kinds = {key: fields.values.get(key) for key in ("image_processor_type", "feature_extractor_type")}
    named = {key: kind for key, kind in kinds.items() if kind is not None}
    if named and not any(kind in _KINDS for kind in named.values()):
        raise fields.refusal(*next(iter(named.items())), "clipjax knows CLIP's image processor only")
    _require(fields, "size", (image_size, {"shortest_edge": image_size}))
    _require(fields, "crop_size", (image_size, {"height": image_size, "width": image_size}))
    factor = fields.number("rescale_factor", 1 / 255)
    if not math.isclose(factor, 1 / 255, rel_tol=1e-5):
        raise fields.refusal("rescale_factor", factor, "clipjax divides by 255")
    return {
        "mean": fields.numbers("image_mean", OPENAI_MEAN),
        "std": fields.numbers("image_std", OPENAI_STD),
        "preprocessing": "transformers",
    }


def pixels_document(config: CLIPConfig) -> dict[str, Any]:
    """Describe the preparation of images in the words of preprocessor_config.json."""
    side = config.image_size
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.mean),
        "image_std": list(config.std),
    }


def _processor(folder: Path) -> Fields | None:
    """Find the image processor's fields where transformers looks, a section of processor_config.json first."""
    file = folder / "processor_config.json"
    if file.is_file():
        whole = Fields(file, read_json(file))
        if whole.values.get("image_processor") is not None:
            return whole.section("image_processor")
    file = folder / "preprocessor_config.json"
    return Fields(file, read_json(file)) if file.is_file() else None


def _require(fields: Fields, name: str, spellings: tuple[Any, ...]) -> None:
    value = fields.values.get(name)
    if isinstance(value, dict):  # transformers 5 writes all keys that a size can have
        value = {key: number for key, number in value.items() if number is not None}
    if value is not None and value not in spellings:
        raise fields.refusal(name, value, f"clipjax prepares this model's images as {spellings[-1]}")
