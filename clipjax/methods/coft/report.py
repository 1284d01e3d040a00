"""What can be said about pseudo-labels and their acceptance: without labels, and afterwards with hidden ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from clipjax.data.source import UNKNOWN
from clipjax.methods.coft.filtering import Judged

BINS = 10
"""Histograms have so many bins from 0 to 1."""


def without_labels(
    found: Sequence[Judged], predicted: Sequence[Int[np.ndarray, " images"]], classes: int
) -> dict[str, Any]:
    """Say of each model's proposals how many were accepted and what was made of them; nothing here knows a label.

    `empty_classes` are those of which nothing was accepted: the head does not learn them. The histograms are of the
    validator's probabilities that the proposal, and that another class, is right. Models agree by what they `predicted`
    themselves, which need not be what was proposed: labels that were given are the same for both.
    """
    accepted = [np.bincount(one.labels[one.accepted], minlength=classes) for one in found]
    said: dict[str, Any] = {
        "accepted": [round(float(one.accepted.mean()), 4) for one in found],
        "empty_classes": [int((counts == 0).sum()) for counts in accepted],
        "clean_of_proposals": [_histogram(one.clean) for one in found],
        "clean_of_complements": [_histogram(one.complement) for one in found],
    }
    if len(found) > 1:
        said["models_agree"] = round(float(np.mean(predicted[0] == predicted[1])), 4)
    return said


def with_labels(found: Judged, labels: Int[np.ndarray, " images"]) -> dict[str, float]:
    """Measure proposals and acceptance by labels that the method never saw, in percent; unknown ones are left out.

    `precision` is the share of the accepted that is right, to be compared with `proposals`, the share of all;
    `recall` is the share of the right that was accepted.
    """
    known = labels != UNKNOWN
    right, accepted = (found.labels == labels)[known], found.accepted[known]
    share = lambda part, whole: 100 * float(part.sum()) / max(1, int(whole.sum()))
    return {
        "proposals": share(right, known),
        "accepted": share(accepted, known),
        "precision": share(right & accepted, accepted),
        "recall": share(right & accepted, right),
    }


def _histogram(probabilities: np.ndarray) -> list[int]:
    return np.histogram(probabilities, BINS, (0.0, 1.0))[0].tolist()
