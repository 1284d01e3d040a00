"""Published data sets, small: as TFDS prepares them, with its own builders' features, and AwA2 as it is unpacked."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.dataset_info import DatasetIdentity

from clipjax.data.awa2 import TEST_CLASSES


def picture(seed: int, side: int = 16) -> bytes:
    """Encode a noisy picture."""
    with io.BytesIO() as file:
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)).save(file, "png")
        return file.getvalue()


def write_set(folder: Path, name: str, features: Mapping[str, Any], rows: Mapping[str, Sequence[Mapping[str, Any]]]):
    """Write rows of each split below a folder NAME/1.0.0, and return the folder NAME."""
    directory = folder / name / "1.0.0"
    directory.mkdir(parents=True)
    version = tfds.core.Version("1.0.0")
    identity = DatasetIdentity(name=name, version=version, data_dir=str(directory), module_name="")
    info = tfds.core.DatasetInfo(builder=identity, features=tfds.features.FeaturesDict(dict(features)))
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=1000, file_format="array_record")
    writer.initialize_splits(list(rows))
    writer.add_examples({split: list(own) for split, own in rows.items()})
    writer.close_all()
    return folder / name


def labelled_set(folder: Path, name: str, classes: Sequence[str], features: Mapping[str, Any], row: Any, each: int = 2):
    """Write a set whose test split has `each` pictures of every class, and its train split one; `row` adds the rest."""
    features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=list(classes))} | dict(features)
    count = len(classes)
    one = lambda number: {"image": picture(number), "label": number % count} | row(number)
    rows = {"train": [one(n) for n in range(count)], "test": [one(n) for n in range(count, (1 + each) * count)]}
    return write_set(folder, name, features, rows)


def cifar100(folder: Path, classes: Sequence[str], **more: Any) -> Path:
    """Write a set with the features of TFDS's cifar100."""
    features = {"coarse_label": tfds.features.ClassLabel(num_classes=20), "id": tfds.features.Text()}
    return labelled_set(folder, "cifar100", classes, features, lambda n: {"coarse_label": 3, "id": f"id_{n}"}, **more)


def flowers(folder: Path, classes: Sequence[str], **more: Any) -> Path:
    """Write a set with the features of TFDS's oxford_flowers102."""
    features = {"file_name": tfds.features.Text()}
    row = lambda n: {"file_name": f"image_{n:05d}.jpg"}
    return labelled_set(folder, "oxford_flowers102", classes, features, row, **more)


def birds(folder: Path, **more: Any) -> Path:
    """Write a set with the features of TFDS's caltech_birds2011, whose masks nobody can decode."""
    f = tfds.features
    features = {"bbox": f.BBoxFeature(), "image/filename": f.Text(), "label_name": f.Text()}
    features["segmentation_mask"] = f.Image(shape=(None, None, 1))
    classes = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    row = lambda n: {
        "bbox": f.BBox(0.0, 0.0, 0.5, 0.5),
        "image/filename": f"Bird_{n}.jpg",
        "label_name": "a bird",
        "segmentation_mask": b"no picture",
    }
    return labelled_set(folder, "caltech_birds2011", classes, features, row, **more)


def awa2(folder: Path) -> Path:
    """Write Animals with Attributes 2: a picture of each test class, and attributes of which no two have the same."""
    unpacked = folder / "Animals_with_Attributes2"
    for number, name in enumerate(TEST_CLASSES):
        (unpacked / "JPEGImages" / name).mkdir(parents=True)
        (unpacked / "JPEGImages" / name / "1.png").write_bytes(picture(number))
    classes, attributes = ("antelope", *TEST_CLASSES), ("black", "big", "furry", "spots", "stalker")
    numbered = lambda names: "".join(f"{number}\t{name}\n" for number, name in enumerate(names, 1))
    has = np.arange(len(classes))[:, None] >> np.arange(len(attributes)) & 1
    (unpacked / "classes.txt").write_text(numbered(classes))
    (unpacked / "predicates.txt").write_text(numbered(attributes))
    (unpacked / "predicate-matrix-binary.txt").write_text("".join(" ".join(map(str, row)) + "\n" for row in has))
    return unpacked
