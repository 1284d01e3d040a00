"""Decode a source in parallel, in order and in bounded memory, for passes that see each image once."""

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int, Shaped
from PIL import Image

from clipjax.data.source import ImageSource
from clipjax.errors import DataError
from clipjax.progress import Progress, silent

T = TypeVar("T")


class BadImage(NamedTuple):
    """An image that could not be used, and why."""

    id: str
    reason: str


class Batch(NamedTuple):
    """Transformed images, where they stand in the source, and those left out since the last batch."""

    indices: Int[np.ndarray, " batch"]
    images: Shaped[np.ndarray, "batch ..."]
    skipped: list[BadImage]


def image_batches(
    source: ImageSource,
    transform: Callable[[Image.Image], Shaped[np.ndarray, "..."]],
    batch_size: int,
    *,
    threads: int | None = None,
    skip_bad: bool = False,
) -> Iterator[Batch]:
    """Yield all images in order, decoded and transformed in `threads` threads, stacked into batches.

    The last batch is as short as it needs to be. At most one batch is decoded ahead of the one
    in hand. `threads=0` decodes in the caller's thread; by default there is one per core.

    Raises:
      DataError: an image that cannot be decoded, unless `skip_bad`; or not one that can.
    """
    indices: list[int] = []
    images: list[np.ndarray] = []
    skipped: list[BadImage] = []
    done = 0
    decode = lambda index: transform(source.image(index))
    for index, result in map_images(source, decode, ahead=batch_size, threads=threads, skip_bad=skip_bad):
        if isinstance(result, BadImage):
            skipped.append(result)
            continue
        # a full batch waits for the next image, so that images skipped at the very end have a batch
        if len(images) == batch_size:
            yield Batch(np.array(indices), np.stack(images), skipped)
            done += len(images)
            indices, images, skipped = [], [], []
        indices.append(index)
        images.append(result)
    if not images and not done:
        raise DataError(f"{source.name}: not one of {len(source)} images can be used; check the files")
    if images:
        yield Batch(np.array(indices), np.stack(images), skipped)


def map_images(
    source: ImageSource,
    work: Callable[[int], T],
    *,
    ahead: int,
    threads: int | None = None,
    skip_bad: bool = False,
) -> Iterator[tuple[int, T | BadImage]]:
    """Yield (index, work(index)) for every image in order, worked on in parallel at most `ahead` early.

    Raises:
      DataError: whatever `work` raised, unless `skip_bad` asks for a `BadImage` in its place.
    """
    import grain

    if threads is None:
        threads = available_cores()

    def attempt(index: int) -> tuple[int, T | DataError]:
        # an exception that leaves a thread arrives wrapped or late: carry it as a value instead
        try:
            return index, work(index)
        except DataError as error:
            return index, error

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(ahead, threads) if threads else 0)
    results = iter(grain.MapDataset.range(len(source)).map(attempt).to_iter_dataset(options))
    try:
        for index, result in results:
            if isinstance(result, DataError):
                if not skip_bad:
                    raise DataError(f"{result}; or pass --skip-bad to leave such images out") from result
                yield index, BadImage(source.ids[index], str(result))
            else:
                yield index, result
    finally:
        # also on Ctrl-C and when the caller stops early: drop what is still queued
        results.close()


def without_bad(
    source: ImageSource, *, threads: int | None = None, progress: Progress = silent
) -> tuple[ImageSource, list[BadImage]]:
    """Decode every image once; return the source without those that cannot be, and the list of them.

    Raises:
      DataError: not one image can be used.
    """
    checked = map_images(source, lambda index: source.image(index).size, ahead=64, threads=threads, skip_bad=True)
    found = list(progress(checked, total=len(source), label="checking images"))
    bad = [result for _, result in found if isinstance(result, BadImage)]
    good = [index for index, result in found if not isinstance(result, BadImage)]
    if not good:
        raise DataError(f"{source.name}: not one of {len(source)} images can be used; check the files")
    return (source.select(np.array(good)) if bad else source), bad


def available_cores() -> int:
    """Count the cores this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
