"""Runs of two processes with two virtual devices each, and of one process with four, that continue one another."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).resolve().parent.parent / "programs"
sys.path.insert(0, str(PROGRAMS))

from one_of_several import train  # noqa: E402 - the same program within this process, which has four devices


def two_processes(folder, kind, steps, last, fsdp=1):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
    arguments = [str(value) for value in (folder, kind, steps, last, fsdp)]
    return [
        subprocess.Popen(
            [sys.executable, PROGRAMS / "one_of_several.py", address, "2", str(process), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]


def ends_of(processes):
    """What both printed last."""
    try:
        answers = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], answers
    return [json.loads(out.splitlines()[-1]) for out, _ in answers]


def losses(folder):
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(1, len(entries) + 1))
    return [entry["loss"] for entry in entries]


@pytest.mark.parametrize("kind", ["toy", pytest.param("clip", marks=pytest.mark.slow)])
def test_two_processes_and_one_train_alike_and_go_on_from_each_others_checkpoints(tmp_path, kind):
    folder = tmp_path / "run"
    assert [end["end"] for end in ends_of(two_processes(folder, kind, 9, 3, fsdp=4))] == ["failed"] * 2
    assert train(folder, kind, 9, 6) == {"end": "failed", "made_by": 2}
    ends = ends_of(two_processes(folder, kind, 9, 10))
    assert ends[0] == ends[1]
    assert (ends[0]["end"], ends[0]["made_by"]) == ("done", 2)
    end = train(tmp_path / "alone", kind, 9, 10)
    assert losses(folder) == pytest.approx(losses(tmp_path / "alone"), rel=1e-5)
    assert ends[0]["total"] == pytest.approx(end["total"], rel=1e-5)


def test_one_process_that_is_told_to_stop_stops_both_at_one_step(tmp_path):
    folder, many = tmp_path / "run", 1_000_000
    processes = two_processes(folder, "toy", many, many)
    metrics = folder / "metrics.jsonl"
    while not metrics.exists() and processes[0].poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            processes[0].wait(0.05)
    processes[1].send_signal(signal.SIGTERM)
    ends = ends_of(processes)
    assert ends[0] == ends[1]
    saved = max(int(place.name) for place in (folder / "stages" / "toy").iterdir())
    assert f"stopped at step {saved} of {many}" in ends[0]["end"]
