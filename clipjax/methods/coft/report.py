"""What can be said about pseudo-labels and their acceptance without a label."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from clipjax.methods.coft.filtering import Judged

BINS = 10
"""Histograms have so many bins from 0 to 1."""


def without_labels(
    found: Sequence[Judged],
    predicted: Sequence[Int[np.ndarray, " images"]],
    classes: int,
    certain: bool = False,
) -> dict[str, Any]:
    """Say of each model's proposals how many were accepted and what was made of them; nothing here knows a label.

    `empty_classes` are those of which nothing was accepted: the head does not learn them. The histograms are of the
    validator's probabilities that the proposal, and that another class, is right. Models agree by what they `predicted`
    themselves, which need not be what was proposed: labels that were told are the same for both. Where these are
    `certain`, they count for `empty_classes` alone: nothing was to be decided about them.
    """
    judged = ~found[0].told if certain else np.ones(len(predicted[0]), bool)
    share = lambda kept: round(float(kept[judged].mean()), 4) if judged.any() else None
    accepted = [np.bincount(one.labels[one.accepted], minlength=classes) for one in found]
    said: dict[str, Any] = {
        "accepted": [share(one.accepted) for one in found],
        "empty_classes": [int((counts == 0).sum()) for counts in accepted],
        "clean_of_proposals": [_histogram(one.clean[judged]) for one in found],
        "clean_of_complements": [_histogram(one.complement[judged]) for one in found],
    }
    if len(found) > 1:
        said["models_agree"] = share(predicted[0] == predicted[1])
    return said


def _histogram(probabilities: np.ndarray) -> list[int]:
    return np.histogram(probabilities, BINS, (0.0, 1.0))[0].tolist()
