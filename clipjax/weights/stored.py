"""A tensor that lies in a file: its name, type and shape are known, its numbers are read on demand."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StoredTensor:
    """One named tensor of a checkpoint file.

    `read` returns the numbers as a NumPy array of `dtype` and `shape`, possibly a read-only
    view of the mapped file: copy what you keep.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
