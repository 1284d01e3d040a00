import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from clipjax.data.opening import open_source
from clipjax.data.source import memory_source
from clipjax.errors import DataError


@pytest.fixture
def source(encoded):
    return memory_source(
        [encoded(shade) for shade in range(6)],
        ids=[f"{index}.png" for index in range(6)],
        labels=[0, 1, 0, 2, 1, -1],
        classnames=["cat", "dog", "cat", "emu", "dog", ""],
        splits=["train", "train", "test", "test", "val", ""],
    )


def test_selection_keeps_bytes_with_their_ids(source, encoded):
    chosen = source.select([4, 1]).select([1, 0])
    assert list(chosen.ids) == ["1.png", "4.png"]
    assert [chosen.read(0), chosen.read(1)] == [encoded(1), encoded(4)]


def test_mask_selects_where_it_is_true(source):
    assert list(source.select(source.labels == 1).ids) == ["1.png", "4.png"]


def test_where_keeps_images_that_meet_every_condition(source):
    assert list(source.where(classname="dog", split=["train", "test"]).ids) == ["1.png"]


def test_where_selects_by_label_number(source):
    assert list(source.where(label=0).ids) == ["0.png", "2.png"]


def test_where_lists_the_columns_there_are(source):
    with pytest.raises(DataError, match=r"no column 'domain'.*classname, id, label, split"):
        source.where(domain="photo")


def test_where_lists_the_values_there_are(source):
    with pytest.raises(DataError, match="no image has split=holdout; the values are 'train', 'test'"):
        source.where(split="holdout")


def test_where_refuses_conditions_that_exclude_each_other(source):
    with pytest.raises(DataError, match="no image has classname=emu and split=train"):
        source.where(classname="emu", split="train")


def test_label_names_survive_a_selection_without_the_label(source):
    assert source.where(classname="emu").label_names == {0: "cat", 1: "dog", 2: "emu"}


def test_one_label_under_two_names_is_an_error(encoded):
    with pytest.raises(DataError, match="label 3 is called both 'cat' and 'dog'"):
        memory_source([encoded(), encoded()], labels=[3, 3], classnames=["cat", "dog"])


def test_fingerprint_is_that_of_equal_images(source):
    assert source.fingerprint == source.select(range(6)).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"ids": ["0.png", "2.png"]},
        {"labels": [0, 2]},
        {"images": 5},
    ],
    ids=["id", "label", "bytes"],
)
def test_fingerprint_changes_with(change, encoded):
    def fingerprint(ids=("0.png", "1.png"), labels=(0, 1), images=4):
        return memory_source([encoded(3), encoded(images)], ids=ids, labels=labels).fingerprint

    assert fingerprint(**change) != fingerprint()


def test_fingerprint_changes_with_the_order(source):
    assert source.select([0, 1]).fingerprint != source.select([1, 0]).fingerprint


def test_unpickled_source_reads_the_same_bytes(source):
    copy = pickle.loads(pickle.dumps(source.select([3, 2])))
    assert [copy.read(0), copy.read(1)] == [source.read(3), source.read(2)]


def test_bad_bytes_are_reported_under_the_images_id(source, encoded):
    bad = memory_source([encoded(), b"no image"], ids=["good.png", "bad.png"], name="album")
    with pytest.raises(DataError, match=r"bad\.png in album"):
        bad.image(1)


def test_columns_have_one_entry_per_image(encoded):
    with pytest.raises(DataError, match="2 images but 1 labels"):
        memory_source([encoded(), encoded()], labels=[0])


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_threads_read_what_one_thread_reads(kind, make_folder, make_tar, encoded):
    files = {f"a/{index:03d}.png": encoded(index, size=1 + index % 9) for index in range(200)}
    source = open_source(make_folder(files) if kind == "folder" else make_tar(files))
    order = np.random.default_rng(0).permutation(200).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source.read, order)) == [files[source.ids[index]] for index in order]
