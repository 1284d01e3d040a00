"""clipjax compare --config=configs/compare.py:testbed --workdir=comparison"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from clipjax.cli.comparison_cells import Cell, cells_of
from clipjax.cli.options import add_json, given, positive
from clipjax.errors import ConfigError

NOTE = "comparison.json"
"""What a run of a comparison came to, in the run's directory."""


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
    lock = locked(work)
    at_work: set[subprocess.Popen] = set()
    pool = ThreadPoolExecutor(args.parallel)
    try:
        finished = pool.map(lambda cell: result_of(cell, at_work, lock), cells)
        results = list(progress(finished, total=len(cells), label="comparing", unit="runs"))
    except BaseException:
        # what has not begun never does, and runs that are at work save their state
        pool.shutdown(wait=False, cancel_futures=True)
        for child in list(at_work):
            child.terminate()
        raise
    finally:
        pool.shutdown()
        os.close(lock)
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
    if len(used := {result["versions"] for result in results if result.get("versions")}) > 1:
        note(f"these runs were made with different versions: {'; '.join(sorted(used))}; see the column versions")
    note(
        f"wrote {work / 'results.csv'} and {work / 'results.parquet'}; `clipjax report {work}/runs/*/*` shows the runs"
    )
    return 1 if failed else 0


def locked(work: Path) -> int:
    """Hold a comparison's directory; runs hold it, too, so that none is begun twice. Returns what is to be closed.

    Raises:
      ConfigError: another comparison, or a run that one left behind, is at work there.
    """
    import fcntl

    lock = os.open(work / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConfigError(f"{work}: another comparison or its runs are at work there; wait for them") from None
    except OSError:  # a file system without locks
        pass
    return lock


def result_of(cell: Cell, at_work: set[subprocess.Popen], lock: int | None = None) -> dict[str, Any]:
    """Run a cell, or read what it came to; a failure is a result, too. `at_work` holds its process meanwhile."""
    from clipjax.cli.sessions import versions

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
        pass_fds=() if lock is None else (lock,),
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
    made_with = versions()
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
        "versions": ", ".join(f"{name} {made_with[name]}" for name in ("clipjax", "jax") if name in made_with),
    }
    note.parent.mkdir(parents=True, exist_ok=True)
    kept = {**found, "words": cell.words, "files": _files(cell)}
    note.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return found


def _known(note: Path, cell: Cell) -> dict[str, Any] | None:
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        same = (tuple(found.pop("words")), found.pop("files")) == (cell.words, _files(cell))
        return found if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _files(cell: Cell) -> dict[str, list[int]]:
    """Return size and time of each file that a run reads: another store or tar under the same name is another run."""
    found = {}
    for word in cell.words:
        path = Path(word.partition(":")[0] if ":" in word and not Path(word).exists() else word)
        with contextlib.suppress(OSError, ValueError):  # most words are no paths
            if path.is_file():
                about = path.stat()
                found[str(path)] = [about.st_size, about.st_mtime_ns]
    return found


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
