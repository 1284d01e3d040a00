"""Checkpoints of a train state: written in the background, verified when read, the newest sound one wins.

Orbax does the writing, and gives a checkpoint its name when it is complete. What it does not do is
notice a flipped bit, so each checkpoint holds a list of its files with their CRCs, checked before
anything is parsed, and a checksum of every leaf as it was on the devices.
"""

import contextlib
import dataclasses
import importlib.metadata
import itertools
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from clipjax.errors import ConfigError, OutputError, TrainingError
from clipjax.outputs import check_room
from clipjax.parallel.agreement import everywhere, meet
from clipjax.training import manifest
from clipjax.training.checksums import checksums
from clipjax.training.state import TrainState

_STATE, _NOTE = "state", "note"
_PACKAGES = ("clipjax", "jax", "flax", "optax", "orbax-checkpoint", "numpy")

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Keeping:
    """How often to save, and what to keep: the `newest` checkpoints, and the `best` by a metric.

    `metric` names one of the step's metrics; smaller is better unless `larger_is_better`.
    """

    every: int = 1000
    newest: int = 2
    best: int = 0
    metric: str = "loss"
    larger_is_better: bool = False

    def __post_init__(self):
        for field, least in (("every", 1), ("newest", 1), ("best", 0)):
            if getattr(self, field) < least:
                raise ConfigError(f"checkpoints: {field}={getattr(self, field)}; it must be at least {least}")


class StaleCheckpoint(TrainingError):
    """A checkpoint of another stage, or of this one before something it depends on changed."""


class Checkpoints:
    """The checkpoints of one stage in one folder."""

    def __init__(self, folder: Path, keeping: Keeping):
        import orbax.checkpoint as ocp

        self.folder, self.keeping = folder, keeping
        managers = ocp.checkpoint_managers
        policies: list[Any] = [managers.LatestN(keeping.newest)]
        if keeping.best:
            policies.append(
                managers.BestN(get_metric_fn=self._rank, n=keeping.best, keep_checkpoints_without_metrics=False)
            )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy(policies),
            best_fn=self._rank if keeping.best else None,  # or Orbax would not store the metrics
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._list_files),
        )
        self._writing_step = 0
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._leave_out_unreadable_metrics()
            self._orbax = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, state: TrainState, note: dict[str, Any], metrics: dict[str, float]) -> None:
        """Begin to write a checkpoint, with a `note` of what it belongs to.

        Returns when the state's memory may be reused; the files are written in the background.

        Raises:
          OutputError: this checkpoint, or the one before, cannot be written.
          ConfigError: there is no metric by which to keep the best.
        """
        import orbax.checkpoint as ocp

        step = int(state.step)
        if step in self._orbax.all_steps():
            return
        if self.keeping.best and self.keeping.metric not in metrics:
            known = ", ".join(metrics)
            raise ConfigError(f"no metric {self.keeping.metric!r} to keep the best checkpoints by; there are {known}")
        content = _as_dict(state)
        check_room(self.folder, sum(leaf.nbytes for leaf in jax.tree.leaves(content)))
        note = {**note, "versions": _versions(), "checksums": checksums(content)}
        arguments = {_STATE: ocp.args.StandardSave(content), _NOTE: ocp.args.JsonSave(note)}  # pyright: ignore[reportCallIssue]
        self.wait()  # `_list_files` asks for the number of the one being written
        self._writing_step = step
        with _writing(self.folder):
            self._orbax.save(step, args=ocp.args.Composite(**arguments), metrics=metrics, force=True)

    def restore(self, like: TrainState, wanted: dict[str, Any]) -> TrainState | None:
        """Read the newest checkpoint that is sound, laid out as `like` (shapes with shardings).

        Unsound ones are set aside and reported through `logging`. None if there is no sound one.

        Raises:
          StaleCheckpoint: the newest sound one's note differs from `wanted`: it is of another stage.
          TrainingError: it is whole, and yet Orbax cannot read it.
        """
        for step in sorted(self._orbax.all_steps(), reverse=True):
            found = manifest.damage(self._place(step), share=jax.process_index(), shares=jax.process_count())
            if everywhere(found is None):
                content, note = self._read(step, like, wanted)
                found = _difference(checksums(content), note["checksums"])
                if found is None:
                    return TrainState(**content)
            self._set_aside(step, found or "as another process sees it")
            self._orbax.reload()
        return None

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
          OutputError: something could not be.
        """
        with _writing(self.folder):
            self._orbax.wait_until_finished()

    def close(self) -> None:
        """Finish writing and let go of the threads."""
        with _writing(self.folder):
            self._orbax.close()

    def _rank(self, metrics: Any) -> float:
        value = metrics[self.keeping.metric]
        return -math.inf if math.isnan(value) else value if self.keeping.larger_is_better else -value

    def _place(self, step: int) -> Path:
        return self.folder / str(step)

    def _leave_out_unreadable_metrics(self) -> None:
        """Set aside checkpoints that Orbax would stumble over when it ranks all of them."""
        for place in sorted(self.folder.iterdir()) if self.keeping.best else ():
            if place.name.isdigit():
                found = manifest.damage(place, below="metrics/")
                if not everywhere(found is None):
                    self._set_aside(int(place.name), found or "as another process sees it")

    def _list_files(self) -> None:
        """Complete a checkpoint that Orbax has written and is about to give its name."""
        for place in self.folder.glob(f"{self._writing_step}.*"):
            manifest.write(place, without=["_CHECKPOINT_METADATA"])

    def _read(self, step: int, like: TrainState, wanted: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        import orbax.checkpoint as ocp

        try:
            arguments = {_NOTE: ocp.args.JsonRestore()}
            note = self._orbax.restore(step, args=ocp.args.Composite(**arguments))[_NOTE]
            for name, value in wanted.items():
                if note.get(name) != value:
                    raise StaleCheckpoint(
                        f"{self._place(step)}: is a checkpoint of another stage ({name} differs); "
                        "use another directory, or pass --overwrite to start anew"
                    )
            arguments = {_STATE: ocp.args.StandardRestore(_as_dict(like))}  # pyright: ignore[reportCallIssue]
            return self._orbax.restore(step, args=ocp.args.Composite(**arguments))[_STATE], note
        except StaleCheckpoint:
            raise
        except Exception as error:  # Orbax and TensorStore raise many kinds, none of them documented
            raise TrainingError(
                f"{self._place(step)}: its files are whole but cannot be restored ({_first_line(error)}); "
                "use the versions it was written with, or remove it to go on from the one before"
            ) from error

    def _set_aside(self, step: int, reason: str) -> None:
        """Rename a damaged checkpoint, so that it is neither found again nor lost."""
        place, name = self._place(step), f"damaged-{self.folder.name}-{step}"
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(1)))
        aside = next(path for path in map(self.folder.with_name, names) if not path.exists())
        logger.warning("%s: is damaged (%s); set aside as %s, going on from the one before", place, reason, aside.name)
        meet()  # all have found the same free name
        if jax.process_index() == 0:
            with _writing(place):
                place.rename(aside)
        meet()


def _difference(found: dict[str, int], noted: dict[str, int]) -> str | None:
    different = sorted(name for name in found.keys() | noted.keys() if found.get(name) != noted.get(name))
    return f"the checksum of {different[0]} differs" if different else None


def _versions() -> dict[str, str]:
    installed = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def _as_dict(state: TrainState) -> dict[str, Any]:
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise OutputError(
            f"{folder}: a checkpoint cannot be written ({_first_line(error)}); free some space or choose another place"
        ) from error
