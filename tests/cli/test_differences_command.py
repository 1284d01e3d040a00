import shutil

import numpy as np
import pytest
from PIL import Image
from prepared_sets import awa2, birds, cifar100, flowers

from clipjax.evaluation.difference_tasks import BLUE, LARGE, SMALL, YELLOW


@pytest.fixture
def animals(tmp_path):
    """Two noisy pictures of each animal, in class folders."""
    random = np.random.default_rng(0)
    for name in (*LARGE, *SMALL):
        (tmp_path / "animals" / name).mkdir(parents=True)
        for number in range(2):
            pixels = random.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "animals" / name / f"{number}.png")
    return tmp_path / "animals"


@pytest.fixture
def measure(clipjax, checkpoint, animals):
    """A function that measures a task on the animals."""
    return lambda task, *flags, images=animals: clipjax(
        "differences", "--task", task, "--weights", checkpoint, "--images", images, *flags
    )


def test_size_is_measured_over_seeds(measure):
    found = measure("cifar100-size", "--seeds", "2", "--json").json
    assert found["pairs"] == [64, 64] and found["sentences"] == 2
    assert found["accuracy"] == pytest.approx(np.mean(found["seeds"]), abs=0.01)
    assert "cifar100-size: " in measure("cifar100-size", "--seeds", "1").out


def test_written_differences_are_measured(measure, animals, clipjax, tmp_path):
    store, settings = tmp_path / "texts.jsonl", ("ask=difference-of-images", f"images={animals}", "pairs=50")
    sets = [flag for setting in settings for flag in ("--set", setting)]
    assert clipjax("texts", "generate", *sets, "--store", store).status == 0
    found = measure("cub", "--texts", store, "--seeds", "1", "--json").json
    # the small model's context is shorter than what the grammar writes
    assert found["pairs"] == [50] and found["sentences_cut"] == found["sentences"] > 0


@pytest.mark.parametrize(
    ("task", "flags", "complaint"),
    [
        ("flowers-colour", (), "give Flowers102's test images"),
        ("awa2", (), "lacks classes.txt, predicates.txt, predicate-matrix-binary.txt"),
        ("cub", (), "pass --texts STORE"),
        ("cub", ("--texts", "none.jsonl"), "none.jsonl"),
        ("cifar100-size", ("--paper-code-compat",), "makes no mistake in cifar100-size"),
        ("cifar100-size", ("--skip-bad",), "--skip-bad would leave a pair"),
        ("size", (), "invalid choice"),
    ],
)
def test_what_is_missing_is_one_line(measure, complains, task, flags, complaint):
    complains(measure(task, *flags), complaint)


# ---- what TFDS prepared ----

QUICK = ("--split", "test", "--seeds", "2", "--json")


def test_sizes_are_read_from_tfds_by_name_and_from_the_split_that_is_asked_for(measure, tmp_path):
    images = cifar100(tmp_path, ["bear", *SMALL, "table", *LARGE])
    found = measure("cifar100-size", *QUICK, images=images).json
    assert found["pairs"] == [64, 64] and 0 <= found["accuracy"] <= 100
    assert measure("cifar100-size", "--split", "train", "--seeds", "1", "--json", images=images).json["pairs"] == [16]


def test_colours_are_read_from_tfds(measure, tmp_path):
    images = flowers(tmp_path, ["pink primrose", *YELLOW, *BLUE])
    assert measure("flowers-colour", *QUICK, images=images).json["pairs"] == [36, 36]


def test_birds_are_read_from_tfds_with_differences_by_their_file_names(measure, clipjax, tmp_path):
    images, store = birds(tmp_path), tmp_path / "texts.jsonl"
    sets = [flag for one in ("ask=difference-of-images", f"images={images}") for flag in ("--set", one)]
    assert clipjax("texts", "generate", *sets, "--set", "split=test", "--store", store).status == 0
    found = measure("cub", "--texts", store, *QUICK, images=images).json
    assert found["pairs"] == [6, 6]


def test_attributes_are_asked_of_what_data_prepare_made_of_the_folder(measure, clipjax, tmp_path, complains):
    unpacked = awa2(tmp_path)
    whole = measure("awa2", "--seeds", "1", "--json", images=unpacked / "JPEGImages").json
    assert clipjax("data", "prepare", unpacked / "JPEGImages", tmp_path / "awa2", "--name", "awa2").status == 0
    complains(measure("awa2", images=tmp_path / "awa2"), "lacks classes.txt", "the folder of Animals with Attributes 2")
    prepared = measure("awa2", "--seeds", "1", "--json", "--attributes", unpacked, images=tmp_path / "awa2").json
    assert prepared == whole and whole["pairs"] == [45]


def test_what_a_prepared_set_lacks_is_said(measure, complains, tmp_path):
    images = cifar100(tmp_path, ["bear", "wolf", "rabbit"], each=1)
    complains(measure("cifar100-size", images=images), "lacks camel, hamster", "or a TFDS data set")
    complains(measure("cifar100-size", "--split", "val", images=images), "no split 'val'; the splits are")
    shutil.rmtree(images / "1.0.0")
    complains(measure("cifar100-size", images=images), images)
    complains(measure("cifar100-size", images=tmp_path / "none"), "no such file or folder; check the path")
