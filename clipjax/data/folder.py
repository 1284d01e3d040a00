"""Open a folder of images: class folders, a flat folder, or a folder with a manifest."""

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clipjax.data.layout import is_image_path, printable, read_layout
from clipjax.data.manifest import MANIFEST, manifest_source, read_manifest
from clipjax.data.source import ImageSource, name_labels
from clipjax.data.textfile import read_text
from clipjax.errors import DataError


@dataclasses.dataclass(frozen=True)
class FolderStore:
    """Image files under one root."""

    root: Path
    paths: list[str]

    def read(self, position: int) -> bytes:
        path = self.root / self.paths[position]
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(
                f"{printable(str(path))}: cannot be read any more ({error.strerror or error}); "
                "the folder changed while it was in use"
            ) from error


def open_folder(root: str | os.PathLike) -> ImageSource:
    """Find the images under `root`; an image's id is its path below `root`.

    The class is the name of the folder it lies in, at any depth below that folder, and the label
    its alphabetical position; a flat folder has no labels. Hidden files and folders are left out,
    and links are followed, each real folder once. A `manifest.csv` in `root` takes precedence, and
    may list files of any suffix.

    Raises:
      DataError: no image, an unreadable folder, or a manifest that does not fit.
    """
    root = Path(root)
    listed = (root / MANIFEST).is_file()
    files = _scan(root, every_file=listed)
    if not files:
        raise DataError(
            f"{root}: no images (jpg, png, ...) in this folder; give a folder of class folders, a tar, "
            "or the folder of a TFDS data set that holds dataset_info.json"
        )
    files.sort(key=lambda file: file.path)
    paths = [file.path for file in files]
    ids = [printable(path) for path in paths]
    sizes = [file.size for file in files]
    stamps = [file.modified for file in files]
    store = FolderStore(root, paths)
    if listed:
        manifest = read_manifest(read_text(root / MANIFEST), str(root / MANIFEST))
        entries = {image_id: position for position, image_id in enumerate(ids)}
        return manifest_source(manifest, store, entries, sizes, stamps, str(root))
    layout = read_layout(ids)
    return ImageSource(
        name=str(root),
        store=store,
        positions=np.arange(len(ids)),
        ids=ids,
        labels=layout.labels,
        classnames=layout.classnames,
        splits=layout.splits,
        sizes=np.array(sizes, np.int64),
        stamps=np.array(stamps, np.int64),
        label_names=name_labels(layout.labels, layout.classnames, str(root)),
    )


class _File(NamedTuple):
    path: str
    size: int
    modified: int


def _scan(root: Path, *, every_file: bool) -> list[_File]:
    found: list[_File] = []
    visited: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            status = (root / folder).stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(root / folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(
                f"{printable(str(root / folder))}: cannot be listed ({error.strerror or error}); "
                "check that it is a folder you may read"
            ) from error
        for entry in listed:
            if entry.name.startswith("."):
                continue
            path = f"{folder}{entry.name}"
            if entry.is_dir():
                pending.append(f"{path}/")
            elif (every_file or is_image_path(entry.name)) and entry.is_file():
                status = entry.stat()
                found.append(_File(path, status.st_size, status.st_mtime_ns))
    return found
