"""The part of a report that needs no labels: how training went, and what the method kept, whichever method it is.

Metrics are drawn by their names. Of the results of `run.once` every array of one number from 0 to 1 for each image is a
histogram: what a method wants to be seen it keeps under a name that says what it is.
"""

import math
from typing import Any

import numpy as np

from clipjax.evaluation.pseudo_labels import kept_results
from clipjax.evaluation.report.svg import Series, bar_plot, line_plot, short
from clipjax.evaluation.run_record import RunRecord

ENGINE = (
    "learning_rate", "gradient_norm", "skipped", "skipped_in_row", "step_seconds", "rows_per_second", "wait_share",
    "model_flop_utilisation",
)  # fmt: skip
"""What the training loop says of itself, apart from what a method measures."""

_MOST_POINTS = 400
_FEWEST_NUMBERS = 10
_BINS = 20


def curves(record: RunRecord) -> dict[str, list[dict[str, Any]]]:
    """Draw every metric over the steps, a line for each stage: those of the method, and those of the engine."""
    stages: dict[str, dict[str, list[tuple[float, float | None]]]] = {}
    for entry in record.metrics:
        stage, step = str(entry.get("stage", "")), entry.get("step")
        if not isinstance(step, int | float) or isinstance(step, bool) or not math.isfinite(step):
            continue
        for name, value in entry.items():
            if name in ("stage", "step") or not (value is None or _is_number(value)):
                continue
            stages.setdefault(name, {}).setdefault(stage, []).append(
                (float(step), None if value is None else float(value))
            )
    drawn = {name: _curve(name, lines) for name, lines in sorted(stages.items(), key=_loss_first)}
    shown = {name: curve for name, curve in drawn.items() if curve is not None}
    return {
        "method": [curve for name, curve in shown.items() if name not in ENGINE],
        "engine": [shown[name] for name in ENGINE if name in shown],
    }


def histograms(record: RunRecord) -> list[dict[str, Any]]:
    """Draw every kept array of probabilities, one number for each image."""
    found = []
    for result, arrays in kept_results(record.folder):
        for name, values in arrays.items():
            if values.ndim != 1 or values.dtype.kind != "f" or len(values) < _FEWEST_NUMBERS:
                continue
            if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
                continue
            counts, edges = np.histogram(values, _BINS, (0.0, 1.0))
            title = f"{name.replace('_', ' ')} ({result})"
            said = (
                f"{len(values):,} images, mean {short(float(values.mean()))}, median {short(float(np.median(values)))}."
            )
            plot = bar_plot(
                [float(count) for count in counts], edges.tolist(), title=title, description=said, x_label="probability"
            )
            found.append({"title": title, "said": said, "plot": plot})
    return found


def quality_plot(record: RunRecord) -> Any:
    """Draw the share of right pseudo-labels over the results of a run, where there are several."""
    rows = [row for row in record.quality if _is_number(row.get("right"))]
    if len(rows) < 2:
        return None
    lines = {
        "all": [(float(place), float(row["right"])) for place, row in enumerate(rows, 1)],
        "learnt from": [
            (float(place), float(row["right_of_accepted"]) if _is_number(row.get("right_of_accepted")) else None)
            for place, row in enumerate(rows, 1)
        ],
    }
    said = ", ".join(f"{row['name']}: {row['right']:.1f} %" for row in rows)
    return line_plot(
        [Series(name, points) for name, points in lines.items()],
        title="Right pseudo-labels over time, in per cent",
        description=f"In the order in which they were made. {said}.",
        x_label="result",
    )


def said(record: RunRecord) -> list[tuple[str, str]]:
    """List what the method says of its result in plain values, without what only names the problem."""
    note = record.classifier
    ensemble = note.get("ensemble")
    parts = [note.get("provenance"), ensemble.get("provenance") if isinstance(ensemble, dict) else None]
    known = set(record.identity) - {"images", "shots"}
    found: dict[str, str] = {}
    for part in parts:
        for name, value in (part if isinstance(part, dict) else {}).items():
            if name not in known and value is not None:
                found[name.replace("_", " ")] = _plain(value)
    return list(found.items())


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_plain(part)}" for name, part in value.items())
    if isinstance(value, list):
        return "; ".join(map(_plain, value[:12])) + ("; ..." if len(value) > 12 else "")
    return short(value) if isinstance(value, float) else str(value)


def _curve(name: str, lines: dict[str, list[tuple[float, float | None]]]) -> dict[str, Any] | None:
    series = [Series(stage, _thinned(points)) for stage, points in lines.items()]
    last = {one.name: [y for _, y in one.points if y is not None] for one in series}
    if not any(last.values()):
        return None
    missing = sum(y is None for points in lines.values() for _, y in points)
    ends = ", ".join(f"{stage} from {short(ys[0])} to {short(ys[-1])}" for stage, ys in list(last.items())[:8] if ys)
    gaps = f" {missing} values were not finite and are left out." if missing else ""
    title = name.replace("_", " ")
    plot = line_plot(series, title=title, description=f"By step: {ends}.{gaps}", x_label="step")
    return {"title": title, "plot": plot, "stages": list(lines) if len(lines) > 1 else [], "gaps": gaps.strip()}


def _thinned(points: list[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """Leave out points that nobody would see, but not the last."""
    every = -(-len(points) // _MOST_POINTS)
    return points if every == 1 else [*points[:-1:every], points[-1]]


def _loss_first(item: tuple[str, Any]) -> tuple[bool, str]:
    return not item[0].startswith("loss"), item[0]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
