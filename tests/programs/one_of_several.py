"""Train a toy stage or a tiny CLIP as one of several processes, up to some step or until told to stop.

    python one_of_several.py ADDRESS PROCESSES PROCESS FOLDER toy|clip STEPS LAST FSDP

The stage has STEPS steps; after the LAST of them every process fails. Prints how it ended as JSON.
"""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
from toy_stages import clip_stage, leaves, toy_stage

from clipjax.data.batches import BatchSource
from clipjax.errors import Stopped
from clipjax.parallel.distributed import initialize
from clipjax.parallel.mesh import make_mesh
from clipjax.training.checkpoints import Keeping
from clipjax.training.fit import Pace
from clipjax.training.run import open_run


class Failed(Exception):
    """The failure that was asked for."""


@dataclasses.dataclass(frozen=True)
class FailingAfter:
    """Batches that come to a bad end."""

    source: BatchSource
    last: int

    @property
    def batch_size(self):
        return self.source.batch_size

    @property
    def fingerprint(self):
        return self.source.fingerprint

    def batches(self, first_step=0, **place):
        for step, batch in enumerate(self.source.batches(first_step, **place), first_step):
            if step == self.last:
                raise Failed
            yield batch


def train(folder: Path, kind: str, steps: int, last: int, *, fsdp: int = 1) -> dict:
    """Open the run, train, and say how it ended."""
    mesh = make_mesh(fsdp=fsdp)
    stage = clip_stage(mesh, steps) if kind == "clip" else toy_stage(steps)
    stage = dataclasses.replace(stage, batches=FailingAfter(stage.batches, last))
    keeping = Keeping(every=3, best=1)
    run = open_run(folder, {"what": kind}, mesh=mesh, keeping=keeping, pace=Pace(log_every=1))
    once = run.once("work", lambda: {"made_by": np.array(jax.process_count())}, depends="nothing")
    try:
        fitted = run.fit(stage)
    except Failed:
        return {"end": "failed", "made_by": int(once["made_by"])}
    except Stopped as stopped:
        return {"end": str(stopped)}
    # as methods use them: arrays of this process, whole
    total = sum(float(np.sum(leaf)) for leaf in leaves(fitted).values())
    return {"end": "done", "total": total, "made_by": int(once["made_by"])}


if __name__ == "__main__":
    address, processes, process, folder, kind, steps, last, fsdp = sys.argv[1:]
    jax.config.update("jax_num_cpu_devices", 2)
    initialize(address, int(processes), int(process), timeout_seconds=120)
    print("\n" + json.dumps(train(Path(folder), kind, int(steps), int(last), fsdp=int(fsdp))), flush=True)
