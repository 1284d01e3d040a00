"""Read captions and join them with the images of a source."""

import os
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from clipjax.data.image_names import ImageNames
from clipjax.data.source import ImageSource
from clipjax.data.textfile import examples, looks_like_json, parse_json, read_text
from clipjax.errors import DataError


def read_captions(path: str | os.PathLike) -> dict[str, tuple[str, ...]]:
    """Read which captions belong to which image file, in the order of the file.

    Understood are Flickr8k's CSV (`image,caption`, cut at the first comma), COCO's caption JSON
    and a JSON object {image: [captions]}.

    Raises:
      DataError: another layout, or an empty caption; the message says where.
    """
    text = read_text(path)
    if not looks_like_json(text):
        return _read_csv(text, str(path))
    content = parse_json(text, str(path))
    if isinstance(content, dict) and "annotations" in content and "images" in content:
        return _read_coco(content, str(path))
    return _read_mapping(content, str(path))


def captions_for(
    source: ImageSource, captions: Mapping[str, tuple[str, ...]]
) -> tuple[list[str], Int[np.ndarray, " captions"]]:
    """List the captions of all images, and for each caption the index of its image in the source.

    An image is looked up by its id, then by its file name alone.

    Raises:
      DataError: images without a caption, or a file name that several images share.
    """
    keys = list(captions)
    names = ImageNames(keys)
    texts: list[str] = []
    caption_image: list[int] = []
    without: list[str] = []
    looked_up: list[str] = []
    for index, image_id in enumerate(source.ids):
        place = names.place(image_id)
        key = None if place is None else keys[place]
        if key is None:
            without.append(image_id)
            continue
        looked_up.append(key)
        texts.extend(captions[key])
        caption_image.extend([index] * len(captions[key]))
    if without:
        raise DataError(
            f"{source.name}: {len(without)} of {len(source)} images have no caption ({examples(without)}); "
            "select images that have one, or add theirs to the caption file"
        )
    shared = [key for key, count in Counter(looked_up).items() if count > 1]
    if shared:
        raise DataError(
            f"{source.name}: several images are called {shared[0]}, so its captions cannot be told apart; "
            "write their ids in the caption file"
        )
    return texts, np.array(caption_image, np.int32)


def _read_csv(text: str, name: str) -> dict[str, tuple[str, ...]]:
    header, *lines = text.split("\n")
    if [column.strip().lower() for column in header.split(",")] != ["image", "caption"]:
        raise DataError(f"{name}: line 1 reads {header.strip()[:60]!r}; begin a caption CSV with image,caption")
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        image, comma, caption = line.rstrip("\r").partition(",")
        if re.fullmatch(r'\s*"([^"]|"")*"\s*', caption):
            caption = caption.strip()[1:-1].replace('""', '"')
        if not comma or not image.strip() or not caption.strip():
            raise DataError(f"{name}: line {number} lacks an image or a caption; write image,caption")
        found.setdefault(image.strip(), []).append(caption.strip())
    return _frozen(found, name)


def _read_coco(content: dict[str, Any], name: str) -> dict[str, tuple[str, ...]]:
    try:
        file_names = {image["id"]: image["file_name"] for image in content["images"]}
        found: dict[str, list[str]] = {}
        for annotation in content["annotations"]:
            found.setdefault(file_names[annotation["image_id"]], []).append(annotation["caption"])
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{name}: not COCO captions ({type(error).__name__}: {error}); images need id and file_name, "
            "annotations need image_id and caption"
        ) from None
    return _frozen(found, name)


def _read_mapping(content: Any, name: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(content, dict) or not all(isinstance(texts, list) for texts in content.values()):
        raise DataError(f'{name}: not a caption file; write {{"image.jpg": ["a caption", ...], ...}}')
    return _frozen(content, name)


def _frozen(found: dict[str, list[Any]], name: str) -> dict[str, tuple[str, ...]]:
    for image, texts in found.items():
        if not isinstance(image, str) or not texts:
            raise DataError(f"{name}: the image {image!r} has no caption; add one or drop the image")
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"{name}: a caption of {image} is {text!r}; write a sentence")
    if not found:
        raise DataError(f"{name}: holds no captions; choose another file")
    return {image: tuple(text.strip() for text in texts) for image, texts in found.items()}
