"""What a run's directory says about the run: read in full, whatever state the run is in.

A part that is missing is None or empty; a part that is damaged leaves a remark. Only what is no run at all is refused.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipjax.errors import DataError
from clipjax.evaluation.image_by_image import Predictions, read_predictions
from clipjax.evaluation.pseudo_labels import QUALITY_FILE

SESSIONS_FILE = "sessions.jsonl"


@dataclass(frozen=True)
class RunRecord:
    """A run as its directory tells it.

    `identity` is what the run is (method, config, digests), `sessions` its starts and ends, `metrics` the lines that
    were logged, `accuracy` the measurement before and after, `quality` that of its pseudo-labels, and `classifier` what
    the note beside the result says. `remarks` are for whoever reads a report.
    """

    folder: Path
    identity: dict[str, Any]
    sessions: list[dict[str, Any]] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    accuracy: dict[str, Any] | None = None
    predictions: Predictions | None = None
    quality: list[dict[str, Any]] = field(default_factory=list)
    classifier: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.identity.get("method", "unknown"))

    @property
    def config(self) -> dict[str, Any]:
        """The method's settings."""
        found = self.identity.get("config")
        return found if isinstance(found, dict) else {}

    @property
    def starts(self) -> list[dict[str, Any]]:
        """The starts of the run, the oldest first."""
        return [one for one in self.sessions if one.get("event") == "start"]

    @property
    def finished(self) -> bool:
        """Whether there is a result."""
        return bool(self.classifier)

    @property
    def tested(self) -> bool:
        """Whether the last start named labelled test images."""
        return any(self.problem.get(name) for name in ("test", "test_split", "test_where"))

    @property
    def problem(self) -> dict[str, Any]:
        """Where the last start found weights and images; empty where it did not say."""
        return (self.starts[-1].get("problem") or {}) if self.starts else {}

    @property
    def command(self) -> list[str]:
        """The words of the command that repeats the run; empty where it was not started by one."""
        return self.starts[-1].get("command", []) if self.starts else []

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the last start."""
        return self.starts[-1].get("versions", {}) if self.starts else {}


def read_run(folder: str | os.PathLike) -> RunRecord:
    """Read all that a run's directory says.

    Raises:
      DataError: there is no such directory, it holds no run, or not one of an adaptation.
    """
    place, remarks = Path(folder), []
    if not place.is_dir():
        raise DataError(f"{place}: no such directory; give the directory of a run (the -o of `clipjax adapt`)")
    if not (place / "run.json").is_file():
        inside = sorted(entry.parent.name for entry in place.glob("*/run.json"))
        hint = f"it holds runs ({', '.join(inside[:3])}), name them" if inside else "give the -o of `clipjax adapt`"
        raise DataError(f"{place}: holds no run of clipjax; {hint}")
    identity = _document(place / "run.json", dict, remarks)
    if identity is None:
        raise DataError(f"{place / 'run.json'}: is damaged; repeat the run with --overwrite")
    if identity.get("method") == "pretrain":
        raise DataError(f"{place}: is a run of pretraining, which has no classifier; give one of `clipjax adapt`")
    sessions = [_session(entry) for entry in _lines(place / SESSIONS_FILE, remarks)]
    classifier = _document(place / "model" / "classifier.json", dict, remarks)
    try:
        predictions = read_predictions(place)
    except DataError as error:
        predictions = None
        remarks.append(str(error))
    record = RunRecord(
        place,
        identity,
        sessions,
        _lines(place / "metrics.jsonl", remarks),
        _accuracy(_document(place / "accuracy.json", dict, remarks), place, remarks),
        predictions,
        _rows(_document(place / QUALITY_FILE, list, remarks)),
        classifier or {},
    )
    return RunRecord(**{**vars(record), "remarks": (*_state(record), *remarks)})


def _state(record: RunRecord) -> list[str]:
    """Say what a reader must know before any number."""
    found = []
    last = next((one for one in reversed(record.sessions) if one.get("event") != "start"), None)
    if not record.finished:
        ended = last is not None and record.sessions[-1] is last
        why = {"failed": f"it failed: {last.get('reason', '')}", "stopped": "it was stopped"} if last and ended else {}
        said = why.get(str(last.get("event")), "") if last and ended else "it was killed, or is still at work"
        found.append(
            f"This run has not ended ({said or 'its result is missing'}). What follows is what there is so far."
        )
    elif record.sessions and (event := record.sessions[-1].get("event")) != "done":
        ended = {"failed": f"failed: {record.sessions[-1].get('reason', '')}", "stopped": "was stopped"}
        found.append(
            f"The last start of this run {ended.get(str(event), 'was killed, or is still at work')}. "
            "What it learned is whole; what it measured may be missing or older."
        )
    mixed = {}
    for start in record.starts:
        for name, version in start.get("versions", {}).items():
            mixed.setdefault(name, []).append(str(version))
    changed = {name: list(dict.fromkeys(versions)) for name, versions in mixed.items() if len(set(versions)) > 1}
    for name, versions in changed.items():
        found.append(f"This run was started with several versions of {name}: {', then '.join(versions)}.")
    devices = list(dict.fromkeys(", ".join(map(str, start.get("devices", []))) for start in record.starts))
    if len(devices) > 1:
        found.append(f"This run was started on different devices: {', then '.join(devices)}.")
    return found


def _accuracy(found: dict[str, Any] | None, place: Path, remarks: list[str]) -> dict[str, Any] | None:
    """Keep a measurement that has what a report reads of it."""
    if found is None:
        return None
    numbers, classes = ("images", "top1", "top5", "mean_per_class", "ece"), None
    for when in ("before", "after"):
        part = found.get(when)
        names = part.get("class_names") if isinstance(part, dict) else None
        confusion = part.get("confusion") if isinstance(part, dict) else None
        sound = (
            isinstance(part, dict)
            and isinstance(names, list)
            and names == (classes := classes or names)
            and isinstance(confusion, list)
            and len(confusion) == len(names)
            and all(
                isinstance(row, list) and len(row) == len(names) and all(isinstance(cell, int) for cell in row)
                for row in confusion
            )
            and all(isinstance(part.get(name), int | float) for name in numbers)
        )
        if not sound:
            remarks.append(f"{place / 'accuracy.json'}: is damaged; repeat the run's command to measure again")
            return None
    return found


def _document(path: Path, kind: type, remarks: list[str]) -> Any:
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, kind):
            return found
        reason = f"holds a {type(found).__name__}"
    except (OSError, ValueError) as error:
        reason = str(error)
    remarks.append(f"{path}: cannot be used ({reason})")
    return None


def _lines(path: Path, remarks: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    found, broken = [], 0
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        remarks.append(f"{path}: cannot be read ({error.strerror or error})")
        return []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict):
            found.append(entry)
        else:
            broken += 1
    if broken:
        remarks.append(f"{path}: {broken} damaged lines were passed over")
    return found


def _session(entry: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is not of the kind that a report reads."""
    kinds = {"command": list, "versions": dict, "devices": list, "problem": dict}
    return {name: value for name, value in entry.items() if isinstance(value, kinds.get(name, object))}


def _rows(found: Any) -> list[dict[str, Any]]:
    return [row for row in found or [] if isinstance(row, dict) and isinstance(row.get("name"), str)]
