"""local.sh as it is used: real trainings of two processes with two devices each, against one process with four."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / "configs" / "pretrain.py"
TINY = {
    "architecture.image_size": 16, "architecture.patch_size": 8, "architecture.width": 16,
    "architecture.layers": 1, "architecture.heads": 1, "architecture.text_width": 16,
    "architecture.text_layers": 1, "architecture.text_heads": 1, "architecture.embed_dim": 8, "batch_size": 16,
}  # fmt: skip
TOGETHER, ALONE = (2, 2), (1, 4)


def start(folder, processes, devices, steps):
    flags = {f"config.data.{name}": value for name, value in TINY.items()}
    flags |= {"config.run.checkpoint_every": 4, "config.run.log_every": 1, "config.steps": steps, "workdir": folder}
    arguments = [processes, devices, f"--config={CONFIG}:glyphs", *(f"--{name}={v}" for name, v in flags.items())]
    return subprocess.Popen(
        ["bash", REPOSITORY / "launch" / "local.sh", *map(str, arguments)],
        env=os.environ | {"PYTHON": sys.executable, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )


def train(folder, layout, steps=8):
    process = start(folder, *layout, steps)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def losses(folder):
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(1, len(entries) + 1))
    return [entry["loss"] for entry in entries]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folders of undisturbed runs of eight steps."""
    folders = {layout: tmp_path_factory.mktemp("runs") / f"{layout[0]}x{layout[1]}" for layout in (TOGETHER, ALONE)}
    for layout, folder in folders.items():
        train(folder, layout)
    return folders


def test_two_processes_have_the_losses_of_one(finished):
    assert losses(finished[TOGETHER]) == pytest.approx(losses(finished[ALONE]), rel=1e-5)


@pytest.mark.parametrize(("first", "then"), [(TOGETHER, ALONE), (ALONE, TOGETHER)], ids=["two-one", "one-two"])
def test_each_goes_on_from_the_others_checkpoint(first, then, finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[first], folder)
    shutil.rmtree(folder / "model")
    shutil.rmtree(folder / "stages" / "pretrain" / "8")
    assert "going on from step 4 of 8" in train(folder, then)
    assert losses(folder) == pytest.approx(losses(finished[first]), rel=1e-5)


def test_stopped_run_saves_in_all_processes_and_goes_on(tmp_path):
    saved = 0
    for _ in range(2):
        process = start(tmp_path / "run", *TOGETHER, steps=1_000_000)
        said = [process.stderr.readline() for _ in range(8)]
        process.send_signal(signal.SIGTERM)
        said += process.communicate(timeout=300)[1].splitlines(keepends=True)
        assert process.returncode == 75, said
        assert (f"going on from step {saved} of" in "".join(said)) == (saved > 0)
        before, saved = saved, max(int(place.name) for place in (tmp_path / "run" / "stages" / "pretrain").iterdir())
        assert saved > before
