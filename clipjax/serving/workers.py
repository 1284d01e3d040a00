"""Answer images in batches: a thread for each device computes what waits, in one of a few compiled sizes.

Nothing here knows of HTTP.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from clipjax.classify.arrays import arrays_of, with_arrays
from clipjax.classify.classifier import Classifier
from clipjax.classify.embed import normalised
from clipjax.classify.ensemble import Ensemble


class Answer(NamedTuple):
    """What a classifier says of one image; an embedding (projected, not normalised) where it has one."""

    scores: Float[np.ndarray, " classes"]
    embedding: Float[np.ndarray, " dim"] | None


class Busy(Exception):
    """As many images are waiting as may wait."""


class _Over(Exception):
    """The service closes."""


class Workers:
    """Threads, one for each device, that answer images in the order in which they come.

    A batch is computed when it is full, or `patience` seconds after its first image. While all devices are at work
    their next batches gather. `seconds` are those that each compiled size takes. `most_waiting` images may wait.
    """

    def __init__(
        self,
        classifier: Classifier | Ensemble,
        *,
        batch_size: int = 64,
        patience: float = 0.002,
        most_waiting: int = 1024,
        devices: Sequence[Any] | None = None,
    ):
        self.classifier, self.patience = classifier, patience
        self.sizes = batch_sizes(batch_size)
        self.devices = list(devices or jax.local_devices())
        self._waiting: queue.Queue[tuple[np.ndarray, Future] | None] = queue.Queue()
        self._most_waiting, self._free, self._lock = most_waiting, 0, threading.Lock()
        self._program = jax.jit(lambda arrays, pixels: _answers(with_arrays(classifier, arrays), pixels))
        arrays = arrays_of(classifier)
        placed = [jax.device_put(arrays, device) for device in self.devices]
        side = classifier.model.config.image_size
        self.seconds: dict[int, float] = {}
        for own in placed:  # compiled before anybody waits, and how long each size takes
            for size in self.sizes:
                pixels = np.zeros((size, side, side, 3), np.uint8)
                jax.block_until_ready(self._program(own, pixels))
                taken = _seconds(self._program, own, pixels)
                self.seconds[size] = min(taken, self.seconds.get(size, taken))
        self._threads = [threading.Thread(target=self._work, args=[own], daemon=True) for own in placed]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many images wait."""
        return self._waiting.qsize()

    def submit(self, images: Sequence[UInt8[np.ndarray, "height width 3"]]) -> "list[Future[Answer]]":
        """Ask for the answers to several images, or to none of them.

        Raises:
          Busy: too many images are waiting.
        """
        answers: list[Future[Answer]] = [Future() for _ in images]
        with self._lock:
            if self._waiting.qsize() + len(images) > self._most_waiting:
                raise Busy
            for asked in zip(images, answers):
                self._waiting.put(asked)
        return answers

    def close(self) -> None:
        """Let the threads answer what waits, and end."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self, arrays: Any) -> None:
        at_work: tuple[list[Future], Any] | None = None
        held: list[tuple[np.ndarray, Future]] = []
        going_on = True
        while going_on or held or at_work is not None:
            computed = None if at_work is None else at_work[1]
            going_on = going_on and self._gather(held, computed)
            taken = self._taken(len(held))
            batch, held = held[:taken], held[taken:]
            started = self._started(arrays, batch) if batch else None
            if at_work is not None:
                _deliver(*at_work)
            at_work = started

    def _gather(self, batch: list[tuple[np.ndarray, Future]], computed: Any) -> bool:
        """Add images until the batch is full, or nobody comes and `computed`, what the device is at, is ready.

        Returns False when the work is over.
        """
        full = self.sizes[-1]
        try:
            while computed is not None and not _ready(computed) and len(batch) < full:
                # what nobody has taken is for a device that is free
                if self._free or not self._take(batch, 0.0):
                    time.sleep(self.patience)
            with self._counted_as_free():
                # what has been gathered, or computed, waits no longer
                until = None if computed is None and not batch else 0.0
                while len(batch) < full:
                    if not self._take(batch, None if until is None else max(0.0, until - time.monotonic())):
                        break
                    if len(batch) == 1:
                        until = time.monotonic() + self.patience
        except _Over:
            return False
        return True

    def _take(self, batch: list[tuple[np.ndarray, Future]], timeout: float | None) -> bool:
        """Add the next image, unless nobody waits for it any more; return False where none comes in time.

        Raises:
          _Over: there will be no more.
        """
        try:
            item = self._waiting.get(timeout=timeout)
        except queue.Empty:
            return False
        if item is None:
            raise _Over
        if item[1].set_running_or_notify_cancel():
            batch.append(item)
        return True

    @contextlib.contextmanager
    def _counted_as_free(self) -> Iterator[None]:
        with self._lock:
            self._free += 1
        try:
            yield
        finally:
            with self._lock:
                self._free -= 1

    def _taken(self, count: int) -> int:
        """Say how many of the gathered images to compute now.

        A smaller size that is full may answer more images a second than a larger one that is filled up.
        """
        if not count:
            return 0
        larger = next(size for size in self.sizes if size >= count)
        full = max(size for size in self.sizes if size <= count)
        return full if full / self.seconds[full] > count / self.seconds[larger] else count

    def _started(self, arrays: Any, batch: list[tuple[np.ndarray, Future]]) -> tuple[list[Future], Any] | None:
        """Send a batch to the device, and do not wait for the result."""
        answers = [answer for _, answer in batch]
        size = next(size for size in self.sizes if size >= len(batch))
        try:
            pixels = np.stack([image for image, _ in batch] + [batch[0][0]] * (size - len(batch)))
            return answers, self._program(arrays, pixels)
        except Exception as error:  # whoever waits must hear of it, and the thread must live
            _fail(answers, error)
            return None


def batch_sizes(largest: int) -> list[int]:
    """Choose the few sizes that are compiled: powers of four up to the largest, and the largest."""
    sizes = [1]
    while sizes[-1] * 4 < largest:
        sizes.append(sizes[-1] * 4)
    return sizes if sizes[-1] == largest else [*sizes, largest]


def _answers(
    classifier: Classifier | Ensemble, pixels: UInt8[Array, "batch height width 3"]
) -> tuple[Float[Array, "batch classes"], Float[Array, "batch dim"] | None]:
    images = normalised(classifier.model, pixels)
    if type(classifier) is not Classifier:
        return classifier.scores(images), None
    features = classifier.embed(images)
    if classifier.features == "pooled":
        embeddings = classifier.model.project_image(classifier.params, features)
    else:
        embeddings = features
    return classifier.scores_of(features), jnp.asarray(embeddings, jnp.float32)


def _seconds(program: Callable, *arguments: Any) -> float:
    """Time a compiled program: the best of three calls, or of as many as two seconds allow."""
    taken: list[float] = []
    while len(taken) < 3 and sum(taken) < 2:
        start = time.perf_counter()
        jax.block_until_ready(program(*arguments))
        taken.append(time.perf_counter() - start)
    return min(taken)


def _ready(computed: Any) -> bool:
    return all(array.is_ready() for array in jax.tree.leaves(computed))


def _deliver(answers: list[Future], computed: Any) -> None:
    try:
        scores, embeddings = jax.device_get(computed)
    except Exception as error:  # as above
        _fail(answers, error)
        return
    for place, answer in enumerate(answers):
        answer.set_result(Answer(scores[place], None if embeddings is None else embeddings[place]))


def _fail(answers: list[Future], error: Exception) -> None:
    for answer in answers:
        answer.set_exception(error)
