"""A run: what a method needs around it, a directory, a mesh, checkpoints, metrics, and memory of work done.

A method calls `run.fit(stage)` once for each stage and `run.once(name, fn)` for the work between
them. Both are stored under a fingerprint of what they depend on: a restart does not repeat
them, and does not reuse them when something they depend on has changed.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from clipjax.data.embedding_cache import EmbeddingCache
from clipjax.data.source import ImageSource
from clipjax.data.views import Transform
from clipjax.data.worker_processes import with_workers
from clipjax.errors import ConfigError, OutputError
from clipjax.outputs import check_free, new_file
from clipjax.parallel.agreement import everywhere, meet
from clipjax.progress import Progress, silent
from clipjax.training.checkpoints import Keeping, StaleCheckpoint
from clipjax.training.fit import Fitted, Pace, fit
from clipjax.training.metrics import JsonLines, Sink
from clipjax.training.stage import Stage

_NOTE = "run.json"

logger = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Run:
    """Where and how a method runs. Without a `folder` nothing is stored and nothing resumed.

    `workers` processes prepare the batches of stages that train on images; by default threads do.
    """

    folder: Path | None = None
    mesh: Mesh | None = None
    keeping: Keeping = Keeping()
    pace: Pace = Pace()
    sinks: Sequence[Sink] = ()
    progress: Progress = silent
    workers: int = 0

    def __post_init__(self):
        if self.workers < 0:
            raise ConfigError(f"workers={self.workers}; give the number of worker processes, or 0 for none")

    def fit(self, stage: Stage) -> Fitted:
        """Run a stage, go on with it, or read what it ended with (see `training.fit`).

        Checkpoints of the same stage with other inputs, from before something changed, are set aside.
        """
        stage = dataclasses.replace(stage, batches=with_workers(stage.batches, self.workers))
        sinks = list(self.sinks)
        folder = None
        if self.folder is not None:
            sinks.append(JsonLines(self.folder / "metrics.jsonl"))
            folder = self.folder / "stages" / stage.name
        start = functools.partial(
            fit, mesh=self.mesh, keeping=self.keeping, pace=self.pace, sinks=sinks, progress=self.progress
        )
        try:
            return start(stage, folder=folder)
        except StaleCheckpoint:
            pass
        if jax.process_index() == 0 and folder is not None:
            aside = _set_aside(folder)
            logger.warning("%s: what this stage depends on has changed; it starts anew (before: %s)", folder, aside)
        meet()
        return start(stage, folder=folder)

    def once(self, name: str, compute: Callable[[], Mapping[str, Any]], *, depends: Any) -> Arrays:
        """Return `compute()`'s arrays, from the run's directory if they were computed before.

        `depends` is anything with a faithful `repr` that names all the result depends on.

        Raises:
          OutputError: the result cannot be written.
        """
        key = hashlib.sha256(repr(depends).encode()).hexdigest()
        if self.folder is None:
            return _arrays(compute())
        path = self.folder / "once" / f"{name}.npz"
        known = _read(path, key)
        if everywhere(known is not None):
            return known or {}
        result = _arrays(compute())
        if jax.process_index() == 0:
            with new_file(path, overwrite=True) as staged, staged.open("wb") as file:
                np.savez(file, **result, _key=np.array(key))  # pyright: ignore[reportArgumentType]
        return result

    def embed(
        self,
        source: ImageSource,
        encode: Callable[[Any], Any],
        transform: Transform,
        *,
        weights: str,
        views: int | None = None,
        seed: int = 0,
        batch_size: int = 64,
    ) -> Float[np.ndarray, "images *views dim"]:
        """Embed all images of a source with a frozen tower, once (see `EmbeddingCache.embed`).

        Methods read this in place of pixels; another stage, or the run started again, finds it in the directory.

        Raises:
          DataError: an image cannot be decoded.
          OutputError: the embeddings cannot be stored.
        """
        with contextlib.ExitStack() as stack:
            folder = None if self.folder is None else self.folder / "embeddings"
            cache = EmbeddingCache(folder or stack.enter_context(tempfile.TemporaryDirectory()))
            return cache.embed(
                source,
                encode,
                transform,
                weights=weights,
                views=views,
                seed=seed,
                batch_size=batch_size,
                progress=self.progress,
            )


def open_run(
    path: str | os.PathLike,
    identity: Mapping[str, Any],
    *,
    overwrite: bool = False,
    made_from: Sequence[str | os.PathLike] = (),
    **options: Any,
) -> Run:
    """Make a run's directory, or go on in one that holds the same run.

    Args:
      identity: plain values that say what the run is: method, configuration, weights, images.
      overwrite: replace another run. The same one goes on even then, so that a scheduler may repeat a command.
      made_from: what the run reads, which is never removed with an old run.

    Raises:
      OutputError: the directory holds another run or something else; the message says what differs.
    """
    if "://" in os.fspath(path):
        raise OutputError(f"{path}: is not a path; mount the bucket (Cloud Storage FUSE) and give where it is mounted")
    folder = Path(path)
    wanted = json.loads(json.dumps(dict(identity), default=str))
    if jax.process_index() == 0:
        try:
            _claim(folder, wanted, overwrite=overwrite, made_from=made_from)
        finally:
            meet()
    else:
        meet()
        _claim(folder, wanted, overwrite=False, made_from=())
    return Run(folder=folder, **options)


def _claim(folder: Path, wanted: dict[str, Any], *, overwrite: bool, made_from: Sequence[str | os.PathLike]) -> None:
    note = folder / _NOTE
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; choose another directory")
    if overwrite and note.is_file() and not _is(note, wanted):
        check_free(folder, "directory", overwrite=True, made_from=made_from)
        _remove(folder)
    if note.is_file():
        _compare(folder, _identity(note), wanted)
    elif folder.exists() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise OutputError(f"{folder}: is not empty and holds no run of clipjax; choose another directory")
    else:
        with new_file(note) as staged:
            staged.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")


def _identity(note: Path) -> dict[str, Any]:
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{note}: cannot be read ({error}); pass --overwrite to replace the run") from error
    return found if isinstance(found, dict) else {}


def _is(note: Path, wanted: dict[str, Any]) -> bool:
    try:
        return _identity(note) == wanted
    except OutputError:
        return False


def _set_aside(folder: Path) -> Path:
    numbers = itertools.count(1)
    aside = next(place for n in numbers if not (place := folder.with_name(f"{folder.name}.before-{n}")).exists())
    try:
        return folder.rename(aside)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be renamed ({error.strerror}); choose another directory") from error


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be removed ({error.strerror}); choose another directory") from error


def _compare(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    found, wanted = _leaves(found), _leaves(wanted)
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            before, now = _apart(json.dumps(found.get(name)), json.dumps(wanted.get(name)))
            raise OutputError(
                f"{folder}: holds another run ({name} was {before}, now {now}); "
                "choose another directory, or pass --overwrite to replace it"
            )


def _leaves(tree: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Name the values of nested mappings by their path, so that a difference is named as closely as can be."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= _leaves(value, f"{where}{name}.") if isinstance(value, dict) else {f"{where}{name}": value}
    return leaves


def _apart(before: str, now: str) -> tuple[str, str]:
    """Shorten two texts to where they differ."""
    same = next((i for i, (a, b) in enumerate(zip(before, now)) if a != b), min(len(before), len(now)))
    start = max(0, same - 20)
    cut = lambda text: ("..." if start else "") + text[start : start + 60] + ("..." if len(text) > start + 60 else "")
    return cut(before), cut(now)


def _arrays(result: Mapping[str, Any]) -> Arrays:
    arrays = {name: np.asarray(value) for name, value in result.items()}
    # NumPy's files know no bfloat16
    return {name: value.astype(np.float32) if value.dtype.kind == "V" else value for name, value in arrays.items()}


def _read(path: Path, key: str) -> Arrays | None:
    """Read a stored result; None when there is none, it is damaged, or it was made from something else."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            if content.zip.testzip() is not None or str(content["_key"]) != key:
                return None
            return {name: content[name] for name in content.files if name != "_key"}
    except Exception:  # zipfile and NumPy raise many kinds when a file is damaged
        return None
