"""Embeddings on disk, found again by what they were made from.

For methods whose towers are frozen: they read embeddings in place of pixels. The encoder is a
function here; which model it belongs to says the fingerprint in the key.
"""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from clipjax.data.loader import BadImage, map_images
from clipjax.data.samplers import generator
from clipjax.data.source import ImageSource
from clipjax.data.views import Transform, WantedView, write_views
from clipjax.errors import DataError
from clipjax.outputs import new_file
from clipjax.progress import Progress, silent

EMBEDDINGS_PER_PIECE = 4096
"""What a stopped run loses at most."""

Key = Mapping[str, str | int | None]


class EmbeddingCache:
    """A folder of arrays, each under the digest of its key.

    A file is there whole or not at all, and is read only if its checksum and the key in it are right;
    any other is made anew. Deleting files, or the folder, is safe.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"EmbeddingCache({str(self.folder)!r})"

    def path(self, key: Key) -> Path:
        """Say where the array of a key lies, or would lie."""
        return self.folder / f"{hashlib.sha256(_written(key).encode()).hexdigest()[:32]}.npz"

    def get_or_compute(self, key: Key, compute: Callable[[], Float[np.ndarray, "..."]]) -> Float[np.ndarray, "..."]:
        """Return the array stored under a key; where there is none, compute and store it.

        `key` names everything that the array depends on, in texts and integers.

        Raises:
          OutputError: the array cannot be stored.
        """
        path, written = self.path(key), _written(key)
        stored = _read(path, written)
        if stored is not None:
            return stored
        embeddings = np.asarray(compute())
        _write(path, written, embeddings)
        return embeddings

    def embed(
        self,
        source: ImageSource,
        encode: Callable[[Float[np.ndarray, "batch height width 3"]], Any],
        transform: Transform,
        *,
        weights: str,
        views: int | None = None,
        seed: int = 0,
        batch_size: int = 64,
        threads: int | None = None,
        progress: Progress = silent,
    ) -> Float[np.ndarray, "images *views dim"]:
        """Embed all images of a source, one row each, or `views` rows each where that is given.

        `encode` gets batches of one size, the last one filled up with zeros, and returns an array or
        a JAX array with a row per image. `weights` is the fingerprint of what it computes: the
        params', and the precision where that varies. A stopped run goes on where it was.

        Raises:
          DataError: an image cannot be decoded.
          OutputError: the embeddings cannot be stored.
        """
        if views is not None and views < 1:
            raise DataError(f"{views} views of an image cannot be embedded; ask for 1 or more")
        if not len(source):
            raise DataError(f"{source.name}: has no images to embed")
        key: Key = {
            "weights": weights,
            "images": source.fingerprint,
            "transform": repr(transform),
            "views": views,
            "seed": seed,
        }
        folder = self.path(key).with_suffix(".parts")
        copies = 1 if views is None else views
        per_piece = max(1, EMBEDDINGS_PER_PIECE // copies)
        batch_size = min(batch_size, len(source) * copies)

        def rows() -> Iterator[Float[np.ndarray, "rows dim"]]:
            for first in range(0, len(source), per_piece):
                images = range(first, min(first + per_piece, len(source)))
                path, written = folder / f"{first:09d}.npz", _written({**key, "first": first, "end": images.stop})
                piece = _read(path, written)
                if piece is None:
                    fresh = []
                    pixels = _pixels(source, images, transform, copies, seed, threads, batch_size)
                    for encoded in _encoded(pixels, encode, len(images) * copies, batch_size):
                        fresh.append(encoded)
                        yield encoded
                    _write(path, written, np.concatenate(fresh))
                else:
                    yield from (piece[row : row + batch_size] for row in range(0, len(piece), batch_size))

        def compute() -> Float[np.ndarray, "images *views dim"]:
            label, unit = "embedding images", "images" if views is None else "views"
            total = len(source) * copies
            embeddings = np.concatenate(list(progress(rows(), total=total, label=label, unit=unit, step=batch_size)))
            return embeddings if views is None else embeddings.reshape(len(source), views, -1)

        embeddings = self.get_or_compute(key, compute)
        shutil.rmtree(folder, ignore_errors=True)
        return embeddings


def _pixels(
    source: ImageSource,
    images: range,
    transform: Transform,
    copies: int,
    seed: int,
    threads: int | None,
    ahead: int,
) -> Iterator[np.ndarray]:
    """Yield `copies` views of each of some images, in order."""
    part = source.select(images)

    def views(index: int) -> np.ndarray:
        pixels = np.empty((copies, *transform.shape), np.float32)
        first = (images.start + index) * copies
        wanted = [WantedView(transform, generator(seed, first + copy), out) for copy, out in enumerate(pixels)]
        write_views(part.read(index), part.title(index), wanted)
        return pixels

    # bad images come back as values, to be complained about without the loader's advice to skip them
    for _, result in map_images(part, views, ahead=max(1, ahead // copies), threads=threads, skip_bad=True):
        if isinstance(result, BadImage):
            raise DataError(result.reason)
        yield from result


def _encoded(
    pixels: Iterator[np.ndarray], encode: Callable[[np.ndarray], Any], rows: int, batch_size: int
) -> Iterator[Float[np.ndarray, "rows dim"]]:
    """Encode in batches; one is decoded while the device computes the one before."""
    waiting = None
    for first in range(0, rows, batch_size):
        count = min(batch_size, rows - first)
        batch = [next(pixels) for _ in range(count)]
        stacked = np.zeros((batch_size, *batch[0].shape), np.float32)
        np.stack(batch, out=stacked[:count])
        encoded = encode(stacked)[:count]
        if waiting is not None:
            yield np.asarray(waiting, np.float32)
        waiting = encoded
    yield np.asarray(waiting, np.float32)


def _read(path: Path, key: str) -> np.ndarray | None:
    """Read an array whose key is right and whose checksum, the zip archive's own, is too."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            return content["embeddings"] if str(content["key"]) == key else None
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        TypeError,
        AttributeError,
        NotImplementedError,
        zipfile.BadZipFile,
    ):
        return None


def _write(path: Path, key: str, embeddings: np.ndarray) -> None:
    with new_file(path, overwrite=True) as staged, staged.open("wb") as file:
        np.savez(file, key=np.array(key), embeddings=embeddings)


def _written(key: Key) -> str:
    return json.dumps(dict(key), sort_keys=True)
