"""Classify images with the artefact that lies beside this file; clipjax is not needed.

    python predict.py photo.jpg ...

Needs jax, flatbuffers, safetensors, numpy and pillow. Written by clipjax, which copies this file as predict.py.
"""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent


def load(folder: str | Path = HERE) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any]]:
    """Return a function from 8-bit pixels [images, side, side, 3] to scores [images, classes], and the settings."""
    from jax import export  # first: it teaches NumPy the types that weights may have
    from safetensors.numpy import load_file

    place = Path(folder)
    program = export.deserialize(bytearray((place / "classifier.stablehlo").read_bytes()))
    arrays = load_file(place / "classifier.safetensors")
    settings = json.loads((place / "classifier.json").read_text(encoding="utf-8"))
    return lambda pixels: np.asarray(program.call(arrays, np.asarray(pixels, np.uint8))), settings


def pixels_of(path: str | Path, settings: dict[str, Any]) -> np.ndarray:
    """Read an image, resize its short side, and cut out the centre, as the model was trained to see images."""
    size, image = settings["image_size"], Image.open(path)
    as_transformers = settings["preprocessing"] == "transformers"
    if as_transformers:
        image = image.convert("RGB")
    long_side = int(size * max(image.size) / min(image.size))
    width, height = (size, long_side) if image.width <= image.height else (long_side, size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    offset = lambda length: (length - size) // 2 if as_transformers else round((length - size) / 2)
    left, top = offset(width), offset(height)
    return np.array(image.crop((left, top, left + size, top + size)).convert("RGB"))


def main(paths: list[str]) -> None:
    """Print the best class of each image, and its probability, as CSV."""
    classify, settings = load()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["image", "class", "probability"])
    for path in paths:
        scores = np.asarray(classify(pixels_of(path, settings)[None])[0], np.float64)
        probabilities = np.exp(scores - scores.max())
        best = int(probabilities.argmax())
        writer.writerow([path, settings["classes"][best], f"{probabilities[best] / probabilities.sum():.6f}"])


if __name__ == "__main__":
    main(sys.argv[1:])
