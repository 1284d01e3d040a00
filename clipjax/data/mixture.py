"""Batches made of parts: so many rows from each of several sources, in fixed places."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clipjax.data.batches import BatchSource, digest_of
from clipjax.errors import DataError


@dataclass(frozen=True)
class Mixture:
    """The rows of one batch of each part, one after the other; parts must hold arrays of the same names and shapes.

    With several processes each has its share of every part, so the rows lie otherwise than with one.
    """

    parts: tuple[BatchSource, ...]

    @property
    def batch_size(self) -> int:
        """The sum of the parts' batch sizes."""
        return sum(part.batch_size for part in self.parts)

    @property
    def fingerprint(self) -> str:
        """A digest of the parts' fingerprints, in order."""
        return digest_of(parts=[part.fingerprint for part in self.parts])

    def batches(self, first_step: int = 0, *, process: int = 0, processes: int = 1) -> Iterator[dict[str, np.ndarray]]:
        """Yield this process's rows of batch `first_step` and of all that follow, without end.

        Raises:
          DataError: parts whose arrays do not fit together.
        """
        with contextlib.ExitStack() as stack:
            streams = [part.batches(first_step, process=process, processes=processes) for part in self.parts]
            for stream in streams:
                stack.enter_context(contextlib.closing(stream))  # pyright: ignore[reportArgumentType]
            for batches in zip(*streams):
                yield _joined(batches)


def _joined(batches: tuple[dict[str, np.ndarray], ...]) -> dict[str, np.ndarray]:
    common = set.intersection(*map(set, batches))
    for name in common:
        shapes = {batch[name].shape[1:] for batch in batches}
        if len(shapes) > 1:
            raise DataError(f"parts of a mixture hold {name} of shapes {sorted(shapes)}; give all the same length")
    return {name: np.concatenate([batch[name] for batch in batches]) for name in sorted(common)}
