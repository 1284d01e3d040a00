"""PC-CLIP learns in the procedural world what a linear probe can read, and nothing from shuffled sentences."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(pytestconfig):
    """What the benchmark measures with one seed; compiled as for users, since it trains."""
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(pytestconfig.rootpath)}
    command = [sys.executable, "-m", "benchmarks.differences", "--seeds", "0"]
    done = subprocess.run(
        command, cwd=pytestconfig.rootpath, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[0])


def test_differences_of_unseen_images_are_told_nearly_as_well_as_a_linear_probe_can(found):
    assert found["before"] < 0.7
    assert found["after"] > 0.9 * found["linear probe"] > 0.8


def test_shuffled_sentences_leave_it_at_chance(found):
    assert abs(found["control"] - 0.5) < 0.03


def test_zero_shot_accuracy_stays(found):
    assert found["zero-shot after"] > found["zero-shot before"] - 0.02
