import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parent.parent / "programs" / "killed_run.py"


@pytest.mark.slow
def test_a_run_killed_at_twenty_moments_ends_with_the_bits_of_an_undisturbed_one(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, PROGRAM, str(tmp_path), "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["same"] and report["leaves"] == 10
    assert len(report["moments"]) == 20 and "end" not in report["moments"]
    assert report["moments"].count("write") >= 3
    assert report["steps"] == list(range(1, 121))
