import gc
import io
import os
import pickle
import tarfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipjax.data.opening import open_source
from clipjax.data.tar import open_tar
from clipjax.errors import DataError

MANIFEST = b"path,label,classname,split\ntrain/2.png,1,dog,train\ntrain/1.png,0,cat,train\ntest/3.png,1,dog,test\n"


@pytest.fixture
def files(encoded):
    images = {"train/1.png": encoded(1), "train/2.png": encoded(2), "test/3.png": encoded(3)}
    return images | {"manifest.csv": MANIFEST}


def test_manifest_gives_order_labels_names_and_splits(make_tar, files):
    source = open_tar(make_tar(files))
    assert list(source.ids) == ["train/2.png", "train/1.png", "test/3.png"]
    assert source.labels.tolist() == [1, 0, 1]
    assert list(source.classnames) == ["dog", "cat", "dog"]
    assert list(source.where(split="test").ids) == ["test/3.png"]


def test_every_image_is_read_from_its_own_place(make_tar, files):
    source = open_tar(make_tar(files))
    assert [source.read(index) for index in range(3)] == [files[image_id] for image_id in source.ids]


def test_without_manifest_classes_are_folders(make_tar, encoded):
    source = open_tar(make_tar({"./dog/1.png": encoded(1), "cat/x/2.JPG": encoded(2, "JPEG"), "cat/notes.txt": b""}))
    assert list(source.ids) == ["cat/x/2.JPG", "dog/1.png"]
    assert source.labels.tolist() == [0, 1]
    assert not source.explicit_labels


def test_long_names_and_links_between_members_are_read(tmp_path, encoded):
    path = tmp_path / "long.tar"
    name = f"cat/{'x' * 300}.png"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo(name)
        member.size = len(encoded(4))
        archive.addfile(member, io.BytesIO(encoded(4)))
        link = tarfile.TarInfo("dog/same.png")
        link.type, link.linkname = tarfile.LNKTYPE, name
        archive.addfile(link)
    source = open_tar(path)
    assert [source.read(0), source.read(1)] == [encoded(4), encoded(4)]


@pytest.mark.parametrize("name", ["../outside.png", "/tmp/outside.png", "a/../../outside.png"])
def test_hostile_member_name_is_only_a_name(name, make_tar, tmp_path, encoded):
    before = sorted(tmp_path.rglob("*"))
    path = make_tar({name: encoded(9)})
    source = open_tar(path)
    assert source.read(0) == encoded(9)
    assert sorted(tmp_path.rglob("*")) == [*before, path]


def test_link_to_a_file_outside_is_not_followed(tmp_path, encoded):
    (tmp_path / "secret.png").write_bytes(encoded())
    with tarfile.open(tmp_path / "links.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            link = tarfile.TarInfo("cat/1.png")
            link.type, link.linkname = kind, str(tmp_path / "secret.png")
            archive.addfile(link)
    with pytest.raises(DataError, match="no images"):
        open_tar(tmp_path / "links.tar")


def test_tar_cut_anywhere_is_a_data_error(make_tar, files):
    path = make_tar(files)
    whole = path.read_bytes().rstrip(b"\0")
    for length in np.linspace(1, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"photos\.tar"):
            open_tar(path)


def test_damaged_header_in_the_middle_does_not_drop_the_rest_silently(make_tar, encoded):
    path = make_tar({f"cat/{index}.png": encoded(index) for index in range(4)})
    content = bytearray(path.read_bytes())
    second = content.index(b"cat/1.png")
    content[second + 150] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="truncated or damaged"):
        open_tar(path)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b"path,label\ntrain/1.png,cat\n", "manifest.csv: line 2: label 'cat' is not an integer"),
        (b"path,label\ntrain/1.png,0\ntrain/2.png,1.0\n", "manifest.csv: line 3: label '1.0' is not"),
        (b"path,label\ntrain/1.png,-2\n", "line 2: label -2 is not a class position"),
        (b"path,label\ntrain/1.png,99999999\n", "line 2: label 99999999 is not a class position"),
        (b"file,label\ntrain/1.png,0\n", "manifest.csv: line 1 names no column `path`"),
        (b"path,path\ntrain/1.png,0\n", "line 1 names a column twice"),
        (b"path,label\ntrain/1.png,0\n\ngone.png,0\n", "line 4 lists gone.png, which is not in"),
        (b"path,label\ntrain/1.png,0,extra\n", "line 2 has 3 fields where the header names 2"),
        (b"path\ntrain/1.png\ntrain/1.png\n", "line 3 lists train/1.png again"),
        (b"path,label,classname\ntrain/1.png,0,a\ntrain/2.png,0,b\n", "label 0 is called both 'a' and 'b'"),
        (b"path\n", "lists no image"),
        (b"", "line 1 names no column `path`"),
        (b"path\n\xff\xfe.png\n", "line 2 is not UTF-8"),
        (b'path\n"train/1.png\n', "is not CSV"),
    ],
)
def test_unusable_manifest_names_file_and_line(manifest, message, make_tar, files):
    with pytest.raises(DataError) as error:
        open_tar(make_tar(files | {"manifest.csv": manifest}))
    assert message in str(error.value)
    assert "photos.tar" in str(error.value)


def test_empty_label_means_unknown(make_tar, files):
    source = open_tar(make_tar(files | {"manifest.csv": b"path,label\ntrain/1.png,\ntrain/2.png,3\n"}))
    assert source.labels.tolist() == [-1, 3]


def test_manifest_without_labels_numbers_the_class_names(make_tar, files):
    manifest = b"path,classname\ntrain/1.png,dog\ntrain/2.png,cat\ntest/3.png,\n"
    source = open_tar(make_tar(files | {"manifest.csv": manifest}))
    assert source.labels.tolist() == [1, 0, -1]
    assert not source.explicit_labels


@pytest.mark.parametrize(("start", "program"), [(b"\x1f\x8b\x08", "gunzip"), (b"\xfd7zXZ\0", "unxz")])
def test_compressed_tar_says_how_to_unpack_it(start, program, tmp_path):
    (tmp_path / "set.tar.gz").write_bytes(start + bytes(600))
    with pytest.raises(DataError, match=f"unpack it with {program}"):
        open_tar(tmp_path / "set.tar.gz")


def test_image_given_as_a_tar_is_a_data_error(tmp_path, encoded):
    (tmp_path / "1.png").write_bytes(encoded(0, size=64))
    with pytest.raises(DataError, match="not a readable tar"):
        open_tar(tmp_path / "1.png")


def test_fingerprint_notices_other_images_of_the_same_sizes_in_a_tar_without_times(make_tar, encoded):
    fingerprints = set()
    for time in (1, 2):
        path = make_tar({"cat/1.bmp": encoded(time, "BMP"), "dog/1.bmp": encoded(9, "BMP")})
        os.utime(path, ns=(time, time))
        fingerprints.add(open_tar(path).fingerprint)
    assert len(fingerprints) == 2


def test_fingerprint_of_an_untouched_tar_stays(make_tar, files):
    path = make_tar(files)
    assert open_tar(path).fingerprint == open_tar(path).fingerprint


@pytest.mark.parametrize("folder", ["pics/", "./pics/", "data/pics/"])
def test_manifest_in_the_one_folder_around_everything_is_used(folder, make_tar, encoded):
    content = {"manifest.csv": b"path,label,classname\nx/1.png,1,zebra\n", "x/1.png": encoded(1), "x/2.png": encoded(2)}
    wrapped = {folder + name: data for name, data in content.items()}
    source = open_tar(make_tar({"._pics": b"", **wrapped}))
    assert (list(source.ids), list(source.classnames), source.labels.tolist()) == (["x/1.png"], ["zebra"], [1])
    assert source.read(0) == encoded(1)


def test_manifest_of_a_part_of_the_tar_is_remarked_on_and_not_used(make_tar, encoded):
    source = open_tar(make_tar({"a/manifest.csv": b"path\n1.png\n", "a/1.png": encoded(), "b/2.png": encoded()}))
    assert list(source.ids) == ["a/1.png", "b/2.png"]
    assert "a/manifest.csv is not used" in source.notes[0]


def test_chain_of_long_names_is_a_data_error(tmp_path):
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 5
    block = header.tobuf(tarfile.GNU_FORMAT) + b"abcd\0".ljust(512, b"\0")
    (tmp_path / "chain.tar").write_bytes(block * 3000 + bytes(1024))
    with pytest.raises(DataError, match=r"chain\.tar: damaged tar"):
        open_tar(tmp_path / "chain.tar")


def test_tar_that_shrinks_while_in_use_is_a_data_error(make_tar, files):
    path = make_tar(files)
    source = open_tar(path)
    os.truncate(path, 600)
    with pytest.raises(DataError, match="became shorter"):
        source.read(2)


def test_unpickled_tar_reads_the_same_bytes(make_tar, files):
    source = open_tar(make_tar(files))
    source.read(0)
    assert pickle.loads(pickle.dumps(source)).read(1) == files["train/1.png"]


def test_descriptor_is_closed_with_its_source(make_tar, files, monkeypatch):
    opened, closed = [], []
    real_open, real_close = os.open, os.close
    monkeypatch.setattr(os, "open", lambda *args: opened.append(real_open(*args)) or opened[-1])
    monkeypatch.setattr(os, "close", lambda descriptor: closed.append(descriptor) or real_close(descriptor))
    source = open_tar(make_tar(files))
    source.read(0)
    source.read(1)
    del source
    gc.collect()
    assert len(opened) == 1
    assert opened[0] in closed


def consume(path) -> None:
    try:
        source = open_source(path)
        for index in range(len(source)):
            source.image(index)
        assert source.fingerprint
    except DataError as error:
        assert "\n" not in str(error)


mutations = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@mutations
@given(data=st.data())
def test_mutated_tar_only_raises_data_errors(data, files, pack_tar, tmp_path):
    content = bytearray(pack_tar(files)[:8192])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        removed = data.draw(st.integers(0, 3))
        content[place : place + removed] = data.draw(st.binary(max_size=8))
    (tmp_path / "mutated.tar").write_bytes(content)
    consume(tmp_path / "mutated.tar")


def with_checksum(header: bytes) -> bytes:
    unsigned = sum(header[:148]) + sum(header[156:512]) + 8 * 32
    return header[:148] + b"%06o\0 " % unsigned + header[156:]


@mutations
@given(place=st.integers(0, 511), inserted=st.binary(min_size=1, max_size=12))
def test_mutated_header_with_a_valid_checksum_only_raises_data_errors(place, inserted, files, pack_tar, tmp_path):
    content = pack_tar(files)
    header = bytearray(content[:512])
    header[place : place + len(inserted)] = inserted
    (tmp_path / "mutated.tar").write_bytes(with_checksum(bytes(header[:512])) + content[512:])
    consume(tmp_path / "mutated.tar")


@mutations
@given(inserted=st.binary(max_size=12), place=st.integers(0, len(MANIFEST)), removed=st.integers(0, 20))
def test_mutated_manifest_only_raises_data_errors(inserted, place, removed, files, pack_tar, tmp_path):
    manifest = MANIFEST[:place] + inserted + MANIFEST[place + removed :]
    (tmp_path / "mutated.tar").write_bytes(pack_tar(files | {"manifest.csv": manifest}))
    consume(tmp_path / "mutated.tar")
