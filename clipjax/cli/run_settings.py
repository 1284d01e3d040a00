"""How a run is laid out and watched: mesh, checkpoints, logging; shared by `clipjax adapt` and `clipjax train`."""

import dataclasses
import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """`data` times `fsdp` is the mesh, all devices as `data` by default; `..._every` count steps.

    `workers` processes prepare images; 0 is one thread per core.
    """

    data: int | None = None
    fsdp: int = 1
    checkpoint_every: int = 1000
    keep: int = 2
    keep_best: int = 0
    best_metric: str = "loss"
    log_every: int = 50
    patience: int = 10
    tensorboard: bool = False
    workers: int = 0


def run_options(settings: RunSettings, folder: "Path") -> dict[str, Any]:
    """Make the fields of a `training.run.Run`, apart from its folder."""
    from clipjax.cli.console import progress
    from clipjax.parallel.mesh import make_mesh
    from clipjax.training.checkpoints import Keeping
    from clipjax.training.fit import Pace
    from clipjax.training.metrics import TensorBoard, log_line

    s = settings
    sinks: list[Any] = [log_line]
    if s.tensorboard:
        sinks.append(TensorBoard(folder / "tensorboard"))
    return {
        "mesh": make_mesh(data=s.data, fsdp=s.fsdp),
        "keeping": Keeping(every=s.checkpoint_every, newest=s.keep, best=s.keep_best, metric=s.best_metric),
        "pace": Pace(log_every=s.log_every, patience=s.patience),
        "sinks": tuple(sinks),
        "progress": progress,
        "workers": s.workers,
    }


def log_to_stderr(level: int = logging.INFO) -> None:
    """Show clipjax's own log, and of other libraries' only errors."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("clipjax")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
    for name in ("absl", "orbax"):
        logging.getLogger(name).setLevel(logging.ERROR)
