"""What a person sees: progress bars on a terminal, tables, and JSON for machines."""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from clipjax.progress import Label

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds of work before a progress bar appears."""

_UNLIMITED = 10_000
"""A width for tables that nobody looks at on a terminal: no cell is folded."""


def progress(
    items: Iterable[T], *, total: int | None, label: Label, unit: str = "images", step: int = 1
) -> Iterator[T]:
    """Yield `items`; on a terminal, and after two seconds, show how many units are done, the rate and the time left."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.progress import MofNCompleteColumn, TextColumn

    done, start = 0, time.monotonic()
    with _bar(MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TextColumn("{task.fields[left]}")) as bar:
        text = label if callable(label) else lambda: label
        task = bar.add_task(text(), total=total, rate="", left="")
        for item in items:
            yield item
            done = done + step if total is None else min(done + step, total)
            rate = done / max(time.monotonic() - start, 1e-9)
            left = "" if total is None else f"{_clock((total - done) / rate)} left"
            shown = f"{rate:.{0 if rate >= 10 else 1}f} {unit}/s"
            bar.update(task, description=text(), completed=done, rate=shown, left=left)


@contextlib.contextmanager
def working(label: str) -> Iterator[None]:
    """Show, on a terminal and after two seconds, that one long step is under way, and since when."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.progress import TimeElapsedColumn

    with _bar(TimeElapsedColumn()) as bar:
        bar.add_task(label, total=None)
        yield


@contextlib.contextmanager
def _bar(*columns: "ProgressColumn") -> "Iterator[Progress]":
    """Draw a bar as long as the block runs, once it has run for a while."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    # short, or the ^C that a terminal shows begins a new line, and the bar stays
    length = BarColumn(bar_width=20)
    console = Console(stderr=True)
    bar = Progress(TextColumn("{task.description}", markup=False), length, *columns, console=console, transient=True)
    # a timer, since the first item may take long: its program has to be compiled
    appearance = threading.Timer(PATIENCE, bar.start)
    appearance.daemon = True
    appearance.start()
    try:
        yield bar
    finally:
        appearance.cancel()
        appearance.join()
        if bar.live.is_started:
            bar.stop()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def note(message: str) -> None:
    """Say something that is not the result."""
    print(f"clipjax: {message}", file=sys.stderr)


def print_json(document: Any) -> None:
    """Print one JSON document on one line, in ASCII, which every terminal and program takes."""
    print(json.dumps(document))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, numeric: bool = True) -> None:
    """Print a table with all columns but the first aligned to the right, unless they are not `numeric`.

    On a terminal long cells are folded to its width; elsewhere every row is one line.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if numeric and i else "left", overflow="fold")
    for row in rows:
        table.add_row(*(format(cell, ".2f") if isinstance(cell, float) else str(cell) for cell in row))
    width = None if sys.stdout.isatty() else _UNLIMITED
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    # printed by ourselves: rich would end the program when the reader of its output has left
    with console.capture() as printed:
        console.print(title, style="bold", soft_wrap=True)
        console.print(table)
    for line in printed.get().splitlines():
        print(line.rstrip())
