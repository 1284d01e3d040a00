"""tpu.sh with a stand-in for gcloud that plays a slice's life."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

GCLOUD = r"""
next() { [ -s "$1" ] || kill 0; head -n 1 "$1"; sed -i 1d "$1"; }  # asked too often: end the script
echo "$*" >>"$LOG"
case "$*" in
  *describe*)
    state=$(next "$STATES")
    case $state in
      ABSENT) echo "ERROR: (gcloud.compute.tpus.queued-resources.describe) NOT_FOUND: Resource not found" >&2; exit 1 ;;
      LOST) echo "ERROR: there was a problem refreshing your current auth tokens" >&2; exit 1 ;;
      *) echo "a hint" >&2; echo "$state" ;;
    esac
    ;;
  *launch/train.py*) exit "$(next "$STATUSES")" ;;
  *scp*) cp "$5" "$ARCHIVE" ;;
esac
"""
VERBS = {"queued-resources create": "create", "scp": "copy", "uv pip install": "install", "setup": "setup"}
VERBS |= {"launch/train.py": "run", "queued-resources delete": "delete"}
START = ["copy", "install", "run"]


@pytest.fixture
def live(launch, stand_in, tmp_path):
    """A function that runs tpu.sh while gcloud answers with `states` and the run ends with `statuses`."""
    stand_in("gcloud", GCLOUD)
    stand_in("sleep", "")

    def run(states, statuses, **variables):
        places = {name: tmp_path / name.lower() for name in ("LOG", "STATES", "STATUSES", "ARCHIVE")}
        places["LOG"].touch()
        places["STATES"].write_text("".join(f"{state}\n" for state in states))
        places["STATUSES"].write_text("".join(f"{status}\n" for status in statuses))
        done = launch("tpu.sh", "clip", "zone", "v5", "--config=c.py", "--workdir=w", **places, **variables)
        assert places["STATES"].read_text() == places["STATUSES"].read_text() == ""
        calls = [line for line in places["LOG"].read_text().splitlines() if "describe" not in line]
        verbs = [next(verb for words, verb in VERBS.items() if words in line) for line in calls]
        return done.returncode, verbs, done.stderr, calls

    return run


def test_slice_is_made_waited_for_used_and_deleted(live):
    states = ["ABSENT", "ABSENT", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]
    assert live(states, [0])[:2] == (0, ["create", *START, "delete"])


def test_stopped_run_is_started_again_on_the_same_slice(live):
    assert live(["ACTIVE"] * 3, [75, 0])[:2] == (0, [*START, "run", "delete"])


def test_mistake_ends_the_script_and_leaves_the_slice(live):
    status, verbs, said, _ = live(["ACTIVE"] * 2, [2])
    assert (status, verbs) == (2, START)
    assert "clip is still there" in said


def test_failure_on_a_slice_that_is_there_ends_the_script(live):
    status, verbs, said, _ = live(["ACTIVE"] * 3, [134])
    assert (status, verbs) == (134, START)
    assert "failed with status 134" in said


def test_preempted_slice_is_replaced(live):
    states = ["ACTIVE"] * 2 + ["SUSPENDING", "SUSPENDING", "SUSPENDED", "ABSENT", "CREATING", "ACTIVE"]
    assert live(states, [255, 0])[:2] == (0, [*START, "delete", "create", *START, "delete"])


def test_slice_that_cannot_be_had_is_not_waited_for(live):
    status, verbs, said, _ = live(["ABSENT", "ABSENT", "ACCEPTED", "FAILED"], [])
    assert (status, verbs) == (1, ["create"])
    assert "cannot be had" in said


def test_slice_that_failed_at_an_earlier_time_makes_way(live):
    states = ["FAILED", "FAILED", "ABSENT", "ACTIVE"]
    assert live(states, [0])[:2] == (0, ["delete", "create", *START, "delete"])


def test_unanswered_question_ends_the_script_at_its_start_only(live):
    status, verbs, said, _ = live(["LOST"], [])
    assert (status, verbs) == (1, [])
    assert "auth tokens" in said
    assert live(["ACTIVE", "LOST", "ACTIVE"], [0])[:2] == (0, [*START, "delete"])


def test_setup_runs_before_the_first_start_only(live):
    verbs = live(["ACTIVE"] * 3, [75, 0], SETUP="setup the bucket")[1]
    assert verbs == ["copy", "install", "setup", "run", "run", "delete"]


def test_workers_get_the_repository_and_a_python_that_it_supports(live, tmp_path):
    calls = live(["ACTIVE"] * 2, [0])[3]
    listing = ["tar", "-tzf", tmp_path / "archive"]
    names = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {"./launch/train.py", "./configs/pretrain.py", "./pyproject.toml"} < set(names)
    assert not any(name.startswith("./.") for name in names)
    wanted = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["requires-python"]
    least, made = (re.search(pattern, text).groups() for pattern, text in [
        (r">=(\d+)\.(\d+)", wanted), (r"uv venv .*--python (\d+)\.(\d+) ~/venv", calls[1])
    ])  # fmt: skip
    assert [int(part) for part in made] >= [int(part) for part in least]
