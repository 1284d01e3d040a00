"""What counts as a process's own memory."""

import sys

import numpy as np
import pytest

from benchmarks.memory import PeakMemory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="anonymous memory is measured on Linux")

SIZE = 64 << 20


def test_memory_held_is_counted():
    with PeakMemory() as memory:
        held = np.ones(SIZE, np.uint8)
    assert memory.peak > 0.95 * held.nbytes


def test_mapped_file_is_not_counted(tmp_path):
    np.zeros(SIZE, np.uint8).tofile(tmp_path / "file")
    with PeakMemory() as memory:
        total = np.memmap(tmp_path / "file", np.uint8, "r").max()
    assert total == 0
    assert memory.peak < SIZE / 4
