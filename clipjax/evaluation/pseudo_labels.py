"""How good the pseudo-labels of a run were, told afterwards by labels that its method never saw.

What a method keeps with `run.once` tells which they are, by the names of its arrays: `labels` (a class for each image)
or `scores` ([images, classes]), with `accepted` where not all were learnt from, `indices` where not all images were
labelled, and `told` where a label is not the method's own. A method that keeps nothing of the kind has no such section
in its report.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from clipjax.data.source import UNKNOWN
from clipjax.outputs import new_file

QUALITY_FILE = "pseudo_labels.json"


def kept_results(folder: Path) -> Iterable[tuple[str, Mapping[str, np.ndarray]]]:
    """Yield what a run kept with `run.once`, by name, the oldest first; damaged files are passed over."""
    paths = sorted((folder / "once").glob("*.npz"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as content:
                yield path.stem, {name: content[name] for name in content.files if name != "_key"}
        except Exception:  # zipfile and NumPy raise many kinds when a file is damaged
            continue


def quality(arrays: Mapping[str, np.ndarray], hidden: Int[np.ndarray, " images"]) -> dict[str, Any] | None:
    """Compare one result's pseudo-labels with hidden labels, in per cent; None where there is nothing to compare.

    `right` is the share of all that are right, `right_of_accepted` (precision) that of those that were learnt from, and
    `accepted_of_right` (recall) the share of the right ones that were.
    """
    labels = _labels_in(arrays)
    if labels is None:
        return None
    rows = arrays.get("indices", np.arange(len(labels)))
    if len(rows) != len(labels) or len(labels) > len(hidden) or ("indices" not in arrays and len(rows) != len(hidden)):
        return None
    truth = hidden[rows]
    known = (truth != UNKNOWN) & ~np.asarray(arrays.get("told", np.zeros(len(labels))), bool)
    if not known.any():
        return None
    accepted = np.asarray(arrays.get("accepted", np.ones(len(labels))), bool) & known
    right = (labels == truth) & known
    share = lambda part, whole: 100 * float(part.sum() / whole.sum()) if whole.any() else None
    return {
        "images": int(known.sum()),
        "accepted": share(accepted, known),
        "right": share(right, known),
        "right_of_accepted": share(right & accepted, accepted),
        "accepted_of_right": share(right & accepted, right),
    }


def write_quality(folder: Path, hidden: Int[np.ndarray, " images"]) -> None:
    """Judge all pseudo-labels that a run kept, and note the result beside them.

    Raises:
      OutputError: it cannot be written.
    """
    judged = [{"name": name, **found} for name, arrays in kept_results(folder) if (found := quality(arrays, hidden))]
    if judged:
        with new_file(folder / QUALITY_FILE, overwrite=True) as staged:
            staged.write_text(json.dumps(judged, indent=1) + "\n", encoding="utf-8")


def _labels_in(arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    labels, scores = arrays.get("labels"), arrays.get("scores")
    if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu":
        return labels
    if scores is not None and scores.ndim == 2 and scores.dtype.kind == "f" and scores.size:
        return scores.argmax(1)
    return None
