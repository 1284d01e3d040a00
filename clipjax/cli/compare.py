"""clipjax compare --config=configs/compare.py:testbed --workdir=comparison"""

import argparse
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from clipjax.cli.comparison_cells import cells_of, chosen
from clipjax.cli.comparison_runs import AtWork, known_result, result_of
from clipjax.cli.options import add_json, given, positive
from clipjax.errors import ConfigError


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
    every = cells_of(config, work)
    cells = chosen(every, args.rows)
    work.mkdir(parents=True, exist_ok=True)
    lock = locked(work)
    at_work = AtWork()
    pool = ThreadPoolExecutor(args.parallel)
    try:
        finished = pool.map(lambda cell: result_of(cell, at_work, lock), cells)
        results = list(progress(finished, total=len(cells), label="comparing", unit="runs"))
    except BaseException:
        # what has not begun never does, and runs that are at work save their state
        pool.shutdown(wait=False, cancel_futures=True)
        at_work.stop()
        raise
    finally:
        pool.shutdown()
        os.close(lock)
    done = {cell.folder: result for cell, result in zip(cells, results)}
    known = [done.get(cell.folder) or known_result(cell) for cell in every]
    write_results(work, [result for result in known if result is not None])
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
    measured = "one seed" if seeds == 1 else f"mean and standard deviation of {seeds} seeds"
    print_table(f"top-1 %, {measured}; wins and losses against zero-shot", columns, rows)
