"""Results of `python -m benchmarks` as JSON lines, and the part of a page that is written from them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clipjax.errors import ClipjaxError
from clipjax.outputs import new_file

BEGIN = "<!-- written by `python -m benchmarks` from here on -->"
END = "<!-- to here -->"
VERSIONS = ("python", "jax", "flax", "torch", "transformers")

Result = dict[str, Any]
_FIELDS = {
    **dict.fromkeys(("name", "command", "code", "date"), str),
    "seconds": (int, float),
    "machine": dict,
    "ratios": dict,
}


def read_results(path: Path) -> list[Result]:
    """Return the results in a file; none where there is no file.

    Raises:
      ClipjaxError: a line is no result.
    """
    if not path.exists():
        return []
    results = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            result = json.loads(line)
            absent = [name for name, kind in _FIELDS.items() if not isinstance(result.get(name), kind)]
            if absent:
                raise ClipjaxError(f"{path}, line {number}: is no result ({', '.join(absent)}); remove the line")
            results.append(result)
    except (ValueError, AttributeError) as error:
        raise ClipjaxError(f"{path}, line {number}: is no result (not a JSON object); remove the line") from error
    return results


def add_result(path: Path, result: Result) -> None:
    """Write a result behind the others, whole or not at all."""
    lines = [*read_results(path), result]
    with new_file(path, overwrite=True) as staged:
        staged.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def same_place(one: Result, other: Result) -> bool:
    """Whether two descriptions of machines differ in the date at most."""
    return {**one, "date": None} == {**other, "date": None}


def tables(results: Iterable[Result]) -> str:
    """Return a Markdown table for each machine and its versions, of each measurement's newest result."""
    places: list[tuple[Result, dict[str, Result]]] = []
    for result in results:
        newest = next((found for place, found in places if same_place(place, result["machine"])), None)
        if newest is None:
            places.append((result["machine"], newest := {}))
        newest[result["name"]] = result
    if not places:
        return "The command has not been run on a quiet machine yet.\n"
    return "\n".join(_table(machine, found.values()) for machine, found in places)


def _table(machine: Result, results: Iterable[Result]) -> str:
    versions = ", ".join(f"{name} {machine[name]}" for name in VERSIONS if machine.get(name))
    lines = [f"{machine['processor']}, {machine['threads']} threads; {versions}:", ""]
    lines += ["| measurement | what | value |", "|---|---|---|"]
    for result in results:
        lines += [f"| {result['name']} | {what} | {value:.4g} |" for what, value in result["ratios"].items()]
    lines += ["", "| measurement | command | minutes | date |", "|---|---|---|---|"]
    for result in results:
        minutes = f"{result['seconds'] / 60:.1f}"
        lines.append(f"| {result['name']} | `{result['command']}` | {minutes} | {result['date']} |")
    return "\n".join(lines) + "\n"


def check_page(path: Path) -> None:
    """Refuse a page that has no place for the tables.

    Raises:
      ClipjaxError: there is no such file, or not one pair of markers in it.
    """
    _parts(path)


def write_page(path: Path, results: Iterable[Result]) -> None:
    """Replace what stands between the markers of a page."""
    before, after = _parts(path)
    with new_file(path, overwrite=True) as staged:
        staged.write_text(f"{before}{BEGIN}\n\n{tables(results)}\n{END}{after}", encoding="utf-8")


def _parts(path: Path) -> tuple[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ClipjaxError(f"{path}: cannot be read ({error.strerror}); name a page with --page") from error
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ClipjaxError(f"{path}: needs the lines {BEGIN} and {END}, once and in this order, around the tables")
    return text.partition(BEGIN)[0], text.partition(END)[2]
