"""A classifier as a directory: a checkpoint that loads anywhere, and beside it what makes it a classifier.

The checkpoint is in Hugging Face's layout (in OpenCLIP's for a ResNet, which transformers does not
know), so that the directory is at home in PyTorch as it is.
"""

import json
import os
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from clipjax.classify.classifier import Classifier
from clipjax.errors import CheckpointError
from clipjax.inputs.tokenizer import Tokenizer
from clipjax.inputs.tokenizer_writer import write_tokenizer
from clipjax.models.config import ResNetConfig
from clipjax.weights.load import load
from clipjax.weights.save import save

_HEAD, _NOTE = "classifier.npz", "classifier.json"


def save_classifier(
    folder: str | os.PathLike, classifier: Classifier, tokenizer: Tokenizer, *, overwrite: bool = False
) -> None:
    """Write a classifier's checkpoint, tokenizer, class weights and provenance, whole or not at all.

    Raises:
      OutputError: `folder` exists and `overwrite` is false, or cannot be written.
    """
    note = {"class_names": list(classifier.class_names), "provenance": classifier.provenance}

    def add(place: Path) -> None:
        write_tokenizer(place, place, tokenizer)
        head = {"class_weights": np.asarray(classifier.class_weights)}
        if classifier.bias is not None:
            head["bias"] = np.asarray(classifier.bias)
        with (place / _HEAD).open("wb") as file:
            np.savez(file, **head)  # pyright: ignore[reportArgumentType]
        (place / _NOTE).write_text(json.dumps(note, indent=1, default=str) + "\n", encoding="utf-8")

    resnet = isinstance(classifier.model.config.vision, ResNetConfig)
    format = "openclip" if resnet else "huggingface"
    save(folder, classifier.model, classifier.params, format, overwrite=overwrite, extra=add)


def load_classifier(folder: str | os.PathLike) -> Classifier:
    """Read what `save_classifier` wrote.

    Raises:
      CheckpointError: there is no classifier, or its files are damaged or do not fit together.
    """
    place = Path(folder)
    try:
        note = json.loads((place / _NOTE).read_text(encoding="utf-8"))
        with np.load(place / _HEAD, allow_pickle=False) as head:
            weights, bias = head["class_weights"], head.get("bias")
        names, provenance = tuple(note["class_names"]), dict(note["provenance"])
    except FileNotFoundError as error:
        raise CheckpointError(f"{place}: holds no classifier ({Path(error.filename).name} is missing)") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{place}: the classifier is damaged ({error}); copy it again") from None
    model, params = load(place)
    if weights.shape != (len(names), model.config.embed_dim) or (bias is not None and bias.shape != (len(names),)):
        raise CheckpointError(f"{place / _HEAD}: {weights.shape} does not fit {len(names)} classes; copy it again")
    return Classifier(
        model,
        params,
        names,
        jnp.asarray(weights, jnp.float32),
        provenance,
        None if bias is None else jnp.asarray(bias, jnp.float32),
    )
