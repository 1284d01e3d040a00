"""Train a toy stage in a process that is killed 20 times, and compare what it ends with to an undisturbed run.

    python killed_run.py FOLDER SEED

Moments are drawn: soon after the start, some steps later, or within the writing of a checkpoint.
Children are forked from a process that has imported everything and computed nothing. Prints JSON.
"""

import contextlib
import json
import multiprocessing
import random
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import orbax.checkpoint  # noqa: F401 - here, so that the children need not import it
from toy_stages import Rows, leaves, toy_stage

from clipjax.training.checkpoints import Keeping
from clipjax.training.fit import Pace
from clipjax.training.run import open_run

STEPS, KILLS = 120, 20


class SlowRows(Rows):
    """Leaves time between two checkpoints in which nothing is written."""

    def batches(self, first_step=0, **place):
        for batch in Rows.batches(self, first_step, **place):
            time.sleep(0.03)
            yield batch


def train(folder: Path) -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    keeping = Keeping(every=5, newest=2, best=1)
    run = open_run(folder, {"what": "a run to be killed"}, keeping=keeping, pace=Pace(log_every=1))
    np.savez(folder / "end.npz", **leaves(run.fit(toy_stage(STEPS, batches=SlowRows()))))


def started(folder: Path) -> multiprocessing.Process:
    child = multiprocessing.get_context("fork").Process(target=train, args=(folder,))
    child.start()
    return child


def wait(child: multiprocessing.Process, condition) -> None:
    while child.is_alive() and not condition():
        time.sleep(0.0005)


def being_written(folder: Path) -> set[tuple[str, int]]:
    """The unfinished checkpoints, those of killed children included; a number tells apart what has the same name."""
    found = set()
    with contextlib.suppress(FileNotFoundError):
        for path in (folder / "stages" / "toy").glob("*.orbax-checkpoint-tmp"):
            found.add((path.name, path.stat().st_ino))
    return found


def reported(folder: Path) -> list[int]:
    """The steps in the metrics file, as far as they are whole."""
    steps = []
    with contextlib.suppress(FileNotFoundError, ValueError):
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            steps.append(json.loads(line)["step"])
    return steps


def kill_at_a_drawn_moment(folder: Path, draw: random.Random) -> str:
    """Start, kill, and return where: "start", "step" or "write"; "end" if it was too late."""
    left_over, before = being_written(folder), max(reported(folder), default=0)
    child = started(folder)
    kind = draw.choice(["start", "step", "write"])
    if kind == "start":
        child.join(draw.uniform(0, 1))
    elif kind == "step":
        goal = before + draw.randint(1, 7)
        wait(child, lambda: max(reported(folder), default=0) >= goal and not being_written(folder))
    else:
        wait(child, lambda: being_written(folder) - left_over)
        child.join(draw.uniform(0, 0.05))
    child.kill()
    child.join()
    if child.exitcode == 0:
        return "end"
    return "write" if being_written(folder) - left_over else "start" if kind == "start" else "step"


def main(folder: Path, seed: int) -> None:
    draw = random.Random(seed)
    moments = [kill_at_a_drawn_moment(folder / "killed", draw) for _ in range(KILLS)]
    for name in ("killed", "undisturbed"):
        child = started(folder / name)
        child.join()
        assert child.exitcode == 0, name
    ends = [dict(np.load(folder / name / "end.npz")) for name in ("killed", "undisturbed")]
    same = ends[0].keys() == ends[1].keys() and all(ends[0][n].tobytes() == ends[1][n].tobytes() for n in ends[0])
    print(json.dumps({"moments": moments, "same": same, "steps": reported(folder / "killed"), "leaves": len(ends[0])}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
