"""safetensors files and sharded checkpoints: what is read and refused, and what the library makes of ours."""

import json
import mmap
import os
import re
import weakref
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

from clipjax.errors import CheckpointError
from clipjax.weights.number_formats import SAFETENSORS
from clipjax.weights.safetensors_file import (
    INDEX_NAME,
    read_safetensors,
    read_safetensors_index,
    write_safetensors,
)


def of_every_kind() -> dict[str, np.ndarray]:
    arrays = {name: np.arange(12).reshape(3, 4).astype(dtype) for name, dtype in SAFETENSORS.items()}
    return arrays | {
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float16),
        "transposed": np.arange(6.0, dtype=np.float32).reshape(2, 3).T,
        "every second": np.arange(6.0, dtype=np.float32)[::2],
        "big-endian": np.arange(3, dtype=">i4"),
    }


def file_of(path: Path, header: object, data: bytes = bytes(8)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype="F32", shape=(2,), begin=0, end=8, **more: object) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end], **more}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "model.safetensors"


arrays = hnp.arrays(st.sampled_from(["f2", "f4", "i8", "u1"]), hnp.array_shapes(min_dims=0, min_side=0, max_side=5))


@settings(max_examples=60, deadline=None)
@given(tensors=st.dictionaries(st.text(st.characters(categories=["L", "N", "P"])), arrays, max_size=4))
def test_our_reader_gives_back_what_was_written(tmp_path_factory, tensors):
    path = tmp_path_factory.mktemp("safetensors") / "model.safetensors"
    write_safetensors(path, tensors)
    stored = read_safetensors(path)
    assert stored.keys() == tensors.keys()
    for name, array in tensors.items():
        assert_array_equal(stored[name].read(), array, strict=True)


def test_the_library_reads_what_was_written(path):
    from safetensors import safe_open

    tensors = of_every_kind()
    write_safetensors(path, tensors, metadata={"made by": "a test"})
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"format": "pt", "made by": "a test"}
        assert set(file.keys()) == set(tensors)
        for name, array in tensors.items():
            assert_array_equal(file.get_tensor(name), array)


def test_what_the_library_writes_is_read(path):
    from safetensors.numpy import save_file

    tensors = {name: np.ascontiguousarray(array) for name, array in of_every_kind().items() if array.dtype.isnative}
    save_file(tensors, path)
    stored = read_safetensors(path)
    assert stored.keys() == tensors.keys()
    for name, array in tensors.items():
        assert_array_equal(stored[name].read(), array)


def test_every_tensor_is_aligned_to_its_numbers(path):
    write_safetensors(path, {"a": np.ones(3, np.uint8), "b": np.ones(3, np.float64), "c": np.ones(1, np.float16)})
    assert all(stored.read().flags.aligned for stored in read_safetensors(path).values())


def test_a_tensor_is_a_read_only_view_of_the_mapped_file(path):
    write_safetensors(path, {"w": np.arange(6.0)})
    array = read_safetensors(path)["w"].read()
    assert not array.flags.owndata
    assert not array.flags.writeable
    assert isinstance(array.base, mmap.mmap)


def test_a_file_that_shrinks_after_opening_is_refused(path):
    write_safetensors(path, {"w": np.arange(6.0)})
    stored = read_safetensors(path)["w"]
    os.truncate(path, 0)
    with pytest.raises(CheckpointError, match="changed while it was being read"):
        stored.read()


def test_a_number_type_that_safetensors_lacks_is_refused(path):
    with pytest.raises(CheckpointError, match="tensor w of type complex64"):
        write_safetensors(path, {"w": np.ones(2, np.complex64)})


@pytest.mark.parametrize(
    "header, named",
    [
        (
            b'{"w":' + json.dumps(entry()).encode() + b',"w":' + json.dumps(entry()).encode() + b"}",
            "'w' twice",
        ),
        (b'{"w":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', "'dtype' twice"),
        (b"{" * 100_000, "not valid JSON"),
        (b'{"w":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not valid JSON"),
        (b'{"w":' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"{]", "not valid JSON"),
        (b'{"\xff":1}', "not valid JSON"),
        ({"w": entry(), "__metadata__": {"format": 1}}, "__metadata__"),
        ({"w": entry(), "__metadata__": []}, "__metadata__"),
        ({"w": entry(extra=1)}, "'w'"),
        ({"w": [1]}, "'w'"),
        ({"w": {"dtype": "F32"}}, "'w'"),
        ({"a\nb": entry()}, "'a\\nb'"),
        ({"w": entry(dtype="F13")}, "unknown number type"),
        ({"w": entry(dtype=["F32"])}, "unknown number type"),
        ({"w": entry(shape=(-2,))}, "impossible shape"),
        ({"w": entry(shape=(2.0,))}, "impossible shape"),
        ({"w": entry(shape=(True, 2))}, "impossible shape"),
        ({"w": entry(shape=(2**62, 2**62))}, "impossible shape"),
        ({"w": entry(shape=(0, 2**62), end=0)}, "impossible shape"),
        ({"w": entry(shape=(1,) * 40 + (2,))}, "impossible shape"),
        ({"w": entry(begin=8, end=0)}, "data_offsets"),
        ({"w": entry(begin=-8, end=0)}, "data_offsets"),
        ({"w": {**entry(), "data_offsets": [0, 8, 8]}}, "data_offsets"),
        ({"w": entry(shape=(3,))}, "cannot have 8 bytes"),
        ({"w": entry(shape=(1,), end=4)}, "4 bytes that belong to no tensor"),
        ({"w": entry(shape=(1,), begin=4)}, "preceded by bytes of no tensor"),
        ({"w": entry(), "v": entry(shape=(1,), begin=4)}, "shares bytes"),
        ({"w": entry(), "v": entry(begin=8, end=16)}, "cut short"),
        ({}, "8 bytes that belong to no tensor"),
    ],
)
def test_a_header_that_does_not_describe_every_byte_once_is_refused(path, header, named):
    file_of(path, header)
    with pytest.raises(CheckpointError, match=re.escape(str(path))) as refusal:
        read_safetensors(path)
    assert named in str(refusal.value)


@pytest.mark.parametrize("length", [0, 9, 1 << 30, 2**63 - 8, 2**64 - 1])
def test_a_header_length_that_lies_is_refused_before_it_is_read(path, length):
    path.write_bytes(length.to_bytes(8, "little") + json.dumps({"w": entry()}).encode() + bytes(8))
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        read_safetensors(path)


def test_a_header_of_megabytes_is_refused(path):
    file_of(path, b"{" + b" " * (9 << 20) + b"}")
    with pytest.raises(CheckpointError, match="too large"):
        read_safetensors(path)


def test_a_torch_archive_is_refused_as_such(path):
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(CheckpointError, match="PyTorch archive"):
        read_safetensors(path)


def sharded(folder: Path, weight_map: object) -> Path:
    write_safetensors(folder / "one.safetensors", {"a": np.ones(2, np.float32)})
    write_safetensors(folder / "two.safetensors", {"b": np.zeros(3, np.float32), "c": np.ones((), ml_dtypes.bfloat16)})
    (folder / INDEX_NAME).write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map}))
    return folder


def test_shards_are_read_as_one_checkpoint(tmp_path):
    sharded(tmp_path, {"c": "two.safetensors", "a": "one.safetensors", "b": "two.safetensors"})
    for place in (tmp_path, tmp_path / INDEX_NAME):
        tensors = read_safetensors_index(place)
        assert {name: stored.shape for name, stored in tensors.items()} == {"a": (2,), "b": (3,), "c": ()}
        assert_array_equal(tensors["a"].read(), np.ones(2, np.float32))


def test_the_golden_shards_are_read_as_bfloat16(shared_data):
    folder = shared_data / "golden/encoders/bf16_sharded"
    tensors = read_safetensors_index(folder)
    listed = json.loads((folder / INDEX_NAME).read_text())["weight_map"]
    assert tensors.keys() == listed.keys()
    assert {stored.read().dtype for stored in tensors.values()} == {np.dtype(ml_dtypes.bfloat16)}


@pytest.mark.parametrize(
    "shard",
    [
        "../one.safetensors",
        "/one.safetensors",
        "sub/one.safetensors",
        "sub\\one.safetensors",
        "C:one",
        "..",
        "",
    ],
)
def test_a_shard_outside_the_folder_is_refused(tmp_path, shard):
    sharded(tmp_path, {"a": shard, "b": "two.safetensors", "c": "two.safetensors"})
    with pytest.raises(CheckpointError, match="not in the index's folder"):
        read_safetensors_index(tmp_path)


@pytest.mark.parametrize(
    "weight_map, named",
    [
        ({"a": "one.safetensors", "b": "two.safetensors"}, "tensor c"),
        ({"a": "one.safetensors", "b": "two.safetensors", "c": "one.safetensors"}, "tensor c"),
        ({"a": "one.safetensors", "d": "one.safetensors"}, "tensor 'd'"),
        ({"a": "three.safetensors"}, "three.safetensors"),
        ({"a": 1}, "weight_map"),
        (["one.safetensors"], "weight_map"),
        (None, "weight_map"),
    ],
)
def test_an_index_that_disagrees_with_its_shards_is_refused(tmp_path, weight_map, named):
    sharded(tmp_path, weight_map)
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path))) as refusal:
        read_safetensors_index(tmp_path)
    assert named in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"weight_map": {"a": "one", "a": "two"}}',
        b"[" * 100_000,
    ],
)
def test_an_index_that_is_not_one_json_object_is_refused(tmp_path, text):
    (tmp_path / INDEX_NAME).write_bytes(text)
    with pytest.raises(CheckpointError, match=re.escape(INDEX_NAME)):
        read_safetensors_index(tmp_path)


def test_an_index_of_megabytes_is_refused(tmp_path):
    (tmp_path / INDEX_NAME).write_bytes(b"{" + b" " * (9 << 20) + b"}")
    with pytest.raises(CheckpointError, match="too large"):
        read_safetensors_index(tmp_path)


def test_name_repeated_at_the_end_of_a_long_header_is_found(path):
    """A search that compares all pairs of names would take minutes."""
    entries = ",".join(f'"{number}":0' for number in [*range(200_000), 199_999])
    with pytest.raises(CheckpointError, match="'199999' twice"):
        read_safetensors(file_of(path, f"{{{entries}}}".encode()))


def test_two_arrays_are_never_held_at_once(path):
    class Fleeting(Mapping):
        """Makes an array anew for each question, and counts those that somebody still has."""

        def __init__(self):
            self.made = []

        def __getitem__(self, name: str) -> np.ndarray:
            array = np.full(1000, int(name), np.float32)
            self.made.append(weakref.ref(array))
            held.append(sum(made() is not None for made in self.made))
            return array

        def __iter__(self):
            return iter("123")

        def __len__(self):
            return 3

    held = []
    write_safetensors(path, Fleeting())
    assert max(held) <= 2  # the one before is let go when the next has come
    assert [stored.read()[0] for stored in read_safetensors(path).values()] == [1, 2, 3]
