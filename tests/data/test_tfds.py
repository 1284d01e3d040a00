import json
import pickle

import pytest

from clipjax.data.opening import open_source
from clipjax.data.prepare import prepare
from clipjax.data.source import memory_source
from clipjax.data.tfds import open_tfds
from clipjax.errors import DataError


@pytest.fixture
def prepared(tmp_path, encoded):
    source = memory_source(
        [encoded(index) for index in range(6)],
        labels=[0, 1, 0, 1, 0, 1],
        classnames=["cat", "dog"] * 3,
        splits=["train"] * 4 + ["test"] * 2,
    )
    prepare(source, tmp_path / "pets" / "1.0.0", "pets")
    return tmp_path / "pets" / "1.0.0"


def test_one_split_is_read_alone(prepared, encoded):
    source = open_tfds(prepared, "train")
    assert set(source.splits) == {"train"}
    assert [source.read(index) for index in range(4)] == [encoded(index) for index in range(4)]


def test_images_of_all_splits_are_read_from_their_own(prepared, encoded):
    source = open_tfds(prepared)
    assert {source.ids[index]: source.read(index) for index in range(6)} == {
        f"{index:06d}": encoded(index) for index in range(6)
    }


def test_folder_above_the_version_is_understood(prepared):
    assert len(open_source(prepared.parent, split="test")) == 2


def test_unknown_split_lists_those_there_are(prepared):
    with pytest.raises(DataError, match="no split 'val'; the splits are test, train"):
        open_source(prepared, split="val")


def test_unpickled_set_reads_the_same_bytes(prepared):
    source = open_tfds(prepared)
    expected = source.read(5)
    assert pickle.loads(pickle.dumps(source)).read(5) == expected


def test_feature_class_from_outside_tfds_is_not_imported(prepared, tmp_path, monkeypatch):
    (tmp_path / "hostile.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    path = prepared / "features.json"
    features = json.loads(path.read_text())
    features["featuresDict"]["features"]["id"]["pythonClassName"] = "hostile.Feature"
    path.write_text(json.dumps(features))
    with pytest.raises(DataError, match=r'asks for the feature class "hostile\.Feature"'):
        open_source(prepared)
    assert not (tmp_path / "ran").exists()


def test_tfrecord_set_says_how_to_convert_it(prepared):
    path = prepared / "dataset_info.json"
    path.write_text(path.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(DataError, match="tfds convert_format"):
        open_tfds(prepared)


def test_set_of_bare_tensors_is_a_data_error(prepared):
    tensor = {"shape": {}, "dtype": "int64", "encoding": "none"}
    features = {"pythonClassName": "tensorflow_datasets.core.features.tensor_feature.Tensor", "tensor": tensor}
    (prepared / "features.json").write_text(json.dumps(features))
    with pytest.raises(DataError, match="its records are no dict of features"):
        open_tfds(prepared)


def test_opening_reports_its_progress_over_all_splits(prepared):
    reported = []

    def watch(items, *, total, label, unit="images", step=1):
        reported.append(total)
        yield from items

    assert len(open_tfds(prepared, progress=watch)) == 6
    assert reported == [6]


@pytest.mark.parametrize("damage", ["truncate", "delete"])
def test_damaged_records_are_a_data_error(damage, prepared):
    for path in prepared.glob("*train*"):
        if damage == "delete":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="split train cannot be read"):
        open_tfds(prepared)


def test_metadata_that_is_not_json_is_a_data_error(prepared):
    (prepared / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="not a readable TFDS data set"):
        open_tfds(prepared)


def test_several_versions_ask_for_one(prepared, encoded):
    prepare(memory_source([encoded()]), prepared.parent / "2.0.0", "pets", "2.0.0")
    with pytest.raises(DataError, match=r"several versions \('1\.0\.0', '2\.0\.0'\)"):
        open_source(prepared.parent)
