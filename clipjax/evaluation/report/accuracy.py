"""The part of a report that needs labels: before and after, by class, confusions, calibration, and changed images."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from clipjax.errors import ClipjaxError
from clipjax.evaluation.calibration import confidence_bins
from clipjax.evaluation.image_by_image import Predictions, picture_file
from clipjax.evaluation.report.svg import Series, line_plot
from clipjax.evaluation.run_record import RunRecord
from clipjax.inputs.image import decode_image
from clipjax.texts.html import embedded

MEASURES = (("top-1 %", "top1"), ("top-5 %", "top5"), ("mean per class %", "mean_per_class"), ("ECE %", "ece"))
MATRIX_CLASSES = 15
"""With more classes than this a matrix is unreadable, and the most frequent confusions are listed."""

CONFUSIONS, CLASSES_SHOWN, PICTURES = 20, 40, 12
_BINS = 10


def accuracy_rows(record: RunRecord) -> list[dict[str, Any]]:
    """Return a row of measures for zero-shot, the method's classifier and its members."""
    accuracy = record.accuracy
    if accuracy is None:
        return []
    rows = [("zero-shot, before", accuracy["before"]), (f"{record.method}, after", accuracy["after"])]
    rows += [(f"model {number} alone", member) for number, member in enumerate(_members(accuracy), 1)]
    return [
        {
            "name": name,
            "cells": [found[key] for _, key in MEASURES],
            "changes": None if not place else [found[key] - accuracy["before"][key] for _, key in MEASURES],
        }
        for place, (name, found) in enumerate(rows)
    ]


def class_rows(accuracy: dict[str, Any]) -> list[dict[str, Any]]:
    """Return for each class with test images the share found before and after, the largest loss first."""
    before, after = (np.array(accuracy[when]["confusion"], np.int64) for when in ("before", "after"))
    counts = before.sum(1)
    rows = []
    for place, name in enumerate(accuracy["after"]["class_names"]):
        if counts[place]:
            was, now = (100 * float(table[place, place]) / counts[place] for table in (before, after))
            rows.append({"name": name, "images": int(counts[place]), "before": was, "after": now, "change": now - was})
    return sorted(rows, key=lambda row: row["change"])


def matrices(accuracy: dict[str, Any]) -> list[dict[str, Any]]:
    """Return both confusion matrices, each row with counts and shares in per cent; none if there are many classes."""
    names = accuracy["after"]["class_names"]
    if len(names) > MATRIX_CLASSES:
        return []
    found = []
    for title, when in (("before", "before"), ("after", "after")):
        table = np.array(accuracy[when]["confusion"], np.int64)
        shares = 100 * table / np.maximum(table.sum(1, keepdims=True), 1)
        cells = [list(zip(counts, parts)) for counts, parts in zip(table.tolist(), shares.round().astype(int).tolist())]
        found.append({"title": title, "rows": list(zip(names, cells))})
    return found


def confusions(accuracy: dict[str, Any]) -> list[dict[str, Any]]:
    """List the pairs of classes that are most often confused, before or after."""
    names = accuracy["after"]["class_names"]
    before, after = (np.array(accuracy[when]["confusion"], np.int64) for when in ("before", "after"))
    most = np.maximum(before, after)
    np.fill_diagonal(most, 0)
    order = np.argsort(-most, axis=None, kind="stable")[:CONFUSIONS]
    places = [divmod(int(place), len(names)) for place in order if most.flat[place]]
    return [
        {"true": names[i], "taken_for": names[j], "before": int(before[i, j]), "after": int(after[i, j])}
        for i, j in places
    ]


def reliability(found: Predictions) -> dict[str, Any]:
    """Draw how often predictions of some confidence are right, and tell the same in rows."""
    sides = (("before", found.before, found.before_confidence), ("after", found.after, found.after_confidence))
    bins = {name: confidence_bins(np.asarray(sure, float), best == found.labels, _BINS) for name, best, sure in sides}
    series = [
        Series(name, [(float(c), float(a)) for c, a, n in zip(one.confidence, one.accuracy, one.counts) if n])
        for name, one in bins.items()
    ]
    errors = {name: 100 * one.expected_error for name, one in bins.items()}
    plot = line_plot(
        series,
        title="Reliability diagram",
        description="Share of right predictions against their mean confidence, in bins. The expected calibration error "
        f"of {_BINS} bins is {errors['before']:.1f} % before and {errors['after']:.1f} % after.",
        x_label="confidence",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        diagonal=True,
    )
    edges = bins["before"].edges
    rows = [
        [f"{edges[i]:.1f} to {edges[i + 1]:.1f}"]
        + [
            cell
            for one in bins.values()
            for cell in ((int(one.counts[i]), f"{100 * one.accuracy[i]:.0f}") if one.counts[i] else (0, ""))
        ]
        for i in range(_BINS)
    ]
    return {"plot": plot, "names": list(bins), "rows": rows}


def balance(found: Predictions) -> dict[str, Any]:
    """Count better and worse images, and say how likely so uneven a split is by chance (a sign test)."""
    was, now = found.before == found.labels, found.after == found.labels
    better, worse = int((now & ~was).sum()), int((was & ~now).sum())
    return {"better": better, "worse": worse, "chance": sign_test(better, worse)}


def sign_test(better: int, worse: int) -> float:
    """Return the probability of a split at least so uneven if better and worse were equally likely (two-sided)."""
    total, least = better + worse, min(better, worse)
    log = lambda k: math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) - total * math.log(2)
    return min(1.0, 2 * sum(math.exp(log(k)) for k in range(least + 1)))


def gallery(record: RunRecord, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the changed images by kind, the surest of each kind with their pictures."""
    found = record.predictions
    if found is None:
        return []
    kinds = []
    for title, rows in found.changed().items():
        cards = [_card(record, found, names, row) for row in rows[:PICTURES].tolist()]
        kinds.append({"title": title, "count": len(rows), "cards": cards})
    return kinds


def _card(record: RunRecord, found: Predictions, names: Sequence[str], row: int) -> dict[str, Any]:
    name = lambda place: names[place] if 0 <= place < len(names) else f"class {place}"
    path = picture_file(record.folder, row)
    picture = fault = ""
    if not path.is_file():
        fault = "no picture was kept"
    else:
        try:
            picture = embedded(_decoded(path))
        except (ClipjaxError, OSError) as error:
            fault = str(error)
    return {
        "id": str(found.ids[row]),
        "picture": picture,
        "fault": fault,
        "label": name(int(found.labels[row])),
        "before": name(int(found.before[row])),
        "before_confidence": 100 * float(found.before_confidence[row]),
        "after": name(int(found.after[row])),
        "after_confidence": 100 * float(found.after_confidence[row]),
    }


def _decoded(path: Any) -> Image.Image:
    return decode_image(path, path.name)


def _members(accuracy: dict[str, Any]) -> list[dict[str, Any]]:
    members = accuracy.get("members")
    sound = isinstance(members, list) and all(
        isinstance(one, dict) and all(isinstance(one.get(key), int | float) for _, key in MEASURES) for one in members
    )
    return members if isinstance(members, list) and sound else []
