"""local.sh with programs that end as they are told to: whom it stops, for whom it waits, and its status."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

LOCAL = Path(__file__).resolve().parents[2] / "launch" / "local.sh"

# `--ends=3,term75`: process 0 ends with 3 at once, process 1 with 75 after SIGTERM and a line in RELEASE/1
PROGRAM = f"""#!{sys.executable}
import os, signal, sys

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
flags = dict(flag.removeprefix("--").split("=", 1) for flag in sys.argv[2:])
end = flags["ends"].split(",")[int(flags["process"])]
print("runs", flush=True)
if end.startswith("term"):
    signal.sigwait([signal.SIGTERM])
    print("saves", flush=True)
    if "release" in flags:
        open(flags["release"] + "/" + flags["process"]).readline()
if end == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(end.removeprefix("term")))
"""


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ("0,0,0", 0),
        ("75,75,75", 75),
        ("0,75,0", 75),
        ("3,75,0", 3),
        ("75,0,3", 3),
        ("3,term75,term75", 3),
        ("killed,term75,75", 137),
    ],
)
def test_status_tells_failed_from_stopped_and_a_failure_stops_the_others(ends, status, launch, stand_in):
    done = launch("local.sh", "3", "1", f"--ends={ends}", PYTHON=stand_in("python", PROGRAM), PORT=1)
    assert done.returncode == status
    assert "wait:" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_stopped_script_waits_until_all_have_saved(number, tmp_path, environment, stand_in):
    for name in ("0", "1"):
        os.mkfifo(tmp_path / name)
    process = subprocess.Popen(
        ["bash", LOCAL, "2", "1", "--ends=term75,term75", f"--release={tmp_path}"],
        env=environment(PYTHON=stand_in("python", PROGRAM), PORT=1),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = [process.stdout.readline() for _ in range(2)]
    process.send_signal(number)
    said += [process.stdout.readline() for _ in range(2)]
    assert said == ["runs\n", "runs\n", "saves\n", "saves\n"]
    for name in ("0", "1"):
        (tmp_path / name).write_text("on\n")
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 75
