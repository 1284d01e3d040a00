"""A report of one or several runs: one HTML file that asks for nothing, with every picture and plot in it."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipjax.evaluation.report import accuracy, course
from clipjax.evaluation.run_record import RunRecord
from clipjax.texts.html import rendered

_PAGES = Path(__file__).parent / "pages"


def report_page(records: Sequence[RunRecord], *, title: str) -> str:
    """Write a page about runs; a section whose numbers a run lacks says why.

    Everything that comes from data, file names or logs is text there, whatever it looks like.
    """
    return rendered(
        "report.html",
        _PAGES,
        title=title,
        runs=[_run(record, name, number) for number, (record, name) in enumerate(zip(records, _names(records)), 1)],
        measures=[name for name, _ in accuracy.MEASURES],
        several_versions=_several_versions(records),
        classes_shown=accuracy.CLASSES_SHOWN,
    )


def _run(record: RunRecord, name: str, number: int) -> dict[str, Any]:
    found = record.accuracy
    names = found["after"]["class_names"] if found else record.classifier.get("class_names", [])
    starts = record.starts
    return {
        "anchor": f"run-{number}",
        "name": name,
        "folder": str(record.folder),
        "method": record.method,
        "finished": record.finished,
        "tested": record.tested,
        "remarks": record.remarks,
        "images": None if found is None else found["after"]["images"],
        "rows": accuracy.accuracy_rows(record),
        "classes": accuracy.class_rows(found) if found else [],
        "matrices": accuracy.matrices(found) if found else [],
        "confusions": accuracy.confusions(found) if found else [],
        "reliability": accuracy.reliability(record.predictions) if record.predictions else None,
        "balance": accuracy.balance(record.predictions) if record.predictions else None,
        "gallery": accuracy.gallery(record, names),
        "quality": record.quality,
        "quality_plot": course.quality_plot(record),
        "curves": course.curves(record),
        "histograms": course.histograms(record),
        "said": course.said(record),
        "config": json.dumps(record.config, indent=1, default=str),
        "problem": [(name, value) for name, value in record.problem.items() if value not in (None, [], False, "")],
        "digests": [(name, record.identity[name]) for name in ("weights", "images", "shots", "texts", "prompts")
                    if record.identity.get(name)],
        "seeds": _seeds({"config": record.config, "problem": record.problem}),
        "versions": record.versions,
        "devices": starts[-1].get("devices", []) if starts else [],
        "command": shlex.join(map(str, record.command)),
        "sessions": _sessions(record),
    }  # fmt: skip


def _names(records: Sequence[RunRecord]) -> list[str]:
    """Call runs by their directories' names, with as much of the paths before them as tells them apart."""
    paths = [record.folder.parts or (str(record.folder),) for record in records]
    for length in range(1, max(map(len, paths)) + 1):
        names = ["/".join(path[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(record.folder) for record in records]


def _sessions(record: RunRecord) -> list[dict[str, Any]]:
    """Pair each start with its end; one without an end was killed, or is at work."""
    found: list[dict[str, Any]] = []
    for entry in record.sessions:
        if entry.get("event") == "start":
            found.append(
                {"time": entry.get("time", ""), "end": "killed, or still at work", "seconds": None, "memory": None}
            )
        elif found:
            found[-1] |= {
                "end": {"done": "done", "stopped": "stopped"}.get(
                    str(entry.get("event")), f"failed: {entry.get('reason', '')}"
                ),
                "seconds": entry.get("seconds"),
                "memory": entry.get("peak_memory_mb"),
            }
    return found


def _seeds(tree: Any, where: str = "") -> list[tuple[str, Any]]:
    """Find every number that is called a seed."""
    if not isinstance(tree, dict):
        return []
    found = []
    for name, value in tree.items():
        place = f"{where}.{name}" if where else name
        found += [(place, value)] if name == "seed" else _seeds(value, place)
    return found


def _several_versions(records: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """Find the libraries of which the runs do not all have the same version."""
    found: dict[str, set[str]] = {}
    for record in records:
        for name, version in record.versions.items():
            found.setdefault(name, set()).add(str(version))
    return [(name, sorted(versions)) for name, versions in found.items() if len(versions) > 1]
