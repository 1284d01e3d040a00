"""What `adapt` made, used on new images."""

import csv
import io

import pytest
from picture_folders import write_pictures


@pytest.fixture
def adapted(clipjax, checkpoint, pictures, tmp_path):
    """A run of linear_probe, with the accuracy that was measured in it."""
    flags = ["--labels", "--test", pictures / "test", "--json", "-o", tmp_path / "run"]
    done = clipjax("adapt", "--method", "linear_probe", "--weights", checkpoint, "--images", pictures / "train", *flags)
    return tmp_path / "run", done.json["after"]


@pytest.mark.parametrize("part", ["", "model"])
def test_accuracy_is_what_the_run_measured(clipjax, adapted, pictures, part):
    run, after = adapted
    found = clipjax("predict", run / part, "--images", pictures / "test", "--labels", "--json").json
    assert {name: found[name] for name in after} == after


def test_predictions_are_written_with_the_classifiers_own_names(clipjax, adapted, pictures):
    done = clipjax("predict", adapted[0], "--images", pictures / "test")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert len(rows) == 9
    # plain colours are easy: the head is used, and not only the towers
    assert all(row["class"].replace(" ", "_") in row["id"].replace(" ", "_") for row in rows)


def test_mistakes_are_one_line(clipjax, adapted, pictures, checkpoint, complains, tmp_path):
    complains(clipjax("predict", tmp_path / "none", "--images", pictures / "test"), "none", "holds no classifier")
    complains(clipjax("predict", checkpoint, "--images", pictures / "test"), "holds no classifier")
    (adapted[0] / "model" / "classifier.npz").write_bytes(b"PK")
    complains(clipjax("predict", adapted[0], "--images", pictures / "test"), "the classifier is damaged")


def test_labels_of_other_classes_are_refused(clipjax, adapted, complains, tmp_path):
    other = write_pictures(tmp_path / "other", seed=3, per_class=2)
    for folder, name in zip(sorted(other.iterdir()), ("cat", "dog", "fish")):
        folder.rename(folder.with_name(name))
    complains(clipjax("predict", adapted[0], "--images", other, "--labels"), "class names 'cat'")


def test_an_output_is_not_replaced_unasked(clipjax, adapted, pictures, complains, tmp_path):
    (tmp_path / "out.csv").write_text("mine")
    flags = ("predict", adapted[0], "--images", pictures / "test", "-o", tmp_path / "out.csv")
    complains(clipjax(*flags), "out.csv")
    assert clipjax(*flags, "--overwrite").status == 0


def test_a_head_that_a_method_learned_is_used(clipjax, checkpoint, pictures, tmp_path):
    flags = ["--labels", "--test", pictures / "test", "--set", "views.count=0", "--set", "strength=50"]
    flags += ["--set", "sharpness=100", "--json", "-o", tmp_path / "run"]
    done = clipjax("adapt", "--method", "tip_adapter", "--weights", checkpoint, "--images", pictures / "train", *flags)
    found = clipjax("predict", tmp_path / "run", "--images", pictures / "test", "--labels", "--json").json
    assert {name: found[name] for name in done.json["after"]} == done.json["after"]
    assert found["top1"] > done.json["before"]["top1"]
