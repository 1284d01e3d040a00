"""Use published splits: CoOp's `split_zhou_*.json`, and few-shot draws from any labelled source."""

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from clipjax.data.source import MOST_CLASSES, UNKNOWN, ImageSource, name_labels
from clipjax.data.textfile import read_json
from clipjax.errors import DataError


class ListedImage(NamedTuple):
    """One line of a split file."""

    split: str
    path: str
    label: int
    classname: str


def read_split_file(path: str | os.PathLike) -> list[ListedImage]:
    """Read a JSON object whose `train`, `val` and `test` are lists of [path, label, class name].

    Raises:
      DataError: another layout, a label that is no class position, or an image listed twice.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(value, list) for value in content.values()):
        raise DataError(f'{path}: not a split file; write {{"train": [[path, label, class name], ...], "test": [...]}}')
    listed: list[ListedImage] = []
    split_of: dict[str, str] = {}
    for split, entries in content.items():
        for row, entry in enumerate(entries):
            image = _listed(split, entry, f"{path}: entry {row} of {split}")
            if image.path in split_of:
                raise DataError(
                    f"{path}: {image.path} is listed in {split_of[image.path]} and again in {split}; list it once"
                )
            split_of[image.path] = split
            listed.append(image)
    if not listed:
        raise DataError(f"{path}: lists no images; choose another split file")
    return listed


def apply_split_file(source: ImageSource, path: str | os.PathLike) -> ImageSource:
    """Keep the images that a split file lists, in its order, with its splits, labels and class names.

    A listed path matches the image whose id, or whose `source_path` column, it equals or is the
    end of, on folder boundaries. Listed images that are not there are left out and counted in
    the notes of the result, since people keep parts of large data sets.

    Raises:
      DataError: the split file is unusable, a path fits several images, or no image is listed.
    """
    listed = read_split_file(path)
    position_of = _match([image.path for image in listed], source)
    found = [image for image in listed if image.path in position_of]
    if not found:
        raise DataError(
            f"{path}: lists {listed[0].path} and {len(listed) - 1} more, none of which is in {source.name}; "
            "give the folder that these paths start from"
        )
    notes = source.notes
    if len(found) < len(listed):
        here, all_listed = Counter(i.split for i in found), Counter(i.split for i in listed)
        parts = ", ".join(f"{split} {here[split]} of {count}" for split, count in all_listed.items())
        notes = (*notes, f"{source.name}: not all images that {path} lists are here ({parts})")
    selected = source.select([position_of[image.path] for image in found])
    labels = np.array([image.label for image in found], np.int64)
    classnames = [image.classname for image in found]
    return dataclasses.replace(
        selected,
        labels=labels,
        classnames=classnames,
        splits=[image.split for image in found],
        label_names=name_labels(
            np.array([image.label for image in listed]), [image.classname for image in listed], str(path)
        ),
        explicit_labels=True,
        notes=notes,
    )


def few_shot(source: ImageSource, shots: int, seed: int) -> ImageSource:
    """Keep `shots` images of every class, the same ones for the same seed on every machine.

    Raises:
      DataError: no labels, or a class with fewer than `shots` images.
    """
    return source.select(few_shot_indices(source, shots, seed))


def few_shot_indices(source: ImageSource, shots: int, seed: int) -> Int[np.ndarray, " drawn"]:
    """Draw `shots` images of every class and say where they stand, class by class.

    The draw orders each class by a digest of seed and id, so it does not depend on the order of the
    source, and the 1-shot images are among the 2-shot ones, and so on.

    Raises:
      DataError: no labels, or a class with fewer than `shots` images.
    """
    if shots < 1:
        raise DataError(f"{source.name}: cannot draw {shots} images per class; ask for 1 or more")
    members: dict[int, list[int]] = {}
    for index, label in enumerate(source.labels.tolist()):
        if label != UNKNOWN:
            members.setdefault(label, []).append(index)
    if not members:
        raise DataError(f"{source.name}: has no labels, so no {shots} images per class; give a labelled set")
    drawn: list[int] = []
    for label, indices in sorted(members.items()):
        if len(indices) < shots:
            raise DataError(
                f"{source.name}: class {source.classnames[indices[0]] or label} has {len(indices)} images; "
                f"ask for at most {min(len(rest) for rest in members.values())} per class"
            )
        drawn.extend(sorted(indices, key=lambda index: _draw(seed, source.ids[index]))[:shots])
    return np.array(drawn)


def _draw(seed: int, image_id: str) -> bytes:
    return hashlib.sha256(f"{seed}:{image_id}".encode("utf-8", "backslashreplace")).digest()


def _listed(split: str, entry: object, place: str) -> ListedImage:
    match entry:
        case [str(path), int(label), str(classname)] if not isinstance(label, bool):
            if 0 <= label < MOST_CLASSES:
                return ListedImage(split, path.removeprefix("./"), label, classname)
    raise DataError(f"{place} is {str(entry)[:80]}; write [path, label, class name] with a label of 0 or more")


def _match(paths: list[str], source: ImageSource) -> dict[str, int]:
    wanted = set(paths)
    depths = sorted({path.count("/") + 1 for path in paths})
    matched = {image_id: index for index, image_id in enumerate(source.ids) if image_id in wanted}
    for column in (source.columns.get("source_path", ()), source.ids):
        several: dict[str, tuple[int, int]] = {}
        fresh: dict[str, int] = {}
        for index, name in enumerate(column):
            for ending in _endings(name, depths):
                if ending not in wanted or ending in matched:
                    continue
                if fresh.setdefault(ending, index) != index:
                    several[ending] = (fresh[ending], index)
        for ending, (first, second) in several.items():
            raise DataError(
                f"{source.name}: {ending} of the split file fits both {source.ids[first]} and "
                f"{source.ids[second]}; give the folder that the listed paths start from"
            )
        matched |= fresh
    return matched


def _endings(name: str, depths: list[int]) -> Iterator[str]:
    parts = name.split("/")
    for depth in depths:
        if depth <= len(parts):
            yield "/".join(parts[-depth:])
