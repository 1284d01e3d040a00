"""Where a run's numbers go: JSON lines, the log, TensorBoard. A sink is any function of an `Entry`."""

import atexit
import dataclasses
import importlib.util
import json
import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clipjax.errors import ConfigError, OutputError

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Entry:
    """The numbers of one stage at one step.

    `values` are the objective's metrics and the engine's: `loss`, `gradient_norm`,
    `learning_rate`, `skipped`, and, averaged since the entry before, `step_seconds`,
    `rows_per_second`, `wait_share` (of the time, spent waiting for data) and, where the devices' peak
    rate is known, `model_flop_utilisation` (the share of it, recomputation not counted).
    """

    stage: str
    step: int
    steps: int
    values: dict[str, float]

    @property
    def seconds_left(self) -> float:
        """The time to the stage's end at the present rate."""
        return (self.steps - self.step) * self.values.get("step_seconds", math.nan)


Sink = Callable[[Entry], None]


class JsonLines:
    """Append each entry to a file as one line of JSON."""

    def __init__(self, path: Path):
        self.path = path

    def __call__(self, entry: Entry) -> None:
        # JSON has no NaN
        values = {name: value if math.isfinite(value) else None for name, value in entry.values.items()}
        line = json.dumps({"stage": entry.stage, "step": entry.step, **values}) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror}); free some space") from error

    def forget(self, stage: str, after: int) -> None:
        """Drop the entries of a stage past a step: the run goes on from an earlier checkpoint and repeats them."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # half a line, written when the run was killed
                continue
            if entry.get("stage") != stage or entry.get("step", 0) <= after:
                kept.append(line + "\n")
        part = self.path.with_name(self.path.name + ".part")
        part.write_text("".join(kept), encoding="utf-8")
        part.replace(self.path)


def log_line(entry: Entry) -> None:
    """Write an entry to the `logging` log on one line."""
    values = entry.values
    parts = [f"{entry.stage} {entry.step}/{entry.steps}", f"loss {values['loss']:.4f}"]
    parts.append(f"lr {values['learning_rate']:.2e}")
    if "rows_per_second" in values:
        parts.append(f"{values['rows_per_second']:,.0f} rows/s")
        parts.append(f"waiting {values['wait_share']:.0%}")
        if "model_flop_utilisation" in values:
            parts.append(f"{values['model_flop_utilisation']:.0%} of peak")
        minutes, seconds = divmod(round(entry.seconds_left), 60)
        parts.append(f"{minutes}:{seconds:02} left")
    if values["skipped"]:
        parts.append(f"{values['skipped']:.0f} steps skipped")
    logger.info("%s", ", ".join(parts))


class TensorBoard:
    """Write each entry for TensorBoard, through tensorboardX (extra `tensorboard`)."""

    def __init__(self, folder: Path):
        if importlib.util.find_spec("tensorboardX") is None:
            raise ConfigError("TensorBoard files need tensorboardX; pip install 'clipjax[tensorboard]'")
        self._folder = folder

        self._writer: Any = None

    def _opened(self, step: int) -> Any:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]

        # a run that goes on from a checkpoint repeats steps: those that were written before are hidden
        writer = SummaryWriter(os.fspath(self._folder), purge_step=step)
        atexit.register(writer.close)  # its thread is still writing when the last entry has been given
        return writer

    def __call__(self, entry: Entry) -> None:
        if self._writer is None:
            # at the first entry, which only one of several processes gets
            self._writer = self._opened(entry.step)
        for name, value in entry.values.items():
            self._writer.add_scalar(f"{entry.stage}/{name}", value, entry.step)
        self._writer.flush()
