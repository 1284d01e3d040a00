"""The runs of a comparison: every row on every problem with every seed, each as the words of `clipjax adapt`."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipjax.errors import ConfigError

if TYPE_CHECKING:
    from clipjax.cli.problem_files import ProblemFiles

_REPEATED = ("where", "template", "test_where")
_SWITCHES = ("labels", "by_position", "skip_bad")


@dataclasses.dataclass(frozen=True)
class Row:
    """A method with settings, as a comparison runs it.

    `problem` changes the problem, such as {"shots": 16}; `texts` names which of the problem's stores is read. A row
    whose store a problem lacks is not run there, nor one that learns from labels where a problem is not `labelled`.
    Shots are drawn by the run's seed.
    """

    method: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    problem: dict[str, Any] = dataclasses.field(default_factory=dict)
    texts: str | None = None


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a comparison: a row on a problem with a seed, None where nothing is drawn.

    `lacks` says what of the problem's is missing, so that it is not run.
    """

    problem: str
    row: str
    method: str
    seed: int | None
    words: tuple[str, ...]
    folder: Path
    store: str | None = None
    lacks: str = ""


def cells_of(config: Mapping[str, Any], work: Path) -> list[Cell]:
    """List all runs of a comparison: `problems`, `rows`, `seeds` and `run`; methods without a row get one.

    Raises:
      ConfigError: no problem, an unknown key, method or setting, or a problem without test images.
    """
    from clipjax.cli.run_settings import RunSettings
    from clipjax.methods.registry import METHODS
    from clipjax.training.settings import from_mapping

    _check_parts(config)
    every = from_mapping(RunSettings, config.get("run", {}), "run.").checkpoint_every
    rows = {name: _row(name, values) for name, values in config.get("rows", {}).items()}
    covered = {row.method for row in rows.values()}
    rows |= {method: Row(method) for method in METHODS if method not in covered}
    for problem, values in config["problems"].items():
        _check_names(problem, values, rows.values())
    cells = [
        cell
        for problem, values in config["problems"].items()
        for name, row in rows.items()
        for cell in _cells(problem, values, name, row, config["seeds"], work / "runs" / problem, every)
    ]
    folders = [cell.folder for cell in cells]
    if twice := [folder for folder in folders if folders.count(folder) > 1]:
        raise ConfigError(f"two runs would have the directory {twice[0]}; call the rows or problems otherwise")
    return cells


def _check_parts(config: Mapping[str, Any]) -> None:
    """Refuse a comparison of other parts, or parts that are no groups, names or seeds."""
    unknown = config.keys() - {"problems", "rows", "seeds", "run"}
    if unknown or not config.get("problems"):
        what = f"unknown key {sorted(unknown)[0]}" if unknown else "no `problems`"
        raise ConfigError(
            f"the comparison has {what}; it consists of problems, rows, seeds and run: see configs/compare.py"
        )
    for name in ("problems", "rows", "run"):
        _group(name, config.get(name, {}))
    for name in ("problems", "rows"):
        for key, values in config.get(name, {}).items():
            _group(f"{name}.{key}", values)
            if "/" in key or key in ("", ".", ".."):
                raise ConfigError(f"{name}.{key} names a directory; call it otherwise")
    seeds = config.get("seeds")
    if not isinstance(seeds, Sequence) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ConfigError(f"the comparison's seeds are {seeds!r}; give a list of whole numbers, such as seeds=[1,2,3]")


def _check_names(problem: str, values: Mapping[str, Any], rows: Iterable[Row]) -> None:
    """Refuse a setting of a problem that neither says where files lie nor is a store that a row reads."""
    known = _file_names() | {row.texts for row in rows if row.texts}
    if unknown := values.keys() - known - {"labelled"}:
        raise ConfigError(
            f"unknown setting problems.{problem}.{sorted(unknown)[0]}; there are labelled, {', '.join(sorted(known))}"
        )
    if not isinstance(values.get("labelled", False), bool):
        raise ConfigError(f"problems.{problem}.labelled={values['labelled']!r}: give true or false")


def _file_names() -> set[str]:
    from clipjax.cli.problem_files import ProblemFiles

    return {field.name for field in dataclasses.fields(ProblemFiles)} - {"texts"}


def _cells(
    problem: str, values: Mapping[str, Any], name: str, row: Row, seeds: Sequence[int], folder: Path, every: int
) -> Iterator[Cell]:
    """Yield the runs of a row on a problem: one for each seed if anything is drawn."""
    from clipjax.cli.problem_files import ProblemFiles
    from clipjax.methods.registry import method_named
    from clipjax.training.settings import from_mapping

    kind = method_named(row.method).Config
    from_mapping(kind, row.settings, f"rows.{name}.settings.")
    store = values.get(row.texts) if row.texts else None
    parts = {key: value for key, value in values.items() if key in _file_names() and value is not None}
    files = from_mapping(ProblemFiles, {**parts, **row.problem, "texts": store}, f"problems.{problem}.")
    if not (files.test or files.test_split or files.test_where):
        raise ConfigError(f"problems.{problem} has no test images; give test, test_split or test_where")
    lacks = _lacking(row, files, labelled=values.get("labelled", False))
    seeded = any(field.name == "seed" for field in dataclasses.fields(kind))
    for seed in seeds if seeded or files.shots else (None,):
        own = folder / (name if seed is None else f"{name}-{seed}")
        settings = {**row.settings, "seed": seed} if seeded else row.settings
        drawn = dataclasses.replace(files, shots_seed=seed) if files.shots else files
        words = adapt_words(row.method, drawn, settings, own, checkpoint_every=every)
        yield Cell(problem, name, row.method, seed, words, own, store, lacks)


def chosen(cells: Sequence[Cell], rows: Sequence[str] | None) -> list[Cell]:
    """Keep the runs of some rows; of all where none is named.

    Raises:
      ConfigError: there is no such row.
    """
    there = list(dict.fromkeys(cell.row for cell in cells))
    if absent := [name for name in rows or () if name not in there]:
        raise ConfigError(f"--rows {absent[0]}: no such row; there are {', '.join(there)}")
    return [cell for cell in cells if not rows or cell.row in rows]


def adapt_words(
    method: str, files: "ProblemFiles", settings: Mapping[str, Any], folder: Path, *, checkpoint_every: int
) -> tuple[str, ...]:
    """Write the words of `clipjax adapt` that do the same."""
    words = ["adapt", "--method", method]
    for field in dataclasses.fields(files):
        value, flag = getattr(files, field.name), f"--{field.name.replace('_', '-')}"
        if value is None or value == field.default:
            continue
        if field.name in _SWITCHES:
            words.append(flag)
        else:
            words += [word for one in (value if field.name in _REPEATED else [value]) for word in (flag, str(one))]
    for name, value in _dotted(settings):
        words += ["--set", f"{name}={json.dumps(value)}"]
    # the same run goes on, another one of an older configuration is replaced
    return (*words, "--checkpoint-every", str(checkpoint_every), "-o", str(folder), "--overwrite", "--json")


def _row(name: str, values: Mapping[str, Any]) -> Row:
    known = [field.name for field in dataclasses.fields(Row)]
    if unknown := values.keys() - set(known):
        raise ConfigError(f"unknown setting rows.{name}.{sorted(unknown)[0]}; there are {', '.join(known)}")
    if not isinstance(values.get("method"), str):
        raise ConfigError(f"rows.{name} names no method")
    if not isinstance(values.get("texts"), str | None):
        raise ConfigError(f"rows.{name}.texts={values['texts']!r}: give the name of a problem's store")
    for part in ("settings", "problem"):
        _group(f"rows.{name}.{part}", values.get(part, {}))
    return Row(**values)


def _group(name: str, values: Any) -> None:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name} is no group of settings; see configs/compare.py")


def _lacking(row: Row, files: "ProblemFiles", *, labelled: bool) -> str:
    if row.texts and files.texts is None:
        return f"{row.texts} (a store of texts)"
    return "" if labelled or not (files.labels or files.shots) else "labels (it does not say labelled=true)"


def _dotted(settings: Mapping[str, Any], where: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in settings.items():
        found += _dotted(value, f"{where}{name}.") if isinstance(value, Mapping) else [(f"{where}{name}", value)]
    return found
