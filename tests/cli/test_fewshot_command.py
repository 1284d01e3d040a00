"""Protocols from the command line."""

import json
import shutil

import pytest
from picture_folders import write_pictures

SETTINGS = ("--set", "epochs=1", "--set", "batch_size=4", "--set", "views.count=0", "--seeds", "1", "--shots", "2")


@pytest.fixture
def described(tmp_path):
    path = tmp_path / "descriptions.json"
    names = ("green tree", "blue sky", "red panda")
    path.write_text(json.dumps({name: [f"a {name}.", f"this is a {name}."] for name in names}))
    return path


def test_every_number_of_shots_is_a_row_and_other_sets_are_columns(
    clipjax, checkpoint, pictures, described, tmp_path, monkeypatch
):
    write_pictures(tmp_path / "elsewhere", seed=5, per_class=2)
    # nothing that is measured is encoded for each classifier
    monkeypatch.setattr("clipjax.evaluation.measured_images.score_images", None)
    done = clipjax(
        "fewshot", "--method", "aape", "--weights", checkpoint, "--images", pictures, "--split", "train",
        "--test-split", "test", "--descriptions", described, "--other-images", tmp_path / "elsewhere", *SETTINGS[:-2],
        "--shots", "1", "2", "--json",
    )  # fmt: skip
    assert done.status == 0, done.err
    rows = done.json["results"]
    assert [row["shots"] for row in rows] == [1, 2]
    assert all(0 <= row["top1"] <= 100 and str(tmp_path / "elsewhere") in row for row in rows)


def test_some_of_the_classes_elsewhere_are_no_new_classes(clipjax, checkpoint, pictures, tmp_path):
    some = write_pictures(tmp_path / "elsewhere", seed=5, per_class=2)
    shutil.rmtree(some / "blue_sky")
    flags = ("--images", pictures, "--split", "train", "--test-split", "test", "--shots", "4", "--seeds", "1", "--json")
    done = clipjax("fewshot", "--method", "linear_probe", "--weights", checkpoint, *flags, "--other-images", some)
    # a probe says nothing of new classes
    assert done.json["results"][0][str(some)] == 100.0, done.err
    assert "4 shots, seed 1: top-1 % 100.00" in done.err


def test_images_of_one_class_elsewhere_are_too_few_to_tell_apart(clipjax, checkpoint, pictures, complains, tmp_path):
    one = write_pictures(tmp_path / "elsewhere", seed=5, per_class=2)
    for folder in ("blue_sky", "green_tree"):
        shutil.rmtree(one / folder)
    flags = ("--images", pictures, "--split", "train", "--test-split", "test", "--shots", "4", "--other-images", one)
    complains(clipjax("fewshot", "--method", "linear_probe", "--weights", checkpoint, *flags), "names 1 classes")


def test_linear_probe_learns_from_the_shots(clipjax, checkpoint, pictures):
    flags = ("--images", pictures, "--split", "train", "--test-split", "test", "--shots", "4", "--seeds", "1", "--json")
    done = clipjax("fewshot", "--method", "linear_probe", "--weights", checkpoint, *flags)
    assert done.json["results"][0]["top1"] == 100.0


def test_mistakes_are_one_line(clipjax, checkpoint, pictures, complains, tmp_path):
    start = ("fewshot", "--method", "aape", "--weights", checkpoint, "--images", pictures, "--split", "train")
    tested = (*start, "--test-split", "test")
    complains(clipjax(*start), "no images to measure on")
    complains(clipjax(*tested, *SETTINGS), "learns from descriptions")
    complains(clipjax(*tested, "--protocol", "base-to-new"), "3 classes are too few for base-to-new")
    complains(clipjax(*tested, "--protocol", "base-to-new", "--other", "split=test"), "belong to the protocol k-shot")
    seen = "are among those that shots are drawn from"
    complains(clipjax(*tested, "--other", "split=train"), seen)
    complains(clipjax(*tested, "--other-images", pictures), seen)
    complains(clipjax(*tested, "--other-images", f"{pictures}/."), seen)
    complains(clipjax(*start, "--test", f"{pictures}/"), "test images are among those whose labels are learnt from")
    complains(clipjax(*tested, "--other-split", "test"), "chooses among --other-images")
    complains(clipjax(*tested, "--set", "seed=3"), "--seeds N repeats everything")
    complains(clipjax(*tested, "--set", "weigth=1"), "did you mean 'weight'")
    complains(clipjax(*tested, "--set", "weight=0", "--shots", "9", "--seeds", "1"), "ask for at most 4 per class")
