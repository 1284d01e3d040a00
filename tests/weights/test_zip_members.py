"""The zip container: names, headers, sizes and checksums are verified, and nothing large is unpacked."""

import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from crafted_archives import NUMBERS, archive, edit_sizes, table, tensor

from clipjax.errors import CheckpointError
from clipjax.weights.torch_archive import read_torch_archive


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "weights.pt"


def peak_while_refused(path: Path, reason: str) -> int:
    """Return the most memory that Python held while the file was refused."""
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=reason):
            read_torch_archive(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_compressed_tensors_are_refused(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\x80\x02" + table(w=tensor()) + b".")
        file.writestr("archive/data/0", bytes(24))
    with pytest.raises(CheckpointError, match="is compressed"):
        read_torch_archive(path)


def test_a_pickle_that_unpacks_to_more_than_names_and_shapes_is_refused(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"N" * (17 << 20))
    with pytest.raises(CheckpointError, match=r"data\.pkl has \d+ bytes"):
        read_torch_archive(path)


@pytest.mark.parametrize("name", ["archive/../x", "/x", "archive/a\\..\\b", "archive//x", "archive/./x"])
def test_a_member_outside_the_archive_is_refused(path, name):
    archive(path, table(w=tensor()))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, b"")
    with pytest.raises(CheckpointError, match="leads outside the archive"):
        read_torch_archive(path)


@pytest.mark.parametrize("name", ["other/data.pkl", "other/x", "x"])
def test_a_second_root_is_refused(path, name):
    archive(path, table(w=tensor()))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, b"")
    with pytest.raises(CheckpointError, match="2 root folders"):
        read_torch_archive(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_named_twice_is_refused_even_if_both_are_equal(path):
    archive(path, table(w=tensor()), {"data/0": NUMBERS.tobytes()})
    with pytest.raises(CheckpointError, match="'archive/data/0' twice"):
        read_torch_archive(path)


def test_a_damaged_pickle_is_refused(path):
    archive(path, table(weight=tensor()))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"weight", b"height"))
    with pytest.raises(CheckpointError, match=r"data\.pkl does not match its checksum"):
        read_torch_archive(path)


def test_a_storage_that_runs_past_the_end_of_the_file_is_refused(path):
    archive(path, table(w=tensor(numel=2500, shape=(2500,))))
    edit_sizes(path, "archive/data/0", 10_000)
    with pytest.raises(CheckpointError, match="runs past the end of the file"):
        read_torch_archive(path)


@pytest.mark.parametrize(
    "place, value",
    [(0, b"PK\x05\x06"), (6, b"\1\0"), (8, b"\x08\0"), (14, bytes(4)), (18, b"\xff"), (30, b"A")],
)
def test_a_local_header_that_contradicts_the_directory_is_refused(path, place, value):
    archive(path, table(w=tensor()))
    content = bytearray(path.read_bytes())
    header = content.index(b"archive/data/0") - 30
    content[header + place : header + place + len(value)] = value
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="data/0"):
        read_torch_archive(path)


def test_members_that_overlap_are_refused(path):
    archive(path, table(w=tensor()), {"next": b""})
    edit_sizes(path, "archive/data/0", 48)
    with pytest.raises(CheckpointError, match="members of the archive overlap"):
        read_torch_archive(path)


def test_nothing_is_unpacked_beyond_its_declared_size(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"N" * (64 << 20))
    packed = zipfile.ZipFile(path).infolist()[0].compress_size
    edit_sizes(path, "archive/data.pkl", 10, packed)
    assert peak_while_refused(path, r"data\.pkl does not match") < 8 << 20


def test_a_zip_directory_of_gigabytes_is_not_read(path):
    size = 256 << 20
    with path.open("wb") as file:  # a sparse file
        file.write(b"PK\x03\x04")
        file.truncate(size)
        file.seek(size)
        file.write(struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, size - 4, 4, 0))
    assert peak_while_refused(path, "zip directory") < 8 << 20
