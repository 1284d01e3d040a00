import pytest

from clipjax.data.opening import open_source
from clipjax.errors import DataError


def test_folder_tar_and_prepared_set_of_the_same_images_agree(make_folder, make_tar, tmp_path, encoded):
    from clipjax.data.prepare import prepare

    files = {f"{name}.png": encoded(shade) for shade, name in enumerate(["cat/1", "cat/2", "dog/1"])}
    folder = open_source(make_folder(files))
    tar = open_source(make_tar(files))
    prepare(folder, tmp_path / "prepared", "pets")
    prepared = open_source(tmp_path / "prepared")
    for source in (tar, prepared):
        assert list(source.ids) == list(folder.ids)
        assert source.labels.tolist() == folder.labels.tolist()
        assert list(source.classnames) == list(folder.classnames)
        assert [source.read(index) for index in range(3)] == list(files.values())


def test_missing_path_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        open_source(tmp_path / "nothing")


def test_split_of_a_source_without_splits_is_an_error(make_folder, encoded):
    with pytest.raises(DataError, match="has no splits"):
        open_source(make_folder({"cat/1.png": encoded()}), split="test")


@pytest.fixture
def divided(make_tar, encoded):
    manifest = b"path,split\n1.png,train\n2.png,test\n3.png,val\n"
    return make_tar({"manifest.csv": manifest, **{f"{name}.png": encoded(name) for name in (1, 2, 3)}})


@pytest.mark.parametrize("asked", ["train", ["train", "val"]])
def test_split_and_a_condition_that_excludes_it_are_an_error(asked, divided):
    with pytest.raises(DataError, match=r"no image is in split test and has split=.*train"):
        open_source(divided, split="test", where={"split": asked})


@pytest.mark.parametrize("asked", ["test", ["train", "test"]])
def test_split_narrows_a_condition_on_the_split(asked, divided):
    assert list(open_source(divided, split="test", where={"split": asked}).ids) == ["2.png"]


def test_eurosat_test_split_is_selected_by_the_manifest(shared_data):
    source = open_source(shared_data / "data/images/eurosat.tar", split="test")
    assert len(source) == 4000
    assert source.image(3999).size == (64, 64)


def test_columns_of_the_manifest_select_images(shared_data):
    source = open_source(shared_data / "data/images/eurosat.tar", where={"testbed": "target-train"})
    assert set(source.splits) == {"train"}
    assert len(source) == 1978
