"""Write any source as a TFDS array_record data set, which other programs read without clipjax.

JPEG and PNG bytes are stored as they are; other formats are re-encoded as PNG, because plain TFDS
reads no others. That loses nothing but further frames and depths that PNG cannot hold.
"""

import contextlib
import dataclasses
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clipjax.data.classes import distinct_names
from clipjax.data.loader import BadImage, map_images
from clipjax.data.source import UNKNOWN, ImageSource
from clipjax.errors import DataError, OutputError
from clipjax.inputs.image import decode_image
from clipjax.outputs import new_directory
from clipjax.progress import Progress, silent

# MPO is a JPEG with further pictures after it
_KEPT_FORMATS = ("JPEG", "MPO", "PNG")
_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
_SHARD_BYTES = 256 * 2**20
_ROWS_AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What was written: images per split, images re-encoded as PNG per former format, images left out.

    `renamed` maps the columns whose names TFDS does not take to what they are called there.
    """

    directory: Path
    splits: dict[str, int]
    reencoded: dict[str, int]
    skipped: tuple[BadImage, ...]
    renamed: dict[str, str]


def prepare(
    source: ImageSource,
    directory: str | os.PathLike,
    name: str,
    version: str = "1.0.0",
    *,
    skip_bad: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress = silent,
) -> Prepared:
    """Write `source` to `directory`, readable with `tfds.builder_from_directory(directory)`.

    The features are `image`, `id`, `classname`, `label` when any image has one (-1 for those that
    have none), and the source's other columns, renamed where TFDS does not take their names. Each
    value of the source's split column becomes a TFDS split; without splits everything is `train`.
    Every image is decoded once, so that a bad one is found now.

    Raises:
      DataError: a bad image (unless `skip_bad`), a name or version that TFDS does not take, or
        split names that TFDS cannot tell apart.
      OutputError: `directory` exists, or cannot be written.
    """
    _check_names(name, version)
    splits = _tfds_splits(source)
    reencoded: Counter[str] = Counter()
    skipped: list[BadImage] = []
    written: Counter[str] = Counter()
    with new_directory(directory, overwrite=overwrite) as staged:
        features = _Features(source)
        writer = _writer(staged, name, version, features.spec(), source)
        writer.initialize_splits(sorted(set(splits)))
        pending: dict[str, list[dict[str, Any]]] = {split: [] for split in splits}
        images = map_images(
            source,
            lambda index: _storable(source, index),
            ahead=_ROWS_AT_ONCE,
            threads=threads,
            skip_bad=skip_bad,
        )
        for index, stored in progress(images, total=len(source), label=f"preparing {name}"):
            if isinstance(stored, BadImage):
                skipped.append(stored)
                continue
            if stored.former_format not in _KEPT_FORMATS:
                reencoded[stored.former_format] += 1
            split = splits[index]
            pending[split].append(features.row(index, stored.encoded))
            written[split] += 1
            if len(pending[split]) == _ROWS_AT_ONCE:
                with _write_errors(staged):
                    writer.add_examples({split: pending[split]})
                pending[split] = []
        with _write_errors(staged):
            writer.add_examples({split: rows for split, rows in pending.items() if rows})
            writer.close_all()
        if not written:
            raise DataError(f"{source.name}: not one of {len(source)} images can be used; check the files")
    return Prepared(Path(directory), dict(written), dict(reencoded), tuple(skipped), features.renamed)


@contextlib.contextmanager
def _write_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # array_record knows no other kind, for a full disk either
        raise OutputError(f"{directory}: cannot be written ({error}); free some space or write elsewhere") from error


class _Stored(NamedTuple):
    encoded: bytes
    former_format: str


def _storable(source: ImageSource, index: int) -> _Stored:
    encoded = source.read(index)
    image = decode_image(encoded, source.title(index))
    former_format = image.format or "unknown"
    if former_format in _KEPT_FORMATS:
        return _Stored(encoded, former_format)
    if image.mode not in _PNG_MODES:
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return _Stored(buffer.getvalue(), former_format)


class _Features:
    """The TFDS features of a source, and its rows in their terms."""

    def __init__(self, source: ImageSource):
        self.source = source
        self.labelled = bool(np.any(source.labels != UNKNOWN))
        self.name_of = _feature_names(source.columns)
        self.renamed = {column: name for column, name in self.name_of.items() if column != name}

    def spec(self) -> Any:
        import tensorflow_datasets as tfds

        features: dict[str, Any] = {"image": tfds.features.Image()}
        if self.labelled:
            features["label"] = tfds.features.ClassLabel(names=self._label_names())
        for feature in ("id", "classname", *self.name_of.values()):
            features[feature] = tfds.features.Text()
        return tfds.features.FeaturesDict(features)

    def row(self, index: int, encoded: bytes) -> dict[str, Any]:
        row = {"image": encoded, "id": self.source.ids[index], "classname": self.source.classnames[index]}
        if self.labelled:
            row["label"] = int(self.source.labels[index])
        return row | {name: self.source.columns[column][index] for column, name in self.name_of.items()}

    def _label_names(self) -> list[str]:
        named = self.source.label_names
        count = 1 + max(int(self.source.labels.max()), *named, UNKNOWN)
        # TFDS wants them distinct, and ImageNet has two classes called "crane"
        return list(distinct_names([" ".join(named.get(label, str(label)).split()) for label in range(count)]))


def _feature_names(columns: Iterable[str]) -> dict[str, str]:
    """Give each column a feature name: an identifier that no other feature has."""
    taken = {"image", "id", "classname", "label", "split"}
    name_of: dict[str, str] = {}
    # names that can stay are given first, so that no other column takes them
    for column in sorted(columns, key=lambda column: not column.isidentifier()):
        stem = column if column.isidentifier() else re.sub(r"\W", "_", column, flags=re.ASCII)
        name = stem = stem if stem.isidentifier() else f"_{stem}"
        number = 2
        while name in taken:
            name, number = f"{stem}_{number}", number + 1
        taken.add(name)
        name_of[column] = name
    return name_of


def _writer(directory: Path, name: str, version: str, features: Any, source: ImageSource) -> Any:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.dataset_info import DatasetIdentity

    identity = DatasetIdentity(name=name, version=tfds.core.Version(version), data_dir=str(directory), module_name="")
    info = tfds.core.DatasetInfo(
        builder=identity, features=features, description=f"{len(source)} images written by clipjax."
    )
    mean_size = int(source.sizes.mean()) + 1 if len(source) else 1
    return tfds.core.SequentialWriter(
        info, max_examples_per_shard=max(1, _SHARD_BYTES // mean_size), file_format="array_record"
    )


def _tfds_splits(source: ImageSource) -> list[str]:
    if not any(source.splits):
        return ["train"] * len(source)
    name_of: dict[str, str] = {}
    for split in dict.fromkeys(source.splits):
        name = re.sub(r"\W", "_", split, flags=re.ASCII) or "unassigned"
        if name == "all":
            raise DataError(f"{source.name}: TFDS reserves the split name `all`; rename it, or drop the splits")
        if name in name_of.values():
            raise DataError(f"{source.name}: several splits become {name!r} in TFDS; rename one of them")
        name_of[split] = name
    return [name_of[split] for split in source.splits]


def _check_names(name: str, version: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise DataError(f"the data set name {name!r} is not one for TFDS; use lower case letters, digits and _")
    if not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", version):
        raise DataError(f"the version {version!r} is not one for TFDS; write it like 1.0.0")
