"""Which images a round of CoFT learns prompts from, and what is known about labels before anything is learnt."""

import dataclasses
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from clipjax.classify.problem import Problem
from clipjax.data.batches import array_digest
from clipjax.data.joined import joined
from clipjax.data.source import UNKNOWN, ImageSource
from clipjax.errors import DataError
from clipjax.methods.pseudo_labels import Predicted, surest

Labels = Literal["clean", "noisy", "ignored"]


class Known(NamedTuple):
    """What somebody says about the images: labels that are right, or proposals to check; None where nobody does."""

    certain: Int[np.ndarray, " images"] | None = None
    given: Int[np.ndarray, " images"] | None = None

    @property
    def said(self) -> Int[np.ndarray, " images"] | None:
        """The label that somebody gives each image, `UNKNOWN` where nobody does."""
        return self.certain if self.given is None else self.given

    @property
    def identity(self) -> tuple[str | None, ...]:
        """Plain values that name all of it."""
        return tuple(None if labels is None else array_digest(labels) for labels in self)


def with_shots(problem: Problem, labels: Labels) -> tuple[Problem, Known]:
    """Return the problem with its shots among the images, each image once, and what is known about these.

    Shots that are none of the images follow these.

    "clean" labels are right and "noisy" ones proposals for the shots, which then are all the images there are;
    "ignored" shots are left out.

    Raises:
      DataError: noisy labels asked for, and no shots.
    """
    shots = problem.shots
    if labels == "noisy":
        if shots is None:
            raise DataError("labels='noisy' checks the labels of images; pass them (--labels)")
        return dataclasses.replace(problem, images=shots, shots=None), Known(given=shots.labels.astype(np.int32))
    if shots is None:
        return problem, Known()
    if labels == "ignored":
        return dataclasses.replace(problem, shots=None), Known()
    label_of = dict(zip(_names(shots), shots.labels.tolist()))
    known = [label_of.pop(name, UNKNOWN) for name in _names(problem.images)]
    others = [row for row, name in enumerate(_names(shots)) if name in label_of]
    images, added = problem.images, shots.select(others)
    if others:
        images = joined(images.name, [images, added])
    certain = np.concatenate([np.array(known, np.int32), added.labels])
    return dataclasses.replace(problem, images=images, shots=None), Known(certain=certain)


def seeds(
    predicted: Predicted, known: Known, count: int
) -> tuple[Int[np.ndarray, " seeds"], Int[np.ndarray, " seeds"]]:
    """Choose the images to learn prompts from, and their labels (equation 1).

    All labels that are right are among them. Of images with proposals, those count whose proposal is the prediction.
    """
    labels = predicted.labels
    chosen, free = np.zeros(len(labels), bool), np.ones(len(labels), bool)
    if known.certain is not None:
        free = known.certain == UNKNOWN
        labels, chosen = np.where(free, labels, known.certain), ~free
    if known.given is not None:
        free = labels == known.given
    rows = np.flatnonzero(free)
    chosen[rows[surest(predicted.of(rows), count)]] = True
    if not chosen.any():
        raise DataError("not one given label is what the model says; check that labels and class names fit together")
    return np.flatnonzero(chosen), labels[chosen]


def _names(source: ImageSource) -> list[tuple[str, int, int]]:
    return list(zip(source.ids, source.sizes.tolist(), source.stamps.tolist()))
