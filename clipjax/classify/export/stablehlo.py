"""Export to StableHLO: the whole computation and its arrays, which any jax runs without clipjax."""

import importlib.util
import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from clipjax.classify.arrays import arrays_of, score_pixels, with_arrays
from clipjax.classify.classifier import Classifier
from clipjax.classify.ensemble import Ensemble
from clipjax.classify.export.card import Facts, model_card
from clipjax.classify.export.heads import HEAD_FILE
from clipjax.errors import ConfigError
from clipjax.outputs import new_directory
from clipjax.weights.assemble import flatten
from clipjax.weights.safetensors_file import write_safetensors

PROGRAM_FILE = "classifier.stablehlo"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export_stablehlo(
    folder: str | os.PathLike, classifier: Classifier | Ensemble, facts: Facts, *, overwrite: bool = False
) -> None:
    """Write a classifier of any kind as a program from 8-bit pixels to scores, for any number of images at once.

    Raises:
      ConfigError: flatbuffers, with which jax writes such programs, is not installed.
      OutputError: `folder` exists and `overwrite` is false, or cannot be written.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise ConfigError("exporting to StableHLO needs flatbuffers; pip install 'clipjax[export]'")
    arrays = {name: np.asarray(leaf) for name, leaf in flatten(arrays_of(classifier)).items()}
    program = _program(classifier)
    config = classifier.model.config
    settings = {
        "classes": list(classifier.class_names),
        "image_size": config.image_size,
        "preprocessing": config.preprocessing,
    }
    with new_directory(folder, overwrite=overwrite) as place:
        (place / PROGRAM_FILE).write_bytes(program)
        write_safetensors(place / HEAD_FILE, arrays, {"format": "np"})
        (place / "classifier.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        (place / "classes.json").write_text(json.dumps(settings["classes"], indent=1) + "\n", encoding="utf-8")
        shutil.copyfile(Path(__file__).with_name("standalone.py"), place / "predict.py")
        card = model_card(facts, classifier.class_names, format="stablehlo")
        (place / "README.md").write_text(card, encoding="utf-8", errors="replace")


def _program(classifier: Classifier | Ensemble) -> bytes:
    from jax import export

    tree = arrays_of(classifier)
    named, structure = flatten(tree), jax.tree.structure(tree)

    def classify(
        arrays: dict[str, Array], pixels: UInt8[Array, "batch height width 3"]
    ) -> Float[Array, "batch classes"]:
        own = jax.tree.unflatten(structure, [arrays[name] for name in named])
        return score_pixels(with_arrays(classifier, own), pixels)

    (batch,) = export.symbolic_shape("batch")
    side = classifier.model.config.image_size
    shapes = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in named.items()}
    pixels = jax.ShapeDtypeStruct((batch, side, side, 3), jnp.uint8)
    return bytes(export.export(jax.jit(classify), platforms=PLATFORMS)(shapes, pixels).serialize())
