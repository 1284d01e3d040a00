"""A weight file mapped read-only: its arrays are views of the page cache and cost no memory of their own.

A mapping of a file that shrinks kills the process when it is touched, so every array is
preceded by a look at the file: one that is no longer what was opened is refused.
"""

import math
import mmap
import os
import stat
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from clipjax.errors import CheckpointError

_CHUNK = 1 << 22
_MAX_DIMENSIONS = 32
_MAX_ELEMENTS = 1 << 48


def open_weight_file(path: str | os.PathLike) -> BinaryIO:
    """Open a regular file for reading; never a pipe or a device, which could block for ever.

    Raises:
      CheckpointError: there is no such file, or it is not readable or not a regular file.
    """
    try:
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise CheckpointError(f"{path}: is a directory where a weight file is expected")
        if not stat.S_ISREG(mode):
            raise CheckpointError(f"{path}: is not a regular file")
        return Path(path).open("rb")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def is_possible_shape(shape: Sequence[int]) -> bool:
    """Tell whether NumPy can hold a shape at all: few axes, and no overflow even where one of them is 0."""
    return len(shape) <= _MAX_DIMENSIONS and math.prod(max(size, 1) for size in shape) <= _MAX_ELEMENTS


class MappedFile:
    """The bytes of one file, checked to be unchanged each time they are looked at.

    Raises:
      CheckpointError: the file cannot be opened or mapped, or changed after it was opened.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = path
        with open_weight_file(path) as file:
            self._identity = _identity(os.fstat(file.fileno()))
            self.size = os.fstat(file.fileno()).st_size
            if self.size == 0:
                raise CheckpointError(f"{path}: is empty; download or copy it again")
            try:
                self._map = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise CheckpointError(f"{path}: cannot be mapped ({error})") from error

    def bytes_at(self, offset: int, length: int) -> bytes:
        """Copy out `length` bytes, fewer at the end of the file: for headers, not for tensors."""
        self._require_unchanged()
        return self._map[offset : offset + length]

    def array_at(
        self, offset: int, dtype: np.dtype, shape: tuple[int, ...], strides: tuple[int, ...] | None = None
    ) -> np.ndarray:
        """View part of the file as an array, read-only; `strides` in bytes, row by row when absent.

        The caller has checked that the array lies within the file.
        """
        self._require_unchanged()
        if 0 in shape:
            return np.empty(shape, dtype)
        return np.ndarray(shape, dtype, self._map, offset, strides)

    def crc32(self, offset: int, length: int) -> int:
        """Compute the CRC-32 of a part of the file without holding it in memory."""
        self._require_unchanged()
        checksum = 0
        with memoryview(self._map) as view:
            for start in range(offset, offset + length, _CHUNK):
                checksum = zlib.crc32(view[start : min(start + _CHUNK, offset + length)], checksum)
        return checksum

    def _require_unchanged(self) -> None:
        try:
            now = _identity(Path(self.path).stat())
        except OSError as error:
            raise CheckpointError(f"{self.path}: disappeared while it was being read") from error
        if now != self._identity:
            raise CheckpointError(f"{self.path}: changed while it was being read; load it again")


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
