"""Open a data set that TFDS has prepared as array_record, without TensorFlow.

Records are read in place and images stay encoded; the labels, ids and other columns are read
once when the source is opened.
"""

import json
import os
import re
import threading
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from clipjax.data.source import UNKNOWN, ImageSource
from clipjax.data.textfile import examples, read_json
from clipjax.errors import DataError
from clipjax.progress import Progress, silent

INFO = "dataset_info.json"
_FEATURE_MODULES = "tensorflow_datasets.core.features."
_ID_FEATURES = ("id", "image_id", "file_name", "filename", "image/filename")
_ROWS_AT_ONCE = 256


class TfdsStore:
    """The records of some splits, one after the other."""

    def __init__(self, directory: Path, splits: list[tuple[str, int]], image: str):
        self.directory = directory
        self.splits = splits
        self.image = image
        self._starts = np.cumsum([0, *(count for _, count in splits)])
        self._opened: dict[str, Any] = {}
        self._opening = threading.Lock()

    def __getstate__(self) -> tuple[Path, list[tuple[str, int]], str]:
        return self.directory, self.splits, self.image

    def __setstate__(self, state: tuple[Path, list[tuple[str, int]], str]) -> None:
        self.__init__(*state)

    def read(self, position: int) -> bytes:
        return self.rows([position])[0][self.image]

    def rows(self, positions: list[int]) -> list[dict[str, Any]]:
        """Return whole records with their images still encoded; all positions lie in one split."""
        which = int(np.searchsorted(self._starts, positions[0], side="right")) - 1
        split = self.splits[which][0]
        start = int(self._starts[which])
        try:
            records = self._records(split)
            if len(positions) == 1:
                return [records[positions[0] - start]]
            return records.__getitems__([position - start for position in positions])
        except Exception as error:  # TFDS, protobuf and array_record each raise their own kinds
            raise DataError(
                f"{self.directory}: split {split} cannot be read ({error}); prepare the data set again"
            ) from error

    def _records(self, split: str) -> Any:
        with self._opening:
            if split not in self._opened:
                import tensorflow_datasets as tfds

                builder = _builder(self.directory)
                features = _features(builder, self.directory)
                # other images, such as masks, are not asked for and need not be decoded either
                images = [name for name, feature in features.items() if isinstance(feature, tfds.features.Image)]
                encoded = {name: tfds.decode.SkipDecoding() for name in images}
                self._opened[split] = builder.as_data_source(split, decoders=encoded)
            return self._opened[split]


def find_tfds(path: Path) -> Path | None:
    """Find the TFDS data set that `path` is, or holds as its only version.

    Raises:
      DataError: `path` cannot be listed, or holds several versions.
    """
    if (path / INFO).is_file():
        return path
    try:
        entries = sorted(path.iterdir())
    except OSError as error:
        raise DataError(f"{path}: cannot be listed ({error.strerror or error}); check that you may read it") from error
    versions = [
        entry for entry in entries if re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", entry.name) and (entry / INFO).is_file()
    ]
    if len(versions) > 1:
        raise DataError(
            f"{path}: holds several versions ({examples([entry.name for entry in versions])}); "
            "give the folder of one of them"
        )
    return versions[0] if versions else None


def open_tfds(directory: str | os.PathLike, split: str | None = None, *, progress: Progress = silent) -> ImageSource:
    """Open a prepared TFDS data set; its splits become the `split` column.

    With `split` only that split is read. Ids come from an `id` or file name feature, else they are
    the split and the row. Text and integer features become columns.

    Raises:
      DataError: not an array_record data set, no image feature, an unknown split, damaged records.
    """
    directory = Path(directory)
    _check_features(directory)
    builder = _builder(directory)
    features = _features(builder, directory)
    counts = {name: info.num_examples for name, info in builder.info.splits.items()}
    if split is not None and split not in counts:
        raise DataError(f"{directory}: no split {split!r}; the splits are {', '.join(counts)}")
    splits = [(name, count) for name, count in counts.items() if count and split in (None, name)]
    if not splits:
        raise DataError(f"{directory}: holds no images; prepare the data set again")
    image = _one_image_feature(features, directory)
    store = TfdsStore(directory, splits, image)
    return _scan(store, features, _label_feature(features), progress)


def _scan(store: TfdsStore, features: dict[str, Any], label: str | None, progress: Progress) -> ImageSource:
    plain = [name for name, feature in features.items() if _is_plain(feature) and name != label]
    columns: dict[str, list[str]] = {name: [] for name in plain}
    labels: list[int] = []
    sizes: list[int] = []
    stamps: list[int] = []
    split_of = [name for name, count in store.splits for _ in range(count)]
    row_of = [row for _, count in store.splits for row in range(count)]
    blocks = list(_blocks(count for _, count in store.splits))
    for block in progress(blocks, total=len(row_of), label=f"opening {store.directory.name}", step=_ROWS_AT_ONCE):
        for row in store.rows(list(block)):
            encoded = row[store.image]
            sizes.append(len(encoded))
            stamps.append(zlib.crc32(encoded))
            labels.append(int(row[label]) if label else UNKNOWN)
            for name in plain:
                columns[name].append(_as_text(row[name]))
    names = dict(enumerate(features[label].names)) if label else {}
    ids = next((columns.pop(name) for name in _ID_FEATURES if name in columns), None)
    if ids is None:
        ids = [f"{split}/{row:06d}" for split, row in zip(split_of, row_of)]
    classnames = columns.pop("classname", None)
    if classnames is None:
        classnames = [names.get(position, "") for position in labels]
    return ImageSource(
        name=str(store.directory),
        store=store,
        positions=np.arange(len(ids)),
        ids=ids,
        labels=np.array(labels, np.int64),
        classnames=classnames,
        splits=split_of,
        sizes=np.array(sizes, np.int64),
        stamps=np.array(stamps, np.int64),
        columns=columns,
        label_names=names,
        explicit_labels=label is not None,
    )


def _blocks(counts: Iterable[int]) -> Iterator[range]:
    """Divide the positions of consecutive splits into blocks, none of which spans two splits."""
    start = 0
    for count in counts:
        end = start + count
        yield from (range(first, min(first + _ROWS_AT_ONCE, end)) for first in range(start, end, _ROWS_AT_ONCE))
        start = end


def _features(builder: Any, directory: Path) -> dict[str, Any]:
    import tensorflow_datasets as tfds

    features = builder.info.features
    if not isinstance(features, tfds.features.FeaturesDict):
        raise DataError(f"{directory}: its records are no dict of features with an image; choose a data set of images")
    return dict(features.items())


def _builder(directory: Path) -> Any:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(directory)
    except Exception as error:  # TFDS wraps damaged metadata in many kinds of error
        raise DataError(f"{directory}: not a readable TFDS data set ({error}); prepare it again") from error
    file_format = builder.info.file_format
    if file_format is None or file_format.value not in ("array_record", "parquet"):
        raise DataError(
            f"{directory}: prepared as {file_format.value if file_format else 'an unknown format'}, which "
            "needs TensorFlow to read; run `tfds convert_format --out_file_format=array_record` on it"
        )
    return builder


def _check_features(directory: Path) -> None:
    """Refuse feature classes from outside TFDS, because TFDS imports whatever module the file names."""
    path = directory / "features.json"
    pending = [read_json(path)]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            pending.extend(node.values())
            for key in ("pythonClassName", "python_class_name", "type"):
                named = node.get(key)
                if isinstance(named, str) and "." in named and not named.startswith(_FEATURE_MODULES):
                    raise DataError(
                        f"{path}: asks for the feature class {json.dumps(named)}, which is not one of TFDS; "
                        "convert the data set to plain TFDS features"
                    )


def _one_image_feature(features: dict[str, Any], directory: Path) -> str:
    import tensorflow_datasets as tfds

    images = [name for name, feature in features.items() if isinstance(feature, tfds.features.Image)]
    if not images:
        raise DataError(
            f"{directory}: has no image feature (its features are {', '.join(features)}); choose a data set of images"
        )
    return "image" if "image" in images else images[0]


def _label_feature(features: dict[str, Any]) -> str | None:
    import tensorflow_datasets as tfds

    found = [name for name, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    return "label" if "label" in found else next(iter(found), None)


def _is_plain(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.Text):
        return True
    if not isinstance(feature, tfds.features.Tensor) or feature.shape != ():
        return False
    dtype: Any = feature.np_dtype
    return np.dtype(dtype).kind in "iu"


def _as_text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
