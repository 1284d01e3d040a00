"""A classifier as a directory: a checkpoint that loads anywhere, and beside it what makes it a classifier.

The checkpoint is in Hugging Face's layout (in OpenCLIP's for a ResNet, which transformers does not
know), so that the directory is at home in PyTorch as it is. Of an ensemble it is the first member's; the others
lie in it as directories of their own.
"""

import json
import os
import zipfile
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from clipjax.classify.classifier import Classifier
from clipjax.classify.ensemble import Ensemble
from clipjax.classify.heads import Head, described, joined, part, rebuilt
from clipjax.errors import CheckpointError, ConfigError
from clipjax.inputs.tokenizer import Tokenizer
from clipjax.inputs.tokenizer_writer import write_tokenizer
from clipjax.models.clip import CLIP, Params
from clipjax.models.config import ResNetConfig, ViTConfig
from clipjax.weights.load import load
from clipjax.weights.save import save

_HEAD, _NOTE = "classifier.npz", "classifier.json"


def save_classifier(
    folder: str | os.PathLike, classifier: Classifier | Ensemble, tokenizer: Tokenizer, *, overwrite: bool = False
) -> None:
    """Write a classifier's checkpoint, tokenizer, class weights and provenance, whole or not at all.

    Raises:
      OutputError: `folder` exists and `overwrite` is false, or cannot be written.
    """
    members = classifier.members if isinstance(classifier, Ensemble) else (classifier,)
    first = members[0]
    note: dict[str, object] = {"class_names": list(first.class_names), "provenance": first.provenance}
    if first.features != "embedding":
        note["features"] = first.features
    if first.head is not None:
        note["head"] = described(first.head)
    if isinstance(classifier, Ensemble):
        note["ensemble"] = {"members": len(members), "provenance": classifier.provenance}

    def add(place: Path) -> None:
        write_tokenizer(place, place, tokenizer)
        head = {"class_weights": np.asarray(first.class_weights)}
        if first.head is not None:
            head |= {name: np.asarray(array) for name, array in joined(head=first.head.arrays).items()}
        for name in ("bias", "visual_prompts"):
            if getattr(first, name) is not None:
                head[name] = np.asarray(getattr(first, name))
        with (place / _HEAD).open("wb") as file:
            np.savez(file, **head)  # pyright: ignore[reportArgumentType]
        (place / _NOTE).write_text(json.dumps(note, indent=1, default=str) + "\n", encoding="utf-8")
        for number, member in enumerate(members[1:], 2):
            save_classifier(place / f"member-{number}", member, tokenizer)

    resnet = isinstance(first.model.config.vision, ResNetConfig)
    format = "openclip" if resnet else "huggingface"
    save(folder, first.model, first.params, format, overwrite=overwrite, extra=add)


def load_classifier(folder: str | os.PathLike) -> Classifier | Ensemble:
    """Read what `save_classifier` wrote.

    Raises:
      CheckpointError: there is no classifier, or its files are damaged or do not fit together.
    """
    place = Path(folder)
    try:
        note = json.loads((place / _NOTE).read_text(encoding="utf-8"))
        features: Literal["embedding", "pooled"] = note.get("features", "embedding")
        if features not in ("embedding", "pooled"):
            raise ValueError(f"it is for features {features!r}")
        with np.load(place / _HEAD, allow_pickle=False) as head:
            weights, bias, prompts = head["class_weights"], head.get("bias"), head.get("visual_prompts")
            learned = rebuilt(note["head"], part(dict(head), "head")) if "head" in note else None
        names, provenance = tuple(note["class_names"]), dict(note["provenance"])
        ensemble = note.get("ensemble")
        count, said = (1, {}) if ensemble is None else (int(ensemble["members"]), dict(ensemble["provenance"]))
    except FileNotFoundError as error:
        raise CheckpointError(f"{place}: holds no classifier ({Path(error.filename).name} is missing)") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{place}: the classifier is damaged ({error}); copy it again") from None
    model, params = load(place)
    dim = _feature_count(model) if features == "pooled" else model.config.embed_dim
    if weights.shape != (len(names), dim) or (bias is not None and bias.shape != (len(names),)):
        raise CheckpointError(f"{place / _HEAD}: {weights.shape} does not fit {len(names)} classes; copy it again")
    if prompts is not None and not _fit(prompts, model):
        raise CheckpointError(f"{place / _HEAD}: {prompts.shape} are no prompts of this image tower; copy it again")
    if learned is not None:
        _check_head(place, learned, model, params, len(names))
    array = lambda numbers: None if numbers is None else jnp.asarray(numbers, jnp.float32)
    weights = jnp.asarray(weights, jnp.float32)
    first = Classifier(model, params, names, weights, provenance, array(bias), array(prompts), features, learned)
    if ensemble is None:
        return first
    try:
        return Ensemble((first, *(_member(place / f"member-{number}") for number in range(2, count + 1))), said)
    except ConfigError as error:
        raise CheckpointError(f"{place}: the classifier is damaged ({error}); copy it again") from None


def _member(place: Path) -> Classifier:
    found = load_classifier(place)
    if not isinstance(found, Classifier):
        raise CheckpointError(f"{place}: is an ensemble inside of another; copy it again")
    return found


def _check_head(place: Path, head: Head, model: CLIP, params: Params, classes: int) -> None:
    dim = model.config.embed_dim
    shape = lambda rows: jax.ShapeDtypeStruct((rows, dim), jnp.float32)
    try:
        found = jax.eval_shape(
            lambda rows, weights: head.scores(model, params, rows, weights), shape(1), shape(classes)
        )
        fits = found.shape == (1, classes)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise CheckpointError(f"{place}: the classifier's head is damaged ({_line(error)}); copy it again") from None
    if not fits:
        raise CheckpointError(f"{place}: the classifier's head is for other classes; copy it again")


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _feature_count(model: CLIP) -> int | None:
    vision = model.config.vision
    return vision.width if isinstance(vision, ViTConfig) else vision.features if vision else None


def _fit(prompts: np.ndarray, model: CLIP) -> bool:
    vision = model.config.vision
    return isinstance(vision, ViTConfig) and prompts.shape[::2] == (vision.layers, vision.width) and prompts.ndim == 3
