"""The whole way from pictures to a tuned model in processes that are killed, without a chance to tidy up."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from picture_folders import write_pictures

from clipjax.texts.store import TextStore
from clipjax.weights.load import load

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).resolve().parents[1] / "programs" / "killed_command.py"
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def run(what, count, *arguments):
    """Run a command to its end, or to its death."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, PROGRAM, what, str(count), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == (-signal.SIGKILL if count else 0), done.stderr
    return done


def test_texts_and_training_that_were_killed_end_as_if_nothing_had_happened(checkpoint, tmp_path):
    photos, store = write_pictures(tmp_path / "photos"), tmp_path / "texts.jsonl"
    asked = ("texts", "generate", f"--config={CONFIGS / 'texts.py'}:differences-of-images", "--store", store)
    ask = (*asked, "--set", f"images={photos}", "--set", "pairs=40")
    run("texts", 15, *ask)
    assert len(list(TextStore(store).records("difference"))) == 15
    assert "25 of 40 questions answered" in run("texts", 0, *ask).stderr
    files = {"weights": checkpoint, "images": photos, "texts": store}
    settings = {"epochs": 4.0, "batch_size": 16, "optimizer.lr": 1e-3, "run.log_every": 1, "run.checkpoint_every": 2}
    flags = [f"--config.problem.{name}={value}" for name, value in files.items()]
    flags += [f"--config.{name}={value}" for name, value in settings.items()]
    train = lambda name: ("train", f"--config={CONFIGS / 'pcclip.py'}", *flags, f"--workdir={tmp_path / name}")
    run("steps", 5, *train("killed"))
    assert not (tmp_path / "killed/model").exists()
    for name in ("killed", "undisturbed"):
        run("steps", 0, *train(name))
    # they went on from a checkpoint: no step was reported twice, and none is missing
    steps = [(tmp_path / name / "metrics.jsonl").read_text().count('"step"') for name in ("killed", "undisturbed")]
    assert steps == [10, 10]
    before, killed, undisturbed = (
        load(at)[1]["text"] for at in (checkpoint, *(tmp_path / n for n in ("killed", "undisturbed")))
    )
    leaves = [jax.tree.leaves(params) for params in (before, killed, undisturbed)]
    for one, two in zip(*leaves[1:], strict=True):
        np.testing.assert_array_equal(one, two)
    assert any(not np.array_equal(one, two) for one, two in zip(*leaves[:2]))
