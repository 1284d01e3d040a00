import numpy as np
import pytest
from PIL import Image

from clipjax.evaluation.difference_tasks import LARGE, SMALL


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
    return lambda task, *flags: clipjax(
        "differences", "--task", task, "--weights", checkpoint, "--images", animals, *flags
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
