"""Few-shot protocols: K shots of every class, base to new classes, other domains and data sets.

A protocol draws shots, has somebody adapt to them (`adapt` takes a problem and returns a classifier), and measures.
Choosing settings is done on pseudo-new classes, which are cut out of the base ones (`pseudo_new_split`).
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from clipjax.classify.classifier import Classifier
from clipjax.classify.ensemble import Ensemble
from clipjax.classify.problem import Problem
from clipjax.data.splits import few_shot
from clipjax.errors import DataError
from clipjax.evaluation.few_shot import base_new_split, harmonic_mean
from clipjax.evaluation.measured_images import MeasuredImages
from clipjax.methods.transfer import transferred

Adapted = Classifier | Ensemble
Adapt = Callable[[Problem], Adapted]
Split = Callable[[int], tuple[Int[np.ndarray, " base"], Int[np.ndarray, " new"]]]


@dataclasses.dataclass(frozen=True)
class BaseNew:
    """Accuracies in per cent, on the classes that were adapted to and on others."""

    base: float
    new: float

    @property
    def harmonic(self) -> float:
        """Their harmonic mean."""
        return harmonic_mean(self.base, self.new)


def average(results: Sequence[BaseNew]) -> dict[str, float]:
    """Average over data sets or seeds, in both conventions.

    `harmonic_of_means` is what tables of the field hold, of both averages; `mean_of_harmonics` averages
    the harmonic means and is lower.

    Raises:
      DataError: there are no results.
    """
    if not results:
        raise DataError("no results to average")
    base, new = float(np.mean([r.base for r in results])), float(np.mean([r.new for r in results]))
    each = float(np.mean([r.harmonic for r in results]))
    return {"base": base, "new": new, "harmonic_of_means": harmonic_mean(base, new), "mean_of_harmonics": each}


def pseudo_new_split(classes: int) -> tuple[Int[np.ndarray, " base"], Int[np.ndarray, " new"]]:
    """Divide the base classes once more, to choose settings on; the real new classes are in neither half."""
    return base_new_split(base_new_split(classes)[0])


def k_shot(problem: Problem, shots: int, seed: int, adapt: Adapt) -> Adapted:
    """Adapt to `shots` images of every class, drawn from the problem's.

    Nothing but the shots is seen: they are the unlabelled images, too.

    Raises:
      DataError: a class has fewer images.
    """
    drawn = few_shot(problem.shots_of_every_class(), shots, seed)
    return adapt(dataclasses.replace(problem, shots=drawn, images=drawn))


def base_to_new(
    problem: Problem, test: MeasuredImages, shots: int, seed: int, adapt: Adapt, *, split: Split = base_new_split
) -> BaseNew:
    """Adapt to the base classes and measure each half against its own names (CoCoOp, arXiv 2203.05557).

    Of new classes the names alone are used. `test` has labels that are positions in the problem's classes.

    Raises:
      DataError: a class has too few images, or a half fewer than two classes.
      ConfigError: the method says nothing of new classes.
    """
    halves = split(len(problem.class_names))
    known, unknown = (problem.restricted_to(half) for half in halves)
    classifier = k_shot(known, shots, seed, adapt)
    moved = transferred(classifier, unknown)
    return BaseNew(*(test.accuracy(c, half) for c, half in zip((classifier, moved), halves)))


def elsewhere(classifier: Adapted, problem: Problem, test: MeasuredImages) -> float:
    """Measure on another domain or data set, in per cent; `problem` has its classes, `test` labels in them.

    Where the classifier was adapted to these classes, perhaps among others, it is used as it is (domain
    generalisation), else what was learnt is put to the other names (cross-dataset transfer).

    Raises:
      ConfigError: the method says nothing of new classes.
    """
    place = {name: position for position, name in enumerate(classifier.class_names)}
    if place.keys() >= set(problem.class_names):
        return test.accuracy(classifier, columns=[place[name] for name in problem.class_names])
    return test.accuracy(transferred(classifier, problem))
