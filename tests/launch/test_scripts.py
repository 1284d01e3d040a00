import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
ARGUMENTS = {
    "local": ["2", "2"],
    "gpu": [],
    "slurm": ["2", "8", "--time=1:00:00", "--"],
    "tpu": ["clip", "us-east5-a", "v5litepod-16"],
    "gke": ["cluster", "us-east5-a", "v5litepod-16", "clip"],
}


def dry_run(script, *flags):
    command = ["bash", script, "--dry-run", *ARGUMENTS[script.stem], *flags]
    return subprocess.run(
        command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable}
    )


def test_every_script_is_known_here():
    assert {script.stem for script in SCRIPTS} == ARGUMENTS.keys()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_dry_run_shows_the_entry_point_with_all_flags(script):
    done = dry_run(script, "--config=configs/pretrain.py:glyphs", "--workdir=/mnt/my run")
    assert done.returncode == 0, done.stderr
    shown = done.stdout.replace("\\\\", "\\").replace("\\", "")
    assert "launch/train.py" in shown
    assert "--config=configs/pretrain.py:glyphs" in shown
    assert "--workdir=/mnt/my run" in shown


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_without_arguments_a_script_explains_itself(script):
    done = subprocess.run(["bash", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"launch/{script.name}" in done.stderr


def test_local_script_numbers_its_processes():
    done = dry_run(LAUNCH / "local.sh", "--config=c", "--workdir=w")
    lines = done.stdout.splitlines()
    assert ["--process=0" in lines[0], "--process=1" in lines[1]] == [True, True]
    assert all("--processes=2" in line and "JAX_NUM_CPU_DEVICES=2" in line for line in lines)
