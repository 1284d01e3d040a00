"""Batches made of parts: so many rows from each of several sources, in fixed places."""

import contextlib
import itertools
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from clipjax.data.batches import BatchSource, digest_of
from clipjax.data.worker_processes import Made, batches_of, divisible
from clipjax.errors import DataError


@dataclass(frozen=True)
class Mixture:
    """The rows of one batch of each part; parts must hold arrays of the same names and shapes.

    The parts alternate in equal groups, as many as divide them all: 4 and 6 rows make two groups of 2 and 3.
    So the block of rows that a process has holds its share of every part, and the whole batch is the same for
    any number of processes. `workers` make whole batches, of all parts; those of the parts themselves have no say.
    """

    parts: tuple[BatchSource, ...]
    workers: int = 0

    @property
    def batch_size(self) -> int:
        """The sum of the parts' batch sizes."""
        return sum(part.batch_size for part in self.parts)

    @property
    def fingerprint(self) -> str:
        """A digest of the parts' fingerprints, in order."""
        return digest_of(order="groups in turn", parts=[part.fingerprint for part in self.parts])

    def batches(self, first_step: int = 0, *, process: int = 0, processes: int = 1) -> Iterator[dict[str, np.ndarray]]:
        """Yield this process's rows of batch `first_step` and of all that follow, without end.

        Raises:
          DataError: parts whose arrays do not fit together, or a worker has died.
        """
        return batches_of(self, first_step, process=process, processes=processes)

    def every_nth(
        self, first_step: int, every: int, *, process: int, processes: int, threads: int | None
    ) -> Iterator[Made]:
        """Yield batch `first_step` and each `every`-th that follows, with the news of each part."""
        groups = math.gcd(*(part.batch_size for part in self.parts)) // processes
        with contextlib.ExitStack() as stack:
            streams = []
            for part in self.parts:
                if divisible(part):
                    stream = part.every_nth(first_step, every, process=process, processes=processes, threads=threads)
                else:
                    stream = _others(part, first_step, every, process, processes)
                streams.append(stack.enter_context(contextlib.closing(cast(Generator, stream))))
            for made in zip(*streams):
                yield Made(_joined([batch for batch, _ in made], groups), [news for _, news in made])

    def note(self, news: list[Any]) -> None:
        """Pass each part its news."""
        for part, its_news in zip(self.parts, news):
            if divisible(part):
                part.note(its_news)


def _others(part: BatchSource, first_step: int, every: int, process: int, processes: int) -> Iterator[Made]:
    """Take each `every`-th batch of a part that cannot skip any."""
    stream = part.batches(first_step, process=process, processes=processes)
    with contextlib.closing(cast(Generator, stream)):
        for batch in itertools.islice(stream, 0, None, every):
            yield Made(batch, None)


def _joined(batches: list[dict[str, np.ndarray]], groups: int) -> dict[str, np.ndarray]:
    common = set.intersection(*map(set, batches))
    for name in common:
        shapes = {batch[name].shape[1:] for batch in batches}
        if len(shapes) > 1:
            raise DataError(f"parts of a mixture hold {name} of shapes {sorted(shapes)}; give all the same length")
    return {name: _alternated([batch[name] for batch in batches], groups) for name in sorted(common)}


def _alternated(arrays: list[np.ndarray], groups: int) -> np.ndarray:
    shape = arrays[0].shape[1:]
    return np.concatenate([array.reshape(groups, -1, *shape) for array in arrays], axis=1).reshape(-1, *shape)
