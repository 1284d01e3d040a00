"""What a person sees: progress bars on a terminal, tables, and JSON for machines."""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds of work before a progress bar appears."""


def progress(items: Iterable[T], *, total: int | None, label: str, unit: str = "images", step: int = 1) -> Iterator[T]:
    """Yield `items`; on a terminal, and after two seconds, show how many units are done, the rate and the time left."""
    if not sys.stderr.isatty():
        yield from items
        return
    bar, task, done, start = None, None, 0, time.monotonic()
    try:
        for item in items:
            yield item
            done = done + step if total is None else min(done + step, total)
            if bar is None and time.monotonic() - start > PATIENCE:
                bar = _bar(unit)
                task = bar.add_task(label, total=total)
                bar.start()
            if bar is not None and task is not None:
                bar.update(task, completed=done, rate=done / (time.monotonic() - start))
    finally:
        if bar is not None:
            bar.stop()


def _bar(unit: str):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f} " + unit + "/s"),
        TextColumn("time left"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
        transient=True,
    )


def note(message: str) -> None:
    """Say something that is not the result."""
    print(f"clipjax: {message}", file=sys.stderr)


def print_json(document: Any) -> None:
    """Print one JSON document on one line."""
    print(json.dumps(document, ensure_ascii=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; all columns but the first are aligned to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i > 0, overflow="fold")
    for row in rows:
        table.add_row(*(format(cell, ".2f") if isinstance(cell, float) else str(cell) for cell in row))
    width = None if sys.stdout.isatty() else 120
    Console(width=width, highlight=False, markup=False).print(table)
