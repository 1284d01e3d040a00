"""clipjax compare --config=configs/compare.py:testbed --workdir=comparison"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipjax.cli.options import add_json, given, positive
from clipjax.errors import ConfigError

if TYPE_CHECKING:
    from clipjax.cli.problem_files import ProblemFiles

NOTE = "comparison.json"
"""What a run of a comparison came to, in the run's directory."""

_REPEATED = ("where", "template", "test_where")
_SWITCHES = ("labels", "by_position", "skip_bad")


@dataclasses.dataclass(frozen=True)
class Row:
    """A method with settings, as a comparison runs it.

    `problem` changes the problem, such as {"shots": 16}; `texts` names which of the problem's stores is read. A row
    whose store a problem lacks is not run there.
    """

    method: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    problem: dict[str, Any] = dataclasses.field(default_factory=dict)
    texts: str | None = None


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a comparison: a row on a problem with a seed, None for methods that draw nothing."""

    problem: str
    row: str
    method: str
    seed: int | None
    words: tuple[str, ...]
    folder: Path
    store: str | None = None
    lacks: str = ""


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="run methods side by side on the same problems and seeds, and tabulate them",
        description="Run every row of a comparison on every problem with every seed, each as `clipjax adapt` in a "
        "process of its own. A stopped comparison goes on when the command is repeated; what failed is tried again.",
    )
    parser.add_argument("--config", required=True, type=given, metavar="FILE[:ARGUMENT]", help="a configuration")
    parser.add_argument("--workdir", required=True, type=given, metavar="DIR", help="runs and tables")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change the configuration; repeatable"
    )
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="these rows alone")
    parser.add_argument("--parallel", type=positive, default=1, metavar="N", help="runs at once (default: 1)")
    add_json(parser)
    parser.set_defaults(run=run, interrupted="what was done is kept; repeat the command to go on", resumes=True)


def run(args: argparse.Namespace) -> int:
    from clipjax.cli.adapt import nested
    from clipjax.cli.config_files import merged, read_config
    from clipjax.cli.console import note, print_json, progress
    from clipjax.evaluation.comparison import summary, write_results

    config, work = merged(read_config(args.config), nested(args.set)), Path(args.workdir)
    cells = cells_of(config, work, args.rows)
    work.mkdir(parents=True, exist_ok=True)
    at_work: set[subprocess.Popen] = set()
    pool = ThreadPoolExecutor(args.parallel)
    try:
        finished = pool.map(lambda cell: result_of(cell, at_work), cells)
        results = list(progress(finished, total=len(cells), label="comparing", unit="runs"))
    except BaseException:
        # what has not begun never does, and runs that are at work save their state
        pool.shutdown(wait=False, cancel_futures=True)
        for child in list(at_work):
            child.terminate()
        raise
    finally:
        pool.shutdown()
    write_results(work, results)
    problems, rows = (list(dict.fromkeys(getattr(cell, name) for cell in cells)) for name in ("problem", "row"))
    table = summary(results, problems, rows)
    failed = [result for result in results if result["status"] == "failed"]
    if args.json:
        print_json({"results": results, "summary": table, "workdir": str(work)})
    else:
        _show(table, problems, len(config["seeds"]))
    for result in failed:
        note(f"{result['row']} on {result['problem']} failed: {result['reason']}")
    note(
        f"wrote {work / 'results.csv'} and {work / 'results.parquet'}; `clipjax report {work}/runs/*/*` shows the runs"
    )
    return 1 if failed else 0


def cells_of(config: Mapping[str, Any], work: Path, chosen: Sequence[str] | None = None) -> list[Cell]:
    """List all runs of a comparison: `problems`, `rows`, `seeds` and `run`; methods without a row get one.

    Raises:
      ConfigError: no problem, an unknown key, method or setting, or a problem without test images.
    """
    from clipjax.cli.problem_files import ProblemFiles
    from clipjax.cli.run_settings import RunSettings
    from clipjax.methods.registry import METHODS, method_named
    from clipjax.training.settings import from_mapping

    unknown = config.keys() - {"problems", "rows", "seeds", "run"}
    if unknown or not config.get("problems"):
        what = f"unknown key {sorted(unknown)[0]}" if unknown else "no `problems`"
        raise ConfigError(
            f"the comparison has {what}; it consists of problems, rows, seeds and run: see configs/compare.py"
        )
    settings = from_mapping(RunSettings, config.get("run", {}), "run.")
    rows = {name: _row(name, values) for name, values in config.get("rows", {}).items()}
    covered = {row.method for row in rows.values()}
    rows |= {method: Row(method) for method in METHODS if method not in covered}
    if absent := [name for name in chosen or () if name not in rows]:
        raise ConfigError(f"--rows {absent[0]}: no such row; there are {', '.join(rows)}")
    fields = {field.name for field in dataclasses.fields(ProblemFiles)}
    cells = []
    for problem, values in config["problems"].items():
        for name, row in rows.items():
            if chosen and name not in chosen:
                continue
            kind = method_named(row.method).Config
            from_mapping(kind, row.settings, f"rows.{name}.settings.")
            # what is no field of a problem is a store of texts that a row may ask for by its name
            store = values.get(row.texts) if row.texts else None
            parts = {
                key: value for key, value in values.items() if key in fields and key != "texts" and value is not None
            }
            files = from_mapping(ProblemFiles, {**parts, **row.problem, "texts": store}, f"problems.{problem}.")
            if not (files.test or files.test_split or files.test_where):
                raise ConfigError(f"problems.{problem} has no test images; give test, test_split or test_where")
            seeds = config["seeds"] if any(field.name == "seed" for field in dataclasses.fields(kind)) else (None,)
            for seed in seeds:
                folder = work / "runs" / problem / (name if seed is None else f"{name}-{seed}")
                own = row.settings if seed is None else {**row.settings, "seed": seed}
                words = adapt_words(row.method, files, own, folder, checkpoint_every=settings.checkpoint_every)
                lacks = row.texts if row.texts and store is None else ""
                cells.append(Cell(problem, name, row.method, seed, words, folder, store, lacks or ""))
    return cells


def adapt_words(
    method: str, files: "ProblemFiles", settings: Mapping[str, Any], folder: Path, *, checkpoint_every: int
) -> tuple[str, ...]:
    """Write the words of `clipjax adapt` that do the same."""
    words = ["adapt", "--method", method]
    for field in dataclasses.fields(files):
        value, flag = getattr(files, field.name), f"--{field.name.replace('_', '-')}"
        if value is None or field.name == "seed":
            continue
        if field.name in _SWITCHES:
            words += [flag] if value else []
        else:
            words += [word for one in (value if field.name in _REPEATED else [value]) for word in (flag, str(one))]
    for name, value in _dotted(settings):
        words += ["--set", f"{name}={json.dumps(value)}"]
    # the same run goes on, another one of an older configuration is replaced
    return (*words, "--checkpoint-every", str(checkpoint_every), "-o", str(folder), "--overwrite", "--json")


def result_of(cell: Cell, at_work: set[subprocess.Popen]) -> dict[str, Any]:
    """Run a cell, or read what it came to; a failure is a result, too. `at_work` holds its process meanwhile."""
    note = cell.folder / NOTE
    if (known := _known(note, cell)) is not None:
        return known
    found: dict[str, Any] = {
        "problem": cell.problem, "row": cell.row, "method": cell.method, "seed": cell.seed, "run": str(cell.folder),
    }  # fmt: skip
    if cell.lacks:
        return {**found, "status": "skipped", "reason": f"the problem has no {cell.lacks} (a store of texts)"}
    start = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "clipjax.cli.main", *cell.words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace",
    ) as child, ThreadPoolExecutor(1) as reader:  # fmt: skip
        at_work.add(child)
        said = reader.submit(child.stderr.read)  # pyright: ignore[reportOptionalMemberAccess]
        printed = child.stdout.read()  # pyright: ignore[reportOptionalMemberAccess]
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        at_work.discard(child)
    found["seconds"] = round(time.monotonic() - start, 1)
    if child.returncode != 0:
        last = (said.result().strip().splitlines() or [f"exit status {child.returncode}"])[-1]
        return {**found, "status": "failed", "reason": last.removeprefix("clipjax: error: ")}
    document = json.loads(printed.strip().splitlines()[-1])
    unit = 1 if sys.platform == "darwin" else 1024
    found |= {
        "status": "done",
        "top1": document["after"]["top1"],
        "top1_zero_shot": document["before"]["top1"],
        "mean_per_class": document["after"]["mean_per_class"],
        "ece": document["after"]["ece"],
        "images": document["images"],
        "texts": _count(cell.store),
        "training_seconds": _training_seconds(cell.folder / "metrics.jsonl"),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_memory_mb": round(used.ru_maxrss * unit / 1e6),
    }
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({**found, "words": cell.words}, indent=1) + "\n", encoding="utf-8")
    return found


def _row(name: str, values: Mapping[str, Any]) -> Row:
    known = [field.name for field in dataclasses.fields(Row)]
    if unknown := values.keys() - set(known):
        raise ConfigError(f"unknown setting rows.{name}.{sorted(unknown)[0]}; there are {', '.join(known)}")
    if "method" not in values:
        raise ConfigError(f"rows.{name} names no method")
    return Row(**values)


def _known(note: Path, cell: Cell) -> dict[str, Any] | None:
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        return found if tuple(found.pop("words")) == cell.words else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _training_seconds(path: Path) -> float | None:
    """Add up the seconds of all steps, without waiting for data: what the devices were needed for."""
    total, before = 0.0, {}
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return None
    for entry in entries:
        steps = entry["step"] - before.get(entry["stage"], 0)
        before[entry["stage"]] = entry["step"]
        total += steps * (entry.get("step_seconds") or 0.0) * (1 - (entry.get("wait_share") or 0.0))
    return round(total, 1)


def _count(store: str | None) -> int:
    """Count the texts that a method could read."""
    from clipjax.texts.collected import read_texts

    if store is None:
        return 0
    return sum(len(texts) for written in read_texts(store).of_kind.values() for texts in written.values())


def _dotted(settings: Mapping[str, Any], where: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in settings.items():
        found += _dotted(value, f"{where}{name}.") if isinstance(value, Mapping) else [(f"{where}{name}", value)]
    return found


def _show(table: Sequence[Mapping[str, Any]], problems: Sequence[str], seeds: int) -> None:
    from clipjax.cli.console import print_table

    shown = lambda value, digits=2: "" if value is None else f"{value:.{digits}f}"

    def accuracy(value: tuple[float, float | None] | None) -> str:
        return "" if value is None else shown(value[0]) + ("" if value[1] is None else f" ± {value[1]:.2f}")

    rows = [
        [
            one["row"],
            *(accuracy(one["accuracies"][problem]) for problem in problems),
            shown(one["mean"]),
            f"{one['wins']} / {one['losses']}",
            shown(one["texts"], 0),
            shown(one["seconds"], 0),
            shown(one["peak_memory_mb"], 0),
        ]
        for one in table
    ]
    columns = ["", *problems, "mean", "wins / losses", "texts", "seconds", "peak MB"]
    print_table(
        f"top-1 %, mean and standard deviation of {seeds} seeds; wins and losses against zero-shot", columns, rows
    )
