import json
import subprocess
import sys

import numpy as np
import pytest

from clipjax.data.prepare import prepare
from clipjax.data.source import memory_source
from clipjax.data.tfds import open_tfds
from clipjax.errors import DataError, OutputError
from clipjax.inputs.image import decode_image

PLAIN_READER = """
import json, sys
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1])
rows = {}
for split in builder.info.splits:
    rows[split] = [
        [row["id"].decode(), int(row["label"]), row["classname"].decode(), row["image"][0, 0].tolist()]
        for row in builder.as_data_source(split)
    ]
names = builder.info.features["label"].names
assert "clipjax" not in sys.modules and "tensorflow" not in sys.modules
print(json.dumps({"rows": rows, "names": names}))
"""


@pytest.fixture
def source(encoded):
    return memory_source(
        [encoded(10), encoded(20), encoded(30)],
        ids=["a.png", "b.png", "c.png"],
        labels=[0, 2, 0],
        classnames=["café", "zebra crossing", "café"],
        splits=["train", "test", "test"],
    )


def test_plain_tfds_reads_what_was_written(source, tmp_path):
    prepare(source, tmp_path / "out", "my_set")
    result = subprocess.run(
        [sys.executable, "-c", PLAIN_READER, str(tmp_path / "out")],
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    read = json.loads(result.stdout.splitlines()[-1])
    assert read["names"] == ["café", "1", "zebra crossing"]
    assert read["rows"] == {
        "test": [["b.png", 2, "zebra crossing", [20, 0, 7]], ["c.png", 0, "café", [30, 0, 7]]],
        "train": [["a.png", 0, "café", [10, 0, 7]]],
    }


def test_source_comes_back_whole(make_tar, tmp_path, encoded):
    from clipjax.data.tar import open_tar

    manifest = b"path,label,classname,split,domain\n1.png,1,dog,test,photo\n2.png,0,cat,test,sketch\n"
    source = open_tar(make_tar({"manifest.csv": manifest, "1.png": encoded(1), "2.png": encoded(2)}))
    prepare(source, tmp_path / "out", "my_set")
    back = open_tfds(tmp_path / "out")
    for column in ("id", "label", "classname", "split", "domain"):
        assert list(back.column(column)) == list(source.column(column))
    assert back.label_names == source.label_names


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_jpeg_and_png_bytes_are_kept(file_format, tmp_path, encoded):
    images = [encoded(3, file_format), encoded(4, file_format, mode="L")]
    summary = prepare(memory_source(images), tmp_path / "out", "my_set")
    back = open_tfds(tmp_path / "out")
    assert [back.read(0), back.read(1)] == images
    assert not summary.reencoded


@pytest.mark.parametrize(
    ("file_format", "mode"),
    [
        ("BMP", "RGB"),
        ("BMP", "1"),
        ("GIF", "P"),
        ("WEBP", "RGBA"),
        ("TIFF", "RGB"),
        ("TIFF", "CMYK"),
        ("TIFF", "I;16"),
    ],
)
def test_other_formats_become_png_with_the_same_pixels(file_format, mode, tmp_path, encoded):
    original = encoded(200, file_format, mode="L" if mode == "I;16" else mode)
    summary = prepare(memory_source([original]), tmp_path / "out", "my_set")
    stored = open_tfds(tmp_path / "out").read(0)
    assert decode_image(stored, "stored").format == "PNG"
    before, after = (np.asarray(decode_image(data, "image").convert("RGB")) for data in (original, stored))
    np.testing.assert_array_equal(before, after)
    assert summary.reencoded == {file_format: 1}


def test_without_splits_everything_is_train(tmp_path, encoded):
    summary = prepare(memory_source([encoded(), encoded()]), tmp_path / "out", "my_set")
    assert summary.splits == {"train": 2}


def test_split_names_are_made_fit_for_tfds(tmp_path, encoded):
    source = memory_source([encoded()] * 3, splits=["target-train", "target-train", ""])
    prepare(source, tmp_path / "out", "my_set")
    assert list(open_tfds(tmp_path / "out", "target_train").splits) == ["target_train"] * 2
    assert len(open_tfds(tmp_path / "out", "unassigned")) == 1


def test_set_without_labels_has_no_label_feature(tmp_path, encoded):
    prepare(memory_source([encoded()] * 2), tmp_path / "out", "my_set")
    assert not open_tfds(tmp_path / "out").explicit_labels


def test_image_without_a_label_leaves_the_labels_of_the_others(tmp_path, encoded):
    source = memory_source([encoded()] * 3, labels=[1, -1, 0], classnames=["dog", "", "cat"])
    prepare(source, tmp_path / "out", "my_set")
    back = open_tfds(tmp_path / "out")
    assert back.labels.tolist() == [1, -1, 0]
    assert list(back.classnames) == ["dog", "", "cat"]


def test_columns_that_tfds_does_not_take_are_renamed_and_reported(make_tar, tmp_path, encoded):
    from clipjax.data.tar import open_tar

    columns = ["super-category", "super_category", "image", "2nd", ""]
    values = ["animal", "beast", "x", "y", "z"]
    manifest = "\n".join([",".join(["path", *columns]), ",".join(["1.png", *values])])
    source = open_tar(make_tar({"manifest.csv": manifest.encode(), "1.png": encoded(1)}))
    summary = prepare(source, tmp_path / "out", "my_set")
    back = open_tfds(tmp_path / "out")
    assert [list(back.column(summary.renamed.get(column, column))) for column in columns] == [[v] for v in values]
    assert set(summary.renamed) == set(columns) - {"super_category"}


def test_classes_that_share_a_name_stay_apart(tmp_path, encoded):
    source = memory_source([encoded()] * 2, labels=[0, 1], classnames=["crane", "crane"])
    prepare(source, tmp_path / "out", "my_set")
    back = open_tfds(tmp_path / "out")
    assert back.labels.tolist() == [0, 1]
    assert list(back.classnames) == ["crane", "crane"]


def test_bad_image_leaves_nothing_behind(tmp_path, encoded):
    source = memory_source([encoded(), b"bad"], ids=["a.png", "b.png"])
    with pytest.raises(DataError, match=r"b\.png.*--skip-bad"):
        prepare(source, tmp_path / "out", "my_set")
    assert list(tmp_path.iterdir()) == []


def test_skipped_images_are_listed(tmp_path, encoded):
    source = memory_source([encoded(1), b"bad", encoded(2)], ids=["a.png", "b.png", "c.png"])
    summary = prepare(source, tmp_path / "out", "my_set", skip_bad=True)
    assert [bad.id for bad in summary.skipped] == ["b.png"]
    assert list(open_tfds(tmp_path / "out").ids) == ["a.png", "c.png"]


def test_existing_directory_is_not_overwritten(source, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        prepare(source, tmp_path / "out", "my_set")


@pytest.mark.parametrize(("name", "version"), [("My-Set", "1.0.0"), ("1set", "1.0.0"), ("my_set", "1.0")])
def test_names_that_tfds_does_not_take_are_refused(name, version, source, tmp_path):
    with pytest.raises(DataError, match="is not one for TFDS"):
        prepare(source, tmp_path / "out", name, version)


def test_progress_sees_every_image(source, tmp_path):
    seen = []

    def progress(items, *, total, label, unit="images", step=1):
        seen.append(total)
        for item in items:
            seen.append(item[0])
            yield item

    prepare(source, tmp_path / "out", "my_set", progress=progress)
    assert seen == [3, 0, 1, 2]
