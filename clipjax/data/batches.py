"""Endless batches for training: the same for any number of processes, from any step on.

A batch source is a description that can be iterated any number of times; the position in it is
the step and nothing else. Here are those of arrays in memory, and what all have in common; images
are in `image_batches`.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Shaped

from clipjax.data.samplers import Sampler, generator
from clipjax.errors import DataError


class BatchSource(Protocol):
    """A description of endless batches; `fingerprint` says what they depend on."""

    @property
    def batch_size(self) -> int:
        """The size of a batch over all processes."""
        ...

    @property
    def fingerprint(self) -> str:
        """A digest of source, sampler, transform, seed and batch size."""
        ...

    def batches(
        self, first_step: int = 0, *, process: int = 0, processes: int = 1
    ) -> Iterator[dict[str, Shaped[np.ndarray, "rows ..."]]]:
        """Yield this process's rows of batch `first_step` and of all that follow, without end."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayBatches:
    """Rows of arrays in memory: embeddings, labels, tokens.

    A batch holds the drawn rows of every array and their `indices` (int32). Arrays named in `one_of`
    hold several variants of each row along their second axis, such as embeddings of K augmented
    views: a batch gets one of them, drawn anew each time and the same for all these arrays.
    """

    arrays: Mapping[str, Shaped[np.ndarray, "n ..."]]
    sampler: Sampler
    batch_size: int
    seed: int = 0
    one_of: Collection[str] = ()

    def __post_init__(self):
        """Check that all arrays have one row for each index.

        Raises:
          DataError: fewer rows than one batch, arrays of different length, or variants that do not match.
        """
        if not self.arrays or "indices" in self.arrays:
            raise DataError("arrays: give at least one, and call none 'indices', which every batch has")
        rows = len(next(iter(self.arrays.values())))
        check_sizes("arrays", rows, self.sampler, self.batch_size)
        arrays = {name: narrowed(name, "arrays", rows, values) for name, values in self.arrays.items()}
        object.__setattr__(self, "arrays", arrays)
        variants = {name: arrays[name].shape[1] if arrays[name].ndim > 1 else 0 for name in self.one_of}
        if len(set(variants.values())) > 1 or 0 in variants.values():
            raise DataError(f"arrays: their second axes must hold the same number of variants, got {variants}")

    @property
    def fingerprint(self) -> str:
        """A digest of arrays, sampler, seed and batch size."""
        return digest_of(
            arrays={name: array_digest(values) for name, values in self.arrays.items()},
            sampler=self.sampler.fingerprint,
            seed=self.seed,
            batch_size=self.batch_size,
            one_of=sorted(self.one_of),
        )

    def batches(
        self, first_step: int = 0, *, process: int = 0, processes: int = 1
    ) -> Iterator[dict[str, Shaped[np.ndarray, "rows ..."]]]:
        """Yield this process's rows of batch `first_step` and of all that follow, without end.

        Raises:
          DataError: the processes do not divide the batch size.
        """
        rows, offset = local_rows(self.batch_size, process, processes)
        return self._gathered(first_step, rows, offset)

    def _gathered(self, step: int, rows: int, offset: int) -> Iterator[dict[str, np.ndarray]]:
        while True:
            first = step * self.batch_size + offset
            indices = self.sampler(np.arange(first, first + rows))
            batch = {name: values[indices] for name, values in self.arrays.items() if name not in self.one_of}
            if self.one_of:
                variants = self.arrays[next(iter(self.one_of))].shape[1]
                # drawn for the whole batch, so that every process finds its own
                chosen = generator(self.seed, step).integers(variants, size=self.batch_size)
                here = chosen[offset : offset + rows]
                batch |= {name: self.arrays[name][indices, here] for name in self.one_of}
            batch["indices"] = indices.astype(np.int32)
            yield batch
            step += 1


def local_rows(batch_size: int, process: int, processes: int) -> tuple[int, int]:
    """Say how many rows a process has and which is its first.

    Raises:
      DataError: the processes do not divide the batch size.
    """
    if batch_size % processes:
        raise DataError(
            f"a batch of {batch_size} cannot be divided among {processes} processes; "
            f"make the batch size a multiple of {processes}"
        )
    rows = batch_size // processes
    return rows, process * rows


def check_sizes(name: str, images: int, sampler: Sampler, batch_size: int) -> None:
    """Refuse batches that cannot be filled.

    Raises:
      DataError: fewer images than one batch, or a sampler for another number of images.
    """
    if batch_size < 1:
        raise DataError(f"batch size {batch_size} is below 1")
    if images < batch_size:
        raise DataError(
            f"{name}: {images} images are fewer than one batch of {batch_size}; "
            f"give more images, or a batch size of at most {images}"
        )
    if sampler.size != images:
        raise DataError(f"{name}: {images} images, but the sampler is for {sampler.size}; make one of the same size")


def narrowed(column: str, name: str, images: int, values: Any) -> np.ndarray:
    """Give 64-bit numbers the 32 bits they have on the device.

    Raises:
      DataError: not one entry per image, or no numbers.
    """
    array = np.asarray(values)
    if array.ndim == 0 or len(array) != images:
        raise DataError(f"{name}: {images} images but {column} is {np.shape(array)}; give one entry per image")
    if array.dtype.kind not in "iufb":
        raise DataError(f"{name}: {column} holds {array.dtype}, not numbers; give numbers")
    narrow = {"int64": np.int32, "float64": np.float32, "uint64": np.uint32}.get(array.dtype.name)
    return array if narrow is None else array.astype(narrow)


def array_digest(array: np.ndarray) -> str:
    """Return a digest of an array's numbers, type and shape."""
    digest = hashlib.blake2b(f"{array.dtype.str} {array.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def digest_of(**parts: Any) -> str:
    """Return one digest of named parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
