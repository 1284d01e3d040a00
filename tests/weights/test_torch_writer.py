"""State dicts written without PyTorch: readable by both sides, aligned, deterministic, streamed."""

import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

from clipjax.errors import CheckpointError
from clipjax.weights.number_formats import TORCH_STORAGES
from clipjax.weights.torch_archive import read_torch_archive
from clipjax.weights.torch_writer import write_torch_archive


def of_every_kind() -> dict[str, np.ndarray]:
    arrays = {str(dtype): np.arange(12).reshape(3, 4).astype(dtype) for dtype in TORCH_STORAGES.values()}
    return arrays | {
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float16),
        "transposed": np.arange(6.0, dtype=np.float32).reshape(2, 3).T,
        "every second": np.arange(6.0, dtype=np.float32)[::2],
        "big-endian": np.arange(3, dtype=">i4"),
        "näme.with.dots": np.ones(1, ml_dtypes.bfloat16),
    }


names = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=12).map(lambda name: f"w{name}")
arrays = hnp.arrays(st.sampled_from(["f2", "f4", "i8"]), hnp.array_shapes(min_dims=0, min_side=0, max_side=5))


@settings(max_examples=60, deadline=None)
@given(tensors=st.dictionaries(names, arrays, min_size=1, max_size=4))
def test_our_reader_gives_back_what_was_written(tmp_path_factory, tensors):
    path = tmp_path_factory.mktemp("archive") / "weights.pt"
    write_torch_archive(path, tensors)
    stored = read_torch_archive(path)
    assert list(stored) == list(tensors)
    for name, array in tensors.items():
        assert_array_equal(stored[name].read(), array, strict=True)


def test_every_number_type_and_layout_survives(tmp_path):
    tensors = of_every_kind()
    write_torch_archive(tmp_path / "weights.pt", tensors)
    for name, stored in read_torch_archive(tmp_path / "weights.pt").items():
        assert_array_equal(stored.read(), tensors[name])
        assert stored.dtype == tensors[name].dtype.newbyteorder("=") or name == str(tensors[name].dtype)


@pytest.mark.torch
@pytest.mark.parametrize("mapped", [False, True])
def test_torch_reads_an_ordered_dict_of_the_same_tensors(tmp_path, mapped):
    torch = pytest.importorskip("torch")
    tensors = of_every_kind()
    write_torch_archive(tmp_path / "weights.pt", tensors)
    loaded = torch.load(tmp_path / "weights.pt", weights_only=True, mmap=mapped)
    assert type(loaded) is OrderedDict
    assert list(loaded) == list(tensors)
    for name, array in tensors.items():
        assert tuple(loaded[name].shape) == array.shape
        assert str(loaded[name].dtype).removeprefix("torch.") == array.dtype.newbyteorder("=").name
        assert_array_equal(loaded[name].double().numpy(), array.astype(np.float64))


def test_equal_tensors_give_equal_bytes(tmp_path):
    for name in ("a.pt", "b.pt"):
        write_torch_archive(tmp_path / name, of_every_kind())
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize("zip64_limit", [None, 20])
def test_every_tensor_begins_at_a_multiple_of_64_bytes(tmp_path, monkeypatch, zip64_limit):
    if zip64_limit:  # as if the tensors were larger than 2 GiB
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", zip64_limit)
    path = tmp_path / "weights.pt"
    write_torch_archive(path, {"a": np.arange(7.0), "b": np.arange(5.0) + 100})
    content = path.read_bytes()
    for numbers in (np.arange(7.0), np.arange(5.0) + 100):
        assert content.index(numbers.tobytes()) % 64 == 0
    assert_array_equal(read_torch_archive(path)["b"].read(), np.arange(5.0) + 100)


def test_one_tensor_at_a_time_is_taken(tmp_path):
    class Counting(Mapping):
        def __init__(self):
            self.taken = []

        def __getitem__(self, name: str) -> np.ndarray:
            self.taken.append((name, path.stat().st_size))
            return np.full(5000, int(name), np.float32)

        def __iter__(self) -> Iterator[str]:
            return iter(["1", "2", "3"])

        def __len__(self) -> int:
            return 3

    path = tmp_path / "weights.pt"
    path.touch()
    tensors = Counting()
    write_torch_archive(path, tensors)
    assert [name for name, _ in tensors.taken] == ["1", "2", "3"]
    sizes = [size for _, size in tensors.taken]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 20000


def test_a_number_type_that_torch_lacks_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"tensor w has the type complex64"):
        write_torch_archive(tmp_path / "weights.pt", {"w": np.ones(2, np.complex64)})
