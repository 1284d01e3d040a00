"""Which image each sample of a training run is: a pure function of the sample's number.

Samples are counted over the whole run, `step * batch_size + row`, so a run resumes from its step
number alone and any number of threads and processes sees the same batches. What is random about
one sample, its augmentation for one, comes from a generator of its own.
"""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int

from clipjax.data.source import UNKNOWN
from clipjax.errors import DataError

_WORD = (1 << 64) - 1
_SHUFFLE, _CLASSES, _MEMBERS, _WEIGHTED = range(1, 5)


class Sampler(Protocol):
    """Turns sample numbers, from 0 and without end, into indices of a source of `size` images."""

    @property
    def size(self) -> int:
        """The number of images of the source that the indices are meant for."""
        ...

    @property
    def fingerprint(self) -> str:
        """What the indices depend on; equal for samplers that draw the same."""
        ...

    def __call__(self, positions: Int[np.ndarray, " samples"]) -> Int[np.ndarray, " samples"]:
        """Say which image each of these samples is."""
        ...


class NumberedGenerator:
    """One generator that can be set to the beginning of the random numbers of any number.

    Philox (Salmon et al., 2011) is keyed by seed and number. Streams, below 2^64, start in
    different parts of its sequence and never meet. Setting costs a tenth of a new generator.
    """

    def __init__(self, seed: int, stream: int = 0):
        self._bits = np.random.Philox(
            key=np.array([seed & _WORD, 0], np.uint64), counter=np.array([0, 0, 0, stream], np.uint64)
        )
        self._beginning = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def at(self, number: int) -> np.random.Generator:
        """Set the generator to a number and return it; it is the same object every time."""
        self._beginning["state"]["key"][1] = number & _WORD
        self._bits.state = self._beginning
        return self._generator


def generator(seed: int, number: int, stream: int = 0) -> np.random.Generator:
    """Give the random numbers that belong to one number, of a sample or of an epoch."""
    return NumberedGenerator(seed, stream).at(number)


@dataclass(frozen=True)
class Sequential:
    """All images in their order, again and again."""

    size: int

    def __post_init__(self):
        _check_size(self.size)

    @property
    def fingerprint(self) -> str:
        """The order in words: it has no other parameter."""
        return repr(self)

    def __call__(self, positions: Int[np.ndarray, " samples"]) -> Int[np.ndarray, " samples"]:
        """Say which image each of these samples is."""
        return np.asarray(positions) % self.size


@dataclass(frozen=True)
class Shuffled:
    """All images once per epoch, in an order that is new in every epoch.

    Epochs follow each other without a gap: where the batch size does not divide the number of
    images, a batch holds the end of one epoch and the beginning of the next.
    """

    size: int
    seed: int

    def __post_init__(self):
        _check_size(self.size)

    @property
    def fingerprint(self) -> str:
        """The order in words: it follows from size and seed."""
        return repr(self)

    def __call__(self, positions: Int[np.ndarray, " samples"]) -> Int[np.ndarray, " samples"]:
        """Say which image each of these samples is."""
        epochs, places = np.divmod(np.asarray(positions), self.size)
        indices = np.empty(len(places), np.int64)
        for epoch in np.unique(epochs):
            there = epochs == epoch
            indices[there] = _epoch_order(self.size, self.seed, int(epoch))[places[there]]
        return indices


@dataclass(frozen=True, eq=False)
class ClassBalanced:
    """Every class equally often, and within a class every image equally often.

    Each round takes one image of every class, the classes in random order. The images of a class
    come in random order and all of them before the first comes again. Images of unknown class
    are never drawn.
    """

    labels: Int[np.ndarray, " images"]
    seed: int
    classnames: Sequence[str] = ()

    def __post_init__(self):
        """Check that every class has an image.

        Raises:
          DataError: one of `classnames` has none, or no image has a class.
        """
        object.__setattr__(self, "labels", np.asarray(self.labels, np.int64))
        if not len(self._members):
            raise DataError(f"not one of {self.size} images has a class; give labels or draw without them")
        present = set(self._classes.tolist())
        absent = [name for label, name in enumerate(self.classnames) if label not in present]
        if absent:
            also = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
            raise DataError(f"class {absent[0]!r}{also} has no image; add one, or leave the class out")

    @property
    def size(self) -> int:
        """The number of images, those of unknown class included."""
        return len(self.labels)

    @functools.cached_property
    def fingerprint(self) -> str:
        """The draw in words, with a digest of the labels."""
        return f"ClassBalanced(labels={_digest(self.labels)}, seed={self.seed})"

    def __call__(self, positions: Int[np.ndarray, " samples"]) -> Int[np.ndarray, " samples"]:
        """Say which image each of these samples is."""
        classes = len(self._members)
        indices = []
        for turn, place in zip(*(part.tolist() for part in np.divmod(np.asarray(positions), classes))):
            chosen = int(_class_order(classes, self.seed, turn, _CLASSES, 0)[place])
            members = self._members[chosen]
            cycle, nth = divmod(turn, len(members))
            indices.append(members[_class_order(len(members), self.seed, cycle, _MEMBERS, chosen)[nth]])
        return np.array(indices, np.int64)

    @functools.cached_property
    def _classes(self) -> Int[np.ndarray, " classes"]:
        return np.unique(self.labels[self.labels != UNKNOWN])

    @functools.cached_property
    def _members(self) -> list[Int[np.ndarray, " members"]]:
        order = np.argsort(self.labels, kind="stable")
        starts = np.searchsorted(self.labels[order], self._classes)
        # what comes before the first class is of unknown class
        return np.split(order, starts)[1:]


@dataclass(frozen=True, eq=False)
class Weighted:
    """Each sample an independent draw, an image as likely as its weight says."""

    weights: Float[np.ndarray, " images"]
    seed: int

    def __post_init__(self):
        """Check the weights.

        Raises:
          DataError: a weight is negative or not finite, or none is positive.
        """
        object.__setattr__(self, "weights", np.asarray(self.weights, np.float64))
        wrong = np.flatnonzero(~(np.isfinite(self.weights) & (self.weights >= 0)))
        if wrong.size:
            raise DataError(f"image {wrong[0]} has weight {self.weights[wrong[0]]}; weights are finite, 0 or more")
        if not self.weights.sum() > 0:
            raise DataError(f"not one of {self.size} images has a weight above 0; give one to those to draw")

    @property
    def size(self) -> int:
        """The number of images, those of weight 0 included."""
        return len(self.weights)

    @functools.cached_property
    def fingerprint(self) -> str:
        """The draw in words, with a digest of the weights."""
        return f"Weighted(weights={_digest(self.weights)}, seed={self.seed})"

    def __call__(self, positions: Int[np.ndarray, " samples"]) -> Int[np.ndarray, " samples"]:
        """Say which image each of these samples is."""
        numbered = NumberedGenerator(self.seed, _WEIGHTED)
        draws = [numbered.at(int(position)).random() for position in positions]
        return np.searchsorted(self._cumulative, draws, side="right")

    @functools.cached_property
    def _cumulative(self) -> Float[np.ndarray, " images"]:
        total = np.cumsum(self.weights)
        total /= total[-1]
        # a draw just below 1 must not land on images of weight 0 at the end
        total[np.flatnonzero(self.weights)[-1] :] = 1
        return total


# Two epochs of a few data sets at a time: these can be large.
@functools.lru_cache(maxsize=8)
def _epoch_order(size: int, seed: int, epoch: int) -> Int[np.ndarray, " size"]:
    return _permutation(size, generator(seed, epoch, _SHUFFLE))


# Together as large as the data set, as long as there are fewer classes than this.
@functools.lru_cache(maxsize=4096)
def _class_order(size: int, seed: int, turn: int, stream: int, label: int) -> Int[np.ndarray, " size"]:
    return _permutation(size, generator(seed, turn, stream + (label << 8)))


def _permutation(size: int, rng: np.random.Generator) -> Int[np.ndarray, " size"]:
    order = np.arange(size, dtype=np.int32 if size <= np.iinfo(np.int32).max else np.int64)
    rng.shuffle(order)
    order.flags.writeable = False
    return order


def _digest(array: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).hexdigest()


def _check_size(size: int) -> None:
    if size < 1:
        raise DataError("no images to draw from; give a source that has some")
