import json

import pytest

from clipjax.data.folder import open_folder
from clipjax.data.opening import open_source
from clipjax.data.source import memory_source
from clipjax.data.splits import apply_split_file, few_shot, read_split_file
from clipjax.data.tar import open_tar
from clipjax.errors import DataError

SPLITS = {
    "train": [["dog/1.png", 1, "good dog"]],
    "val": [],
    "test": [["cat/2.png", 0, "cat"], ["dog/2.png", 1, "good dog"]],
}


@pytest.fixture
def split_file(tmp_path):
    path = tmp_path / "split_zhou_Pets.json"
    path.write_text(json.dumps(SPLITS))
    return path


def test_split_file_sets_labels_names_splits_and_order_of_a_folder(make_folder, split_file, encoded):
    root = make_folder({f"{name}.png": encoded() for name in ["cat/1", "cat/2", "dog/1", "dog/2"]})
    source = apply_split_file(open_folder(root), split_file)
    assert list(source.ids) == ["dog/1.png", "cat/2.png", "dog/2.png"]
    assert (source.labels.tolist(), list(source.classnames)) == ([1, 0, 1], ["good dog", "cat", "good dog"])
    assert list(source.splits) == ["train", "test", "test"]
    assert source.explicit_labels
    assert not source.notes


def test_split_file_finds_images_of_a_tar_by_the_end_of_their_source_path(make_tar, split_file, encoded):
    manifest = b"path,source_path\nx1.png,Pets/dog/1.png\nx2.png,Pets/cat/2.png\nx3.png,Pets/dog/2.png\n"
    files = {"manifest.csv": manifest, "x1.png": encoded(1), "x2.png": encoded(2), "x3.png": encoded(3)}
    source = apply_split_file(open_tar(make_tar(files)), split_file)
    assert list(source.ids) == ["x1.png", "x2.png", "x3.png"]
    assert source.read(1) == encoded(2)


def test_listed_images_that_are_absent_are_counted_in_a_note(make_folder, split_file, encoded):
    source = apply_split_file(open_folder(make_folder({"cat/2.png": encoded(), "x/1.png": encoded()})), split_file)
    assert list(source.ids) == ["cat/2.png"]
    assert "train 0 of 1, test 1 of 2" in source.notes[0]
    assert source.label_names == {0: "cat", 1: "good dog"}


def test_path_must_match_on_folder_boundaries(make_folder, split_file, encoded):
    with pytest.raises(DataError, match="none of which is in"):
        apply_split_file(open_folder(make_folder({"hotdog/1.png": encoded(), "b/3.png": encoded()})), split_file)


def test_path_that_fits_two_images_is_an_error(make_folder, split_file, encoded):
    root = make_folder({"a/dog/1.png": encoded(), "b/dog/1.png": encoded()})
    with pytest.raises(DataError, match=r"dog/1\.png.* fits both a/dog/1\.png and b/dog/1\.png"):
        apply_split_file(open_folder(root), split_file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "not a split file"),
        ({"train": [["a.png", "0", "cat"]]}, "entry 0 of train"),
        ({"train": [["a.png", -1, "cat"]]}, "entry 0 of train"),
        ({"train": [["a.png", 0]]}, "entry 0 of train"),
        ({"train": [["a.png", 10**9, "cat"]]}, "entry 0 of train"),
        (
            {"train": [["a.png", 0, "cat"]], "test": [["a.png", 0, "cat"]]},
            "listed in train and again in test",
        ),
        ({"train": []}, "lists no images"),
    ],
)
def test_unusable_split_file_names_itself_and_the_entry(content, message, tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as error:
        read_split_file(path)
    assert "split.json" in str(error.value)


@pytest.fixture
def labelled(encoded):
    return memory_source(
        [encoded(index) for index in range(40)],
        labels=[index % 4 for index in range(40)],
        classnames=["abcd"[index % 4] for index in range(40)],
    )


def test_few_shot_draws_as_many_of_every_class(labelled):
    drawn = few_shot(labelled, 3, seed=0)
    assert sorted(drawn.labels.tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert len(set(drawn.ids)) == 12


def test_few_shot_does_not_depend_on_the_order_of_the_source(labelled):
    assert list(few_shot(labelled.select(range(39, -1, -1)), 2, seed=5).ids) == list(few_shot(labelled, 2, seed=5).ids)


def test_few_shot_differs_between_seeds(labelled):
    draws = {tuple(few_shot(labelled, 2, seed=seed).ids) for seed in range(5)}
    assert len(draws) == 5


def test_fewer_shots_are_among_more_shots(labelled):
    assert set(few_shot(labelled, 2, seed=1).ids) < set(few_shot(labelled, 5, seed=1).ids)


def test_few_shot_says_which_class_is_too_small(labelled):
    with pytest.raises(DataError, match="class a has 10 images; ask for at most 10"):
        few_shot(labelled, 11, seed=0)


def test_few_shot_needs_labels(encoded):
    with pytest.raises(DataError, match="has no labels"):
        few_shot(memory_source([encoded()]), 1, seed=0)


def test_published_split_of_a_published_tar(shared_data):
    source = open_source(
        shared_data / "data/images/caltech101.tar",
        split="test",
        splits_file=shared_data / "data/texts/splits/split_zhou_Caltech101.json",
    )
    manifest = open_source(shared_data / "data/images/caltech101.tar", split="test")
    assert len(source) == 2465
    assert dict(zip(source.ids, source.labels.tolist())) == dict(zip(manifest.ids, manifest.labels.tolist()))
