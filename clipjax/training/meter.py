"""How fast a stage goes: seconds, rows, the wait for data, and the share of the devices' peak rate."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from clipjax.parallel.chips import peak_flops
from clipjax.parallel.model_flops import model_flops
from clipjax.training.metrics import Entry, Sink
from clipjax.training.stage import Stage
from clipjax.training.state import TrainState
from clipjax.training.step import Program


class Meter:
    """Measures the pace between two reports, and gives them to the sinks.

    `ideal_seconds` is what a step would take at the devices' peak rate, None where that is not known.
    """

    def __init__(self, stage: Stage, sinks: Sequence[Sink], first: int):
        self.ideal_seconds: float | None = None
        self._stage, self._sinks = stage, sinks
        self._last_step, self._start, self._waited = first, time.perf_counter(), 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count what happens inside as waiting for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    def report(self, step: int, metrics: dict[str, Any]) -> None:
        """Give the sinks the metrics of a step with the pace since the last report; waits for the step to end."""
        values = as_numbers(metrics)
        now = time.perf_counter()
        seconds, steps = now - self._start, step - self._last_step
        values["step_seconds"] = seconds / steps
        values["rows_per_second"] = steps * self._stage.batches.batch_size / seconds
        values["wait_share"] = self._waited / seconds
        if self.ideal_seconds is not None:
            values["model_flop_utilisation"] = self.ideal_seconds * steps / seconds
        self._last_step, self._start, self._waited = step, now, 0.0
        if jax.process_index() == 0:
            for sink in self._sinks:
                sink(Entry(self._stage.name, step, self._stage.steps, values))


def ideal_seconds(program: Program, state: TrainState, frozen: Any, batch: Any) -> float | None:
    """Divide the model's operations in a step by what the devices can do at most (see `parallel.model_flops`).

    None where the devices are not in the tables, or where the objective has a gradient of its own,
    whose work cannot be told from its forward pass.
    """
    devices = program.mesh.devices.flat
    peak = peak_flops(devices[0].device_kind)
    if peak is None:
        return None
    objective = lambda trainable, *rest: program.objective(trainable, *rest)[0]
    try:
        flops = model_flops(objective, state.trainable, frozen, state.carry, batch, jax.random.key(0), state.step)
    except NotImplementedError:
        return None
    return flops / (peak * program.mesh.size)


def as_numbers(metrics: dict[str, Any]) -> dict[str, float]:
    """Fetch metrics from the devices."""
    return {name: float(value) for name, value in metrics.items()}
