"""Endless batches of decoded and augmented images: the same for any number of threads, workers and processes.

Which images a batch holds is the sampler's business, what is done to them the transform's; here
they are decoded in parallel and put together.
"""

import contextlib
import functools
import itertools
import logging
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Shaped

from clipjax.data.batches import array_digest, check_sizes, digest_of, local_rows, narrowed
from clipjax.data.caption_tokens import CaptionTokens
from clipjax.data.loader import BadImage, available_cores
from clipjax.data.samplers import NumberedGenerator, Sampler
from clipjax.data.source import ImageSource
from clipjax.data.views import Transform, WantedView, write_views
from clipjax.data.worker_processes import Made, batches_of
from clipjax.errors import DataError

T = TypeVar("T")

logger = logging.getLogger(__name__)

STEPS_AHEAD = 2
"""Batches that are decoded while the one in hand is used."""

MOST_REPLACEMENTS = 16
"""A sample whose image and this many replacements are all bad ends the run."""

# Grain costs 50 microseconds for each task, a small JPEG 300: several make a task.
_ROWS_PER_TASK = 8


@dataclass(frozen=True, eq=False)
class ImageBatches:
    """Decoded, augmented and normalised images with what is known about them.

    A batch holds `images` (float32), `labels` and `indices` in the source (int32), each of `columns`
    (one entry per image of the source; `labels` there replaces the source's own) and, with
    `captions`, `tokens` of one caption per image. Several named transforms give several views of
    each image, under their names in place of `images`; each draws its own random numbers, whichever
    others there are.

    With `skip_bad`, an image that cannot be decoded is replaced by the one in the same row of the next
    batch, and listed in `bad_images` by its index.

    By default one thread per core decodes. Python runs one thread at a time, which bounds small
    images: with `workers`, so many processes make whole batches in turn, each in one thread unless
    `threads` says otherwise.
    """

    source: ImageSource
    sampler: Sampler
    transform: Transform | Mapping[str, Transform]
    batch_size: int
    seed: int
    columns: Mapping[str, Shaped[np.ndarray, "images ..."]] = field(default_factory=dict)
    captions: CaptionTokens | None = None
    threads: int | None = None
    skip_bad: bool = False
    workers: int = 0
    bad_images: dict[int, BadImage] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        """Check that all parts speak of the same images.

        Raises:
          DataError: fewer images than one batch, or parts that differ in the number of images.
        """
        name, images = self.source.name, len(self.source)
        check_sizes(name, images, self.sampler, self.batch_size)
        given = {"labels": self.source.labels, **self.columns}
        object.__setattr__(self, "columns", {key: narrowed(key, name, images, given[key]) for key in given})
        if self.captions is not None and len(self.captions) != images:
            raise DataError(f"{name}: {images} images but captions for {len(self.captions)}; give captions for each")
        parts = ["indices", *self.columns, *self._views, *(["tokens"] if self.captions is not None else [])]
        twice = [part for part, count in Counter(parts).items() if count > 1]
        if twice:
            raise DataError(f"{name}: two parts of a batch would be called {twice[0]!r}; rename one")

    @property
    def fingerprint(self) -> str:
        """A digest of source, sampler, transforms, columns, captions, seed and batch size."""
        return digest_of(
            images=self.source.fingerprint,
            sampler=self.sampler.fingerprint,
            transforms={key: repr(transform) for key, transform in self._views.items()},
            columns={key: array_digest(values) for key, values in self.columns.items()},
            captions=self.captions.fingerprint if self.captions is not None else None,
            seed=self.seed,
            batch_size=self.batch_size,
        )

    def batches(
        self, first_step: int = 0, *, process: int = 0, processes: int = 1
    ) -> Iterator[dict[str, Shaped[np.ndarray, "rows ..."]]]:
        """Yield this process's rows of batch `first_step` and of all that follow, without end.

        Process p has the p-th block of rows. Batches are decoded ahead while the caller works; closing
        the iterator stops that.

        Raises:
          DataError: an image cannot be decoded and `skip_bad` is false, nearly all are bad, a worker
            has died, or the processes do not divide the batch size.
        """
        local_rows(self.batch_size, process, processes)
        return batches_of(self, first_step, process=process, processes=processes)

    def every_nth(
        self, first_step: int, every: int, *, process: int, processes: int, threads: int | None
    ) -> Iterator[Made]:
        """Yield batch `first_step` and each `every`-th that follows, with the images that were bad."""
        rows, offset = local_rows(self.batch_size, process, processes)
        wanted = threads if self.threads is None else self.threads
        return self._decoded(first_step, every, rows, offset, available_cores() if wanted is None else wanted)

    def note(self, news: list[tuple[int, BadImage]]) -> None:
        """List bad images, and warn of each that is new."""
        for index, bad in news:
            if index not in self.bad_images:
                logger.warning("left out: %s", bad.reason)
        self.bad_images.update(news)

    def _decoded(self, first_step: int, every: int, rows: int, offset: int, threads: int) -> Iterator[Made]:
        per_task = max(1, min(_ROWS_PER_TASK, rows // max(1, threads)))
        tasks = -(-rows // per_task)
        started: dict[int, dict[str, np.ndarray]] = {}
        lock = threading.Lock()

        def work(number: int) -> DataError | list[tuple[int, BadImage]]:
            # an exception that leaves a thread arrives wrapped or late: carry it as a value instead
            turn, task = divmod(number, tasks)
            with lock:
                if turn not in started:
                    started[turn] = self._empty(rows)
                batch = started[turn]
            first, end = task * per_task, min((task + 1) * per_task, rows)
            position = (first_step + turn * every) * self.batch_size + offset
            try:
                return self._fill(batch, range(first, end), position)
            except DataError as error:
                return error

        # also on Ctrl-C and when the caller stops early: drop what is still queued
        with contextlib.closing(_in_order(work, threads, STEPS_AHEAD * tasks)) as results:
            for turn in itertools.count():
                bad: list[tuple[int, BadImage]] = []
                for result in itertools.islice(results, tasks):
                    if isinstance(result, DataError):
                        raise DataError(str(result)) from result
                    bad += result
                with lock:
                    made = Made(started.pop(turn), bad)
                yield made
                del made  # or it would stay in memory while the next one is awaited

    @functools.cached_property
    def _views(self) -> dict[str, Transform]:
        return dict(self.transform) if isinstance(self.transform, Mapping) else {"images": self.transform}

    def _empty(self, rows: int) -> dict[str, np.ndarray]:
        batch: dict[str, np.ndarray] = {
            name: np.empty((rows, *view.shape), np.float32) for name, view in self._views.items()
        }
        batch |= {name: np.empty((rows, *values.shape[1:]), values.dtype) for name, values in self.columns.items()}
        batch["indices"] = np.empty(rows, np.int32)
        if self.captions is not None:
            batch["tokens"] = np.empty((rows, self.captions.tokens.shape[1]), np.int32)
        return batch

    def _fill(self, batch: dict[str, np.ndarray], rows: range, position: int) -> list[tuple[int, BadImage]]:
        """Write rows of a batch whose first row is sample number `position`; return the images that were bad."""
        bad: list[tuple[int, BadImage]] = []
        drawn = self.sampler(np.arange(position + rows.start, position + rows.stop)).tolist()
        random = {name: NumberedGenerator(self.seed, _stream(name)) for name in self._views}
        used = [self._write_views(batch, row, index, position + row, random, bad) for row, index in zip(rows, drawn)]
        here = slice(rows.start, rows.stop)
        batch["indices"][here] = used
        for name, values in self.columns.items():
            batch[name][here] = values[used]
        if self.captions is not None:
            choice = NumberedGenerator(self.seed, _stream("tokens"))
            for row, index in zip(rows, used):
                batch["tokens"][row] = self.captions.draw(index, choice.at(position + row))
        return bad

    def _write_views(
        self,
        batch: dict[str, np.ndarray],
        row: int,
        index: int,
        position: int,
        random: Mapping[str, NumberedGenerator],
        bad: list[tuple[int, BadImage]],
    ) -> int:
        """Write all views of an image, or of its replacement, and return which image it was."""
        for attempt in range(1, MOST_REPLACEMENTS + 2):
            wanted = [
                WantedView(view, random[name].at(position), batch[name][row]) for name, view in self._views.items()
            ]
            try:
                write_views(self.source.read(index), self.source.title(index), wanted)
                return index
            except DataError as error:
                if not self.skip_bad:
                    raise DataError(f"{error}; or leave such images out (--skip-bad, data.skip_bad)") from error
                bad.append((index, BadImage(self.source.ids[index], str(error))))
            index = int(self.sampler(np.array([position + attempt * self.batch_size]))[0])
        raise DataError(
            f"{self.source.name}: {len(bad)} images in a row cannot be used, the last because {bad[-1][1].reason}"
        )


def _in_order(work: Callable[[int], T], threads: int, ahead: int) -> Any:
    """Yield `work(0)`, `work(1)` and so on without end, from threads or, with none, from the caller's own."""
    if not threads:
        return (work(number) for number in itertools.count())
    import grain  # only here: it brings JAX along, which worker processes do without

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    return iter(grain.MapDataset.range(1 << 62).map(work).to_iter_dataset(options))


def _stream(name: str) -> int:
    """Give each part of a sample random numbers of its own, whatever other parts there are."""
    return zlib.crc32(name.encode())
