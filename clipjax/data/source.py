"""One idea of a set of images: columns of what is known about each, and random access to its bytes.

A folder, a tar, a prepared TFDS data set and a list in memory are all an `ImageSource`; they
differ in the `ImageStore` behind it. Nothing is decoded before it is asked for.
"""

import dataclasses
import functools
import hashlib
import zlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, Integer
from PIL import Image

from clipjax.data.textfile import examples
from clipjax.errors import DataError
from clipjax.inputs.image import decode_image

UNKNOWN = -1
"""The label of an image whose class nobody has told us."""

MOST_CLASSES = 1_000_000
"""Labels from here on are taken for a mistake: a table of this many names would be no use."""


@runtime_checkable
class ImageStore(Protocol):
    """Where the encoded images lie. Picklable, and safe to read from many threads at once."""

    def read(self, position: int) -> bytes:
        """Return the encoded image at `position`, whatever selection led to it."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSource:
    """Images in a fixed order, each with an id and what is known about it.

    All columns have one entry per image. `labels` are class positions, `UNKNOWN` where nobody gave
    one; `classnames` and `splits` are empty strings there. `label_names` says what each label of the
    whole set is called, also after a selection that holds only some of them. `explicit_labels` is
    true where somebody wrote integer labels down (a manifest, TFDS, a split file), and false where
    they are merely the alphabetical position of a folder. `stamps` change when an image's bytes
    do. `notes` are one-line remarks for whoever shows this source to a person.
    """

    name: str
    store: ImageStore
    positions: Int[np.ndarray, " images"]
    ids: Sequence[str]
    labels: Int[np.ndarray, " images"]
    classnames: Sequence[str]
    splits: Sequence[str]
    sizes: Int[np.ndarray, " images"]
    stamps: Int[np.ndarray, " images"]
    columns: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    label_names: Mapping[int, str] = dataclasses.field(default_factory=dict)
    explicit_labels: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"ImageSource({self.name!r}, {len(self)} images)"

    def read(self, index: int) -> bytes:
        """Return the encoded bytes of one image.

        Raises:
          DataError: the image has vanished or shrunk since the source was opened.
        """
        return self.store.read(int(self.positions[index]))

    def image(self, index: int) -> Image.Image:
        """Decode one image.

        Raises:
          DataError: the bytes are not an image; the message names it.
        """
        return decode_image(self.read(index), self.title(index))

    def title(self, index: int) -> str:
        """Say which image this is, for messages."""
        return f"{self.ids[index]} in {self.name}"

    def column(self, name: str) -> Sequence[str]:
        """Return one column as text: `id`, `label`, `classname`, `split` or an extra one.

        Raises:
          DataError: there is no such column; the message lists those there are.
        """
        known = {"id": self.ids, "classname": self.classnames, "split": self.splits} | dict(self.columns)
        if name == "label":
            return [str(label) for label in self.labels]
        if name not in known:
            raise DataError(f"{self.name}: no column {name!r}; the columns are {', '.join(sorted([*known, 'label']))}")
        return known[name]

    def where(self, /, **wanted: str | int | Collection[str | int]) -> "ImageSource":
        """Keep the images whose columns have the given value, or one of the given values.

        Raises:
          DataError: an unknown column, a value that no image has, or no image that has them all.
        """
        kept = np.ones(len(self), bool)
        for name, asked in wanted.items():
            column = self.column(name)
            several = [asked] if isinstance(asked, str | int | np.integer) else asked
            values = {str(value) for value in several}
            absent = sorted(values - set(column))
            if absent:
                present = [value or "(empty)" for value, _ in Counter(column).most_common()]
                raise DataError(f"{self.name}: no image has {name}={absent[0]}; the values are {examples(present, 12)}")
            kept &= np.fromiter((value in values for value in column), bool, len(self))
        if not kept.any():
            conditions = " and ".join(f"{name}={asked}" for name, asked in wanted.items())
            raise DataError(f"{self.name}: no image has {conditions}; ask for fewer conditions")
        return self.select(np.flatnonzero(kept))

    def select(
        self, indices: Sequence[int] | Integer[np.ndarray, " kept"] | Bool[np.ndarray, " images"]
    ) -> "ImageSource":
        """Keep the images at `indices`, in that order; a mask keeps those it is true for. Nothing is read."""
        chosen = np.asarray(indices)
        rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        row_list = rows.tolist()

        def take(column: Sequence[str]) -> list[str]:
            return [column[row] for row in row_list]

        return dataclasses.replace(
            self,
            positions=self.positions[rows],
            ids=take(self.ids),
            labels=self.labels[rows],
            classnames=take(self.classnames),
            splits=take(self.splits),
            sizes=self.sizes[rows],
            stamps=self.stamps[rows],
            columns={name: take(column) for name, column in self.columns.items()},
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest that changes when an image, its label or the order changes; no image is read."""
        digest = hashlib.sha256()
        for image_id in self.ids:
            encoded = image_id.encode("utf-8", "backslashreplace")
            digest.update(b"%d:%s" % (len(encoded), encoded))
        for numbers in (self.labels, self.sizes, self.stamps):
            digest.update(np.ascontiguousarray(numbers, "<i8").tobytes())
        return digest.hexdigest()


def name_labels(labels: Int[np.ndarray, " images"], classnames: Sequence[str], name: str) -> dict[int, str]:
    """Collect what each label is called.

    Raises:
      DataError: one label goes by two class names.
    """
    named: dict[int, str] = {}
    for label, classname in dict.fromkeys(zip(labels.tolist(), classnames)):
        if label == UNKNOWN or not classname:
            continue
        if named.setdefault(label, classname) != classname:
            raise DataError(
                f"{name}: label {label} is called both {named[label]!r} and {classname!r}; "
                "give each label one class name"
            )
    return named


@dataclasses.dataclass(frozen=True)
class MemoryStore:
    """Encoded images held in memory."""

    images: Sequence[bytes]

    def read(self, position: int) -> bytes:
        return self.images[position]


def memory_source(
    images: Sequence[bytes],
    *,
    ids: Sequence[str] | None = None,
    labels: Sequence[int] | None = None,
    classnames: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    name: str = "memory",
) -> ImageSource:
    """Make a source of encoded images that are already in memory.

    Raises:
      DataError: a column does not have one entry per image.
    """
    given = {"ids": ids, "labels": labels, "classnames": classnames, "splits": splits}
    for column, values in given.items():
        if values is not None and len(values) != len(images):
            raise DataError(f"{name}: {len(images)} images but {len(values)} {column}; give one per image")
    positions = np.arange(len(images))
    label_array = np.full(len(images), UNKNOWN) if labels is None else np.asarray(labels, np.int64)
    classnames = [""] * len(images) if classnames is None else list(classnames)
    return ImageSource(
        name=name,
        store=MemoryStore(images),
        positions=positions,
        ids=[f"{index:06d}" for index in positions] if ids is None else list(ids),
        labels=label_array,
        classnames=classnames,
        splits=[""] * len(images) if splits is None else list(splits),
        sizes=np.array([len(image) for image in images], np.int64),
        stamps=np.array([zlib.crc32(image) for image in images], np.int64),
        label_names=name_labels(label_array, classnames, name),
        explicit_labels=labels is not None,
    )
