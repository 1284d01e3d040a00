"""Run a stage to its end: feed batches, keep the device busy, save, report, stop when asked to."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from clipjax.errors import ConfigError, Diverged, Stopped
from clipjax.parallel.mesh import check_batch, make_mesh, put_rows, replicated
from clipjax.parallel.rules import shardings
from clipjax.progress import Progress, silent
from clipjax.training.checkpoints import Checkpoints, Keeping
from clipjax.training.checksums import digest
from clipjax.training.meter import Meter, as_numbers, ideal_seconds
from clipjax.training.metrics import JsonLines, Sink
from clipjax.training.signals import stop_request
from clipjax.training.stage import Stage
from clipjax.training.state import TrainState, initial_state
from clipjax.training.step import Program, train_step

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a stage ends with. `average` is None unless its optimiser keeps one.

    The arrays lie on the mesh; among several processes each has whole ones of its own.
    """

    trainable: Any
    carry: Any
    average: Any
    steps: int
    skipped: int

    @property
    def learned(self) -> Any:
        """What a method uses: the average where there is one, else what training ended with."""
        return self.trainable if self.average is None else self.average


@dataclasses.dataclass(frozen=True)
class Pace:
    """How a run is watched: an entry every `log_every` steps; `patience` bad steps in a row end it."""

    log_every: int = 50
    patience: int = 10

    def __post_init__(self):
        for field in ("log_every", "patience"):
            if getattr(self, field) < 1:
                raise ConfigError(f"{field}={getattr(self, field)}; it must be at least 1")


def fit(
    stage: Stage,
    *,
    mesh: Mesh | None = None,
    folder: Path | None = None,
    keeping: Keeping = Keeping(),
    pace: Pace = Pace(),
    sinks: Sequence[Sink] = (),
    progress: Progress = silent,
) -> Fitted:
    """Minimise a stage's objective.

    With a `folder`, checkpoints go there; a stage that is found half done goes on where it
    was, to the same bits on the same machine, and one that is found done is only read. The
    device works on one step while the next batch is fetched.

    Raises:
      Stopped: SIGTERM or Ctrl-C came; the state is saved, if there is a `folder`.
      Diverged: too many steps in a row without finite numbers.
      TrainingError: a `folder` of another stage.
      ConfigError: the mesh does not divide the batch or a parameter.
      DataError: the batches cannot be made.
    """
    mesh = make_mesh() if mesh is None else mesh
    check_batch(mesh, stage.batches.batch_size)
    program = Program.of(stage, mesh)
    state = initial(stage)
    state = _placed(state, program.layout(state))
    frozen = jax.device_put(stage.frozen, shardings(mesh, stage.frozen, stage.rules))
    note = {"stage": stage.name, "fingerprint": fingerprint(stage)}
    with contextlib.ExitStack() as stack:
        checkpoints = None
        if folder is not None:
            checkpoints = Checkpoints(folder, keeping)
            stack.callback(checkpoints.close)
            restored = checkpoints.restore(_shapes(state), note)
            if restored is not None:
                state = restored
                logger.info("%s: going on from step %d of %d", stage.name, int(state.step), stage.steps)
            _forget(sinks, stage.name, int(state.step))
        save = _saver(checkpoints, note)
        state = _run(stage, program, state, frozen, save, keeping.every, pace, sinks, progress)
        if checkpoints is not None:
            checkpoints.wait()
    trainable, carry, average = _own(mesh, (state.trainable, state.carry, state.average))
    return Fitted(trainable, carry, average, int(state.step), int(state.skipped))


def initial(stage: Stage) -> TrainState:
    """Build the state that a stage starts from."""
    optimizer = stage.optimizer.init(stage.trainable)
    return initial_state(
        stage.trainable, optimizer, stage.carry, averaged=stage.optimizer.ema is not None, seed=stage.seed
    )


def fingerprint(stage: Stage) -> str:
    """Digest all that a stage's result depends on: its program, its numbers, its data, its initial state."""
    s = stage
    program = [_described(part) for part in (s.objective, s.optimizer, s.after_update, s.until)]
    parts = (s.name, *program, s.steps, s.batches.fingerprint, s.seed, s.origin)
    trainable = s.trainable if s.origin is None else {}
    return digest({"inputs": (trainable, s.frozen, s.carry), "parts": _text(repr(parts))})


Save = Callable[[TrainState, dict[str, float]], None]


def _run(
    stage: Stage,
    program: Program,
    state: TrainState,
    frozen: Any,
    save: Save,
    save_every: int,
    pace: Pace,
    sinks: Sequence[Sink],
    progress: Progress,
) -> TrainState:
    first = int(state.step)
    if first >= stage.steps or stage.ended(state.carry):
        return state
    numbers = stage.optimizer.numbers(stage.steps)
    batches = stage.batches.batches(first, process=jax.process_index(), processes=jax.process_count())
    meter = Meter(stage, sinks, first)
    pending: dict[str, Any] | None = None
    with contextlib.closing(cast(Generator, batches)), stop_request() as stop:
        for step in progress(range(first, stage.steps), total=stage.steps - first, label=stage.name, unit="steps"):
            with meter.waiting():
                batch = put_rows(program.mesh, next(batches))
            if step == first:
                meter.ideal_seconds = ideal_seconds(program, state, frozen, batch)
            state, metrics = train_step(program, state, frozen, batch, numbers)
            # one step stays in flight: this waits for the one before, whose numbers tell whether to go on
            _check(stage, pending, pace)
            pending = metrics
            done = step + 1
            last = done == stage.steps or stage.ended(state.carry)
            if done % pace.log_every == 0 or last:
                meter.report(done, metrics)
            stopping = stop.reached()
            if done % save_every == 0 or last or stopping:
                _check(stage, metrics, pace)
                save(state, as_numbers(metrics))
            if stopping:
                then = "nothing was kept" if save is _keep_nothing else "start it again to go on"
                raise Stopped(f"{stage.name}: stopped at step {done} of {stage.steps}; {then}")
            if last:
                break
        _check(stage, pending, pace)
    return state


def _check(stage: Stage, metrics: dict[str, Any] | None, pace: Pace) -> None:
    if metrics is not None and int(metrics["skipped_in_row"]) >= pace.patience:
        raise Diverged(
            f"{stage.name}: {pace.patience} steps in a row gave no finite loss and gradient; "
            "lower optimizer.lr, set optimizer.clip_norm, or look for NaN in the data"
        )


def _keep_nothing(state: TrainState, metrics: dict[str, float]) -> None:
    pass


def _saver(checkpoints: Checkpoints | None, note: dict[str, Any]) -> Save:
    if checkpoints is None:
        return _keep_nothing
    return lambda state, metrics: checkpoints.save(state, note, metrics)


def _forget(sinks: Sequence[Sink], stage: str, after: int) -> None:
    for sink in sinks:
        if isinstance(sink, JsonLines) and jax.process_index() == 0:
            sink.forget(stage, after)


def _placed(tree: Any, target: Any) -> Any:
    """Copy a tree to its place on the mesh. A copy, since steps reuse the memory and the originals are the caller's."""
    return jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=target)(jax.device_put(tree, target))


def _own(mesh: Mesh, tree: Any) -> Any:
    """Give each of several processes whole arrays on a device of its own, for what a method computes by itself."""
    if jax.process_count() == 1:
        return tree
    whole = jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree)
    return jax.tree.map(lambda x: x.addressable_data(0), whole)


def _described(part: Any) -> str:
    """Write what a part of a program does: the same in every process, on every mesh."""
    if dataclasses.is_dataclass(part):
        fields = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
        inside = [f"{name}={_described(v)}" for name, v in fields.items() if not isinstance(v, Mesh)]
        return f"{type(part).__qualname__}({', '.join(inside)})"
    if callable(part):
        return f"{part.__module__}.{getattr(part, '__qualname__', type(part).__qualname__)}"
    return repr(part)


def _shapes(state: TrainState) -> TrainState:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def _text(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)
