"""Records from files that others published: class descriptions and captions."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from clipjax.data.captions import read_captions
from clipjax.data.textfile import looks_like_json, parse_json, read_text
from clipjax.errors import DataError
from clipjax.texts.record import TextRecord

Imported = Literal["caption", "class_description"]

_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def import_texts(
    path: str | os.PathLike, *, kind: Imported | None = None, model: str = "", classes: Sequence[str] | None = None
) -> list[TextRecord]:
    """Read a published file, whichever of these it is.

    Captions: Flickr8k's CSV, COCO's JSON, {image: [captions]}. Class descriptions: {class: [sentences]}
    as CuPL, SuS-X, ProText, LaFTer and CaFo wrote them, DCLIP's {class: [phrases]}, and text with one
    line for each of `classes` in order, as PC-CLIP wrote them. `kind` decides where a JSON object may be
    either; without it, one whose keys are names of image files holds captions.

    Args:
      model: what wrote the texts, where that is known.

    Raises:
      DataError: another layout; the message says where and what is expected.
    """
    text = read_text(path)
    if not looks_like_json(text):
        if text.split("\n", 1)[0].strip().lower() == "image,caption":
            return _captions(path, model)
        return _lines(path, text, classes, model)
    content = parse_json(text, str(path))
    if kind != "class_description" and (kind == "caption" or _names_images(content)):
        return _captions(path, model)
    return _descriptions(path, content, model)


def _names_images(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    coco = "annotations" in content and "images" in content
    return coco or all(key.lower().endswith(_IMAGE_ENDINGS) for key in content)


def _captions(path: str | os.PathLike, model: str) -> list[TextRecord]:
    return [
        TextRecord("caption", (image,), text, model, *_from(path, text), sample=sample)
        for image, texts in read_captions(path).items()
        for sample, text in enumerate(texts)
    ]


def _descriptions(path: str | os.PathLike, content: Any, model: str) -> list[TextRecord]:
    if not isinstance(content, dict) or not content:
        raise DataError(f'{path}: no class descriptions; write {{"class": ["a sentence", ...], ...}}')
    records = []
    for name, sentences in content.items():
        sentences = [sentences] if isinstance(sentences, str) else sentences
        if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
            raise DataError(f"{path}: the entry {name!r} is not a list of sentences; write one")
        # published files hold a few empty answers
        kept = [sentence.strip() for sentence in sentences if sentence.strip()]
        records += [_description(path, name, sentence, model, sample) for sample, sentence in enumerate(kept)]
    if not records:
        raise DataError(f"{path}: holds no descriptions; choose another file")
    if all("{}" in record.text for record in records):
        return [dataclasses.replace(record, kind="template") for record in records]
    return records


def _lines(path: str | os.PathLike, text: str, classes: Sequence[str] | None, model: str) -> list[TextRecord]:
    lines = [line.strip() for line in text.rstrip("\n").split("\n")]
    if classes is None:
        raise DataError(f"{path}: plain text without class names; pass the class list that its lines follow")
    if len(lines) != len(classes):
        raise DataError(f"{path}: {len(lines)} lines for {len(classes)} classes; give one line for each class in order")
    return [_description(path, name, line, model, 0) for name, line in zip(classes, lines) if line]


def _description(path: str | os.PathLike, name: str, text: str, model: str, sample: int) -> TextRecord:
    return TextRecord("class_description", (name,), text, model, *_from(path, text), sample=sample)


def _from(path: str | os.PathLike, text: str) -> tuple[str, str]:
    # with the text in its key, a corrected file adds what it says now, and another file of the same name its own
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"import:{Path(path).name}", digest
