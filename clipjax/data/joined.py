"""Several sources of images as one, in order."""

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipjax.data.source import ImageSource, ImageStore


@dataclass(frozen=True)
class JoinedStore(ImageStore):
    """The images of several sources; an image's position counts on through all of them."""

    sources: tuple[ImageSource, ...]
    starts: tuple[int, ...]

    def read(self, position: int) -> bytes:
        part = bisect.bisect_right(self.starts, position) - 1
        return self.sources[part].read(position - self.starts[part])


def joined(name: str, sources: Sequence[ImageSource]) -> ImageSource:
    """Put the images of several sources one after the other; columns that not all have are left out."""
    parts = tuple(sources)
    lengths = [len(part) for part in parts]
    together = lambda columns: list(itertools.chain.from_iterable(columns))
    common = set.intersection(*(set(part.columns) for part in parts))
    return ImageSource(
        name=name,
        store=JoinedStore(parts, tuple(np.cumsum([0, *lengths[:-1]]).tolist())),
        positions=np.arange(sum(lengths)),
        ids=together(part.ids for part in parts),
        labels=np.concatenate([part.labels for part in parts]),
        classnames=together(part.classnames for part in parts),
        splits=together(part.splits for part in parts),
        sizes=np.concatenate([part.sizes for part in parts]),
        stamps=np.concatenate([part.stamps for part in parts]),
        columns={column: together(part.columns[column] for part in parts) for column in sorted(common)},
    )
