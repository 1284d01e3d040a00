import os
import pickle

import pytest

from clipjax.data.folder import open_folder
from clipjax.errors import DataError


def test_class_is_the_folder_and_label_its_sorted_position(make_folder, encoded):
    source = open_folder(make_folder({"emu/1.png": encoded(), "cat/2.png": encoded(), "cat/1.png": encoded()}))
    assert list(source.ids) == ["cat/1.png", "cat/2.png", "emu/1.png"]
    assert source.labels.tolist() == [0, 0, 1]
    assert list(source.classnames) == ["cat", "cat", "emu"]


def test_flat_folder_has_no_labels(make_folder, encoded):
    source = open_folder(make_folder({"b.png": encoded(), "a.png": encoded()}))
    assert source.labels.tolist() == [-1, -1]
    assert list(source.ids) == ["a.png", "b.png"]


def test_folders_below_a_class_belong_to_it(make_folder, encoded):
    files = {"cat/x/y/1.png": encoded(), "cat/2.png": encoded(), "dog/z/3.png": encoded()}
    assert open_folder(make_folder(files)).labels.tolist() == [0, 0, 1]


def test_suffix_counts_in_any_case_and_other_files_do_not(make_folder, encoded):
    files = {"a/1.PNG": encoded(), "a/2.JpEg": encoded(0, "JPEG"), "a/notes.txt": b"", "b/3.jpg": encoded()}
    assert len(open_folder(make_folder(files))) == 3


def test_hidden_files_and_folders_are_left_out(make_folder, encoded):
    files = {"a/1.png": encoded(), "a/._1.png": b"", ".thumbnails/1.png": encoded(), "b/2.png": encoded()}
    assert list(open_folder(make_folder(files)).ids) == ["a/1.png", "b/2.png"]


def test_linked_class_folder_is_followed_once_and_loops_end(make_folder, tmp_path, encoded):
    elsewhere = make_folder({"1.png": encoded()}, "elsewhere")
    root = make_folder({"a/1.png": encoded()})
    (root / "b").symlink_to(elsewhere)
    (root / "a" / "again").symlink_to(root)
    (root / "a" / "broken.png").symlink_to(root / "nothing.png")
    assert list(open_folder(root).ids) == ["a/1.png", "b/1.png"]


def test_train_and_test_folders_are_splits_of_the_classes_below(make_folder, encoded):
    names = ["train/dog/1.png", "train/cat/1.png", "test/dog/2.png"]
    source = open_folder(make_folder({name: encoded() for name in names}))
    assert list(source.where(split="train").classnames) == ["cat", "dog"]
    assert source.where(split="test").labels.tolist() == [1]


def test_one_folder_around_the_classes_is_looked_through(make_folder, encoded):
    source = open_folder(make_folder({"pets/cat/1.png": encoded(), "pets/dog/1.png": encoded()}))
    assert list(source.classnames) == ["cat", "dog"]


def test_manifest_takes_precedence_over_folders(make_folder, encoded):
    manifest = b"path,label,classname,split,domain\na/1.png,7,zebra,test,photo\n"
    source = open_folder(make_folder({"manifest.csv": manifest, "a/1.png": encoded(), "b/2.png": encoded()}))
    assert list(source.ids) == ["a/1.png"]
    assert (source.labels.tolist(), list(source.classnames)) == ([7], ["zebra"])
    assert len(source.where(domain="photo")) == 1


def test_manifest_may_list_files_without_a_known_suffix(make_folder, encoded):
    manifest = b"path,label\nimg1,0\nimg2.png,1\n"
    source = open_folder(make_folder({"manifest.csv": manifest, "img1": encoded(1), "img2.png": encoded(2)}))
    assert [source.read(index) for index in range(2)] == [encoded(1), encoded(2)]


def test_manifest_cannot_reach_outside_the_folder(make_folder, encoded):
    make_folder({"secret.png": encoded()}, "other")
    root = make_folder({"manifest.csv": b"path\n../other/secret.png\n", "a/1.png": encoded()})
    with pytest.raises(DataError, match=r"line 2 lists \.\./other/secret\.png, which is not in"):
        open_folder(root)


def test_folder_without_images_is_an_error_with_a_remedy(make_folder):
    with pytest.raises(DataError, match=r"no images.*give a folder of class folders, a tar"):
        open_folder(make_folder({"readme.txt": b"hello"}))


def test_vanished_image_is_a_data_error(make_folder, encoded):
    root = make_folder({"a/1.png": encoded()})
    source = open_folder(root)
    (root / "a" / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png: cannot be read any more"):
        source.read(0)


def test_fingerprint_notices_a_rewritten_image_of_the_same_size(make_folder, encoded):
    root = make_folder({"a/1.png": encoded()})
    before = open_folder(root).fingerprint
    os.utime(root / "a" / "1.png", ns=(1, 1))
    assert open_folder(root).fingerprint != before


def test_fingerprint_does_not_depend_on_where_the_folder_is(make_folder, tmp_path, encoded):
    root = make_folder({"a/1.png": encoded()})
    before = open_folder(root).fingerprint
    assert open_folder(root.rename(tmp_path / "moved")).fingerprint == before


def test_file_name_that_is_not_utf8_has_a_printable_id(tmp_path, encoded):
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes(encoded(3))
    source = open_folder(tmp_path)
    assert source.ids[0].encode("utf-8")
    assert source.read(0) == encoded(3)


def test_unpickled_folder_reads_the_same_bytes(make_folder, encoded):
    source = open_folder(make_folder({"a/1.png": encoded(5)}))
    assert pickle.loads(pickle.dumps(source)).read(0) == encoded(5)
