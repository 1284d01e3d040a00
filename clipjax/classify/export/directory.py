"""Export to PyTorch: a checkpoint that transformers or OpenCLIP loads, the head in a file beside it, and a card."""

import json
import os
from pathlib import Path
from typing import Literal

from clipjax.classify.classifier import Classifier
from clipjax.classify.ensemble import Ensemble
from clipjax.classify.export.card import Facts, crop_remark, model_card
from clipjax.classify.export.heads import HEAD_FILE, head_tensors, members_of
from clipjax.errors import CheckpointError
from clipjax.inputs.tokenizer import Tokenizer
from clipjax.inputs.tokenizer_writer import write_tokenizer
from clipjax.models.config import ResNetConfig
from clipjax.outputs import new_directory
from clipjax.weights.safetensors_file import write_safetensors
from clipjax.weights.save import save


def export_directory(
    folder: str | os.PathLike,
    classifier: Classifier | Ensemble,
    tokenizer: Tokenizer,
    format: Literal["huggingface", "openclip"],
    facts: Facts,
    *,
    overwrite: bool = False,
) -> None:
    """Write a classifier for PyTorch, whole or not at all; an ensemble's members as `model-1`, `model-2` and so on.

    Raises:
      CheckpointError: the format cannot hold it; the message says which one can.
      OutputError: `folder` exists and `overwrite` is false, or cannot be written.
    """
    members = members_of(classifier, format)
    first = members[0]
    for member in members:
        _check_tower(member, format)
    card = model_card(
        facts,
        first.class_names,
        format=format,
        features=first.features,
        members=len(members),
        remark=crop_remark(first.model.config.preprocessing, format),
    )

    def add_all(place: Path) -> None:
        (place / "classes.json").write_text(json.dumps(list(first.class_names), indent=1) + "\n", encoding="utf-8")
        (place / "README.md").write_text(card, encoding="utf-8", errors="replace")

    def add_own(place: Path, member: Classifier) -> None:
        write_tokenizer(place, place, tokenizer)
        write_safetensors(place / HEAD_FILE, head_tensors(member), {"format": "pt", "features": member.features})

    if isinstance(classifier, Ensemble):
        with new_directory(folder, overwrite=overwrite) as place:
            for number, member in enumerate(members, 1):
                part = place / f"model-{number}"
                save(part, member.model, member.params, format, extra=lambda inner, own=member: add_own(inner, own))
            add_all(place)
        return

    def extra(place: Path) -> None:
        add_own(place, first)
        add_all(place)

    save(folder, first.model, first.params, format, overwrite=overwrite, extra=extra)


def _check_tower(member: Classifier, format: str) -> None:
    """Refuse what can be written but not used: no line of PyTorch takes a ResNet's features before its projection."""
    if not isinstance(member.model.config.vision, ResNetConfig):
        return
    if format == "huggingface":
        raise CheckpointError("transformers has no CLIP with a ResNet; export it with --format openclip or stablehlo")
    if member.features == "pooled":
        raise CheckpointError(
            "the head reads what a ResNet says before its projection, which OpenCLIP does not give; "
            "export it with --format stablehlo"
        )
