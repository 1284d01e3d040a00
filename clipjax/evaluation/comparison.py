"""Results of several methods on several problems, with several seeds, as tables."""

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipjax.outputs import new_file

COLUMNS = {
    **dict.fromkeys(("problem", "row", "method"), "string"),
    "seed": "int64",
    "status": "string",
    **dict.fromkeys(("top1", "top1_zero_shot", "mean_per_class", "ece"), "float64"),
    **dict.fromkeys(("images", "texts"), "int64"),
    **dict.fromkeys(("seconds", "training_seconds", "processor_seconds", "peak_memory_mb"), "float64"),
    **dict.fromkeys(("versions", "run", "reason"), "string"),
}
"""The columns of a table of results and their types, which are the same whatever is missing."""


def write_results(folder: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Write all results, one a line, as results.csv and results.parquet.

    Raises:
      OutputError: they cannot be written.
    """
    import pyarrow
    import pyarrow.parquet

    rows = [{name: result.get(name) for name in COLUMNS} for result in results]
    with new_file(folder / "results.csv", overwrite=True) as staged, staged.open("w", -1, "utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row.values() for row in rows)
    with new_file(folder / "results.parquet", overwrite=True) as staged:
        schema = pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in COLUMNS.items()])
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), staged)


def summary(results: Sequence[Mapping[str, Any]], problems: Sequence[str], rows: Sequence[str]) -> list[dict[str, Any]]:
    """Reduce results to one entry for each row: accuracy by problem, their mean, gains, and what it cost.

    Of each problem the mean and the standard deviation over seeds (None for one). `wins` and `losses` count the
    problems on which the mean is above and below zero-shot. Costs are means over what was run.
    """
    found = []
    for row in rows:
        own = [result for result in results if result["row"] == row and result["status"] == "done"]
        accuracies: dict[str, tuple[float, float | None] | None] = {}
        gains = []
        for problem in problems:
            here = [result for result in own if result["problem"] == problem]
            top1 = [float(result["top1"]) for result in here]
            accuracies[problem] = (statistics.mean(top1), _spread(top1)) if top1 else None
            if top1:
                gains.append(statistics.mean(top1) - statistics.mean(float(one["top1_zero_shot"]) for one in here))
        whole = [value[0] for value in accuracies.values() if value is not None]
        found.append(
            {
                "row": row,
                "accuracies": accuracies,
                "mean": statistics.mean(whole) if len(whole) == len(problems) else None,
                "wins": sum(gain > 0 for gain in gains),
                "losses": sum(gain < 0 for gain in gains),
                **{
                    name: _mean([result.get(name) for result in own]) for name in ("seconds", "peak_memory_mb", "texts")
                },
                "failed": sum(result["row"] == row and result["status"] != "done" for result in results),
            }
        )
    return found


def _spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _mean(values: Sequence[Any]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return statistics.mean(known) if known else None
