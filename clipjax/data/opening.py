"""Open whatever images a person points at: a folder, a tar or a prepared TFDS data set."""

import os
from collections.abc import Collection, Mapping

from clipjax.data.folder import open_folder
from clipjax.data.source import ImageSource
from clipjax.data.splits import apply_split_file
from clipjax.data.tar import open_tar
from clipjax.data.textfile import existing_path
from clipjax.data.tfds import find_tfds, open_tfds
from clipjax.errors import DataError
from clipjax.progress import Progress, silent


def open_source(
    path: str | os.PathLike,
    split: str | None = None,
    where: Mapping[str, str | int | Collection[str | int]] | None = None,
    splits_file: str | os.PathLike | None = None,
    *,
    progress: Progress = silent,
) -> ImageSource:
    """Open images, telling what they are from their content, and keep those asked for.

    `splits_file` is a CoOp `split_zhou_*.json`; `split` and `where` (column to value, or to several
    values) then select from what it lists; all conditions must hold.

    Raises:
      DataError: nothing usable at `path`, or a selection that nothing fits; the message says
        which values there are.
    """
    place = existing_path(path)
    if place is None:
        raise DataError(f"{path}: no such file or folder; check the path")
    if place.is_dir():
        dataset = find_tfds(place)
        if dataset is not None:
            # a split file brings splits of its own, over all images
            source = open_tfds(dataset, split if splits_file is None else None, progress=progress)
        else:
            source = open_folder(place)
    elif place.is_file():
        source = open_tar(place)
    else:
        raise DataError(f"{path}: neither a file nor a folder; give a folder of images or a tar")
    if splits_file is not None:
        source = apply_split_file(source, splits_file)
    if split is not None and not any(source.splits):
        raise DataError(f"{source.name}: has no splits, so none is called {split}; leave it out or give a split file")
    conditions = dict(where or {})
    if split is not None:
        asked = conditions.get("split", split)
        if split not in ([asked] if isinstance(asked, str | int) else asked):
            raise DataError(f"{source.name}: no image is in split {split} and has split={asked}; ask for one of them")
        conditions["split"] = split
    return source.where(**conditions) if conditions else source
