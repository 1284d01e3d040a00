"""Seeded chance for the procedural world: one stream of draws for each (seed, position)."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np

T = TypeVar("T")

_BLOCK = 64


class Dice:
    """Throws named after what they decide, all from one generator."""

    def __init__(self, generator: np.random.Generator):
        """Take the generator that every throw comes from."""
        self.generator = generator
        self._uniform = _uniforms(generator).__next__

    def chance(self, probability: float) -> bool:
        """Say yes with the given probability."""
        return self._uniform() < probability

    def between(self, low: float, high: float) -> float:
        """Throw a number, uniformly."""
        return low + (high - low) * self._uniform()

    def pick(self, choices: Sequence[T]) -> T:
        """Take one of several, each as likely as the next."""
        return choices[int(self._uniform() * len(choices))]

    def weigh(self, choices: Sequence[tuple[T, float]]) -> T:
        """Take one of several (choice, weight) pairs."""
        bounds = list(accumulate(weight for _, weight in choices))
        throw = self._uniform() * bounds[-1]
        return next((choice for (choice, _), bound in zip(choices, bounds) if throw < bound), choices[-1][0])


def dice_for(seed: int, position: int, stream: int = 0) -> Dice:
    """Give the dice of one position of one world; streams of the same position are independent."""
    key = np.array([seed, position], np.uint64)
    counter = np.array([0, 0, 0, stream], np.uint64)
    return Dice(np.random.Generator(np.random.Philox(key=key, counter=counter)))


def _uniforms(generator: np.random.Generator) -> Iterator[float]:
    # one call per number costs more than the number: draw in blocks
    while True:
        yield from generator.random(_BLOCK).tolist()
