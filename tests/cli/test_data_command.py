import pytest
from picture_folders import write_pictures

from clipjax.data.opening import open_source


def test_prepared_folder_is_read_by_plain_tfds(photos, tmp_path, clipjax):
    import tensorflow_datasets as tfds

    result = clipjax("data", "prepare", photos, tmp_path / "tfds", "--name", "photos")
    assert result.status == 0
    assert "train 12 images" in result.err
    source = tfds.builder_from_directory(tmp_path / "tfds").as_data_source("train")
    assert sorted(row["id"].decode() for row in source) == sorted(open_source(photos).ids)


def test_selection_is_prepared_and_counted_by_split(shared_data, tmp_path, clipjax):
    found = clipjax(
        "data", "prepare", shared_data / "data/images/cifar10.tar", tmp_path / "tfds", "--name", "cifar",
        "--where", "classname=cat", "--version", "2.0.1", "--json",
    ).json  # fmt: skip
    assert found["splits"] == {"train": 100, "test": 100}
    assert found["skipped"] == []
    assert set(open_source(tmp_path / "tfds").classnames) == {"cat"}


def test_bad_images_are_left_out_and_listed_when_asked(broken_photos, tmp_path, clipjax, complains):
    arguments = ("data", "prepare", broken_photos, tmp_path / "tfds", "--name", "photos")
    complains(clipjax(*arguments), "green_tree/1.png", "--skip-bad")
    assert not (tmp_path / "tfds").exists()
    result = clipjax(*arguments, "--skip-bad", "--json")
    assert [bad["id"] for bad in result.json["skipped"]] == ["green_tree/1.png", "red_panda/2.png"]
    assert "left out 2 images" in result.err


def test_destination_that_exists_is_refused_before_anything_is_read(tmp_path, clipjax, complains):
    (tmp_path / "tfds").mkdir()
    arguments = ("data", "prepare", tmp_path / "missing", tmp_path / "tfds", "--name", "photos")
    complains(clipjax(*arguments), "tfds: exists already", "--overwrite")


@pytest.mark.parametrize("source", ["photos", "photos/red_panda"])
def test_images_are_never_replaced_by_what_is_prepared_from_them(source, tmp_path, clipjax, complains):
    photos = write_pictures(tmp_path / "photos")
    result = clipjax("data", "prepare", tmp_path / source, photos, "--name", "photos", "--overwrite")
    complains(result, tmp_path / source, "which is read here; write the result elsewhere")
    assert len(open_source(photos)) == 12


def test_renamed_columns_are_remarked_on(tmp_path, clipjax):
    photos = write_pictures(tmp_path / "photos")
    (photos / "manifest.csv").write_text("path,super-category\nred_panda/0.png,animal\n")
    result = clipjax("data", "prepare", photos, tmp_path / "tfds", "--name", "photos")
    assert "the column 'super-category' is called super_category there" in result.err


@pytest.mark.parametrize(("option", "value"), [("--name", "My Photos"), ("--version", "1")])
def test_names_that_tfds_does_not_take_are_one_line(option, value, photos, tmp_path, clipjax, complains):
    options = {"--name": "photos", option: value}
    arguments = [part for pair in options.items() for part in pair]
    complains(clipjax("data", "prepare", photos, tmp_path / "tfds", *arguments), value, "TFDS")


def test_images_rewritten_as_png_are_remarked_on(tmp_path, clipjax):
    from PIL import Image

    (tmp_path / "a").mkdir()
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "a" / "1.bmp")
    result = clipjax("data", "prepare", tmp_path / "a", tmp_path / "tfds", "--name", "a")
    assert "neither JPEG nor PNG and were rewritten as PNG" in result.err
