"""The launch scripts, run with stand-ins for the programs they start."""

import os
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


@pytest.fixture
def stand_in(tmp_path):
    """A function that writes a program that comes before the real one of its name, and returns its place."""
    programs = tmp_path / "programs"
    programs.mkdir()

    def write(name, text):
        place = programs / name
        place.write_text(text if text.startswith("#!") else f"#!/usr/bin/env bash\n{text}\n")
        place.chmod(0o755)
        return place

    return write


@pytest.fixture
def environment(tmp_path):
    """A function that makes an environment of few variables, in which the stand-ins come first."""

    def make(**variables):
        path = f"{tmp_path / 'programs'}:{os.defpath}"
        return {"PATH": path} | {name: str(value) for name, value in variables.items()}

    return make


@pytest.fixture
def launch(environment):
    """A function that runs a script of launch/ to its end."""

    def run(script, *arguments, **variables):
        command = ["bash", LAUNCH / script, *arguments]
        own_group = {"start_new_session": True, "timeout": 60}
        return subprocess.run(command, capture_output=True, text=True, env=environment(**variables), **own_group)

    return run
