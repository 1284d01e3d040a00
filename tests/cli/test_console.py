import contextlib
import itertools
import json
import os
import pty
import re
import subprocess
import sys

import pytest

from clipjax.cli import console
from clipjax.cli.console import print_json, print_table, progress


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_passes_everything_on(terminal, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert list(progress(iter("abc"), total=3, label="working")) == ["a", "b", "c"]


def test_progress_is_silent_where_nobody_looks(monkeypatch, capsys):
    monkeypatch.setattr(console, "PATIENCE", 0.0)
    list(progress(range(1000), total=1000, label="working"))
    assert capsys.readouterr() == ("", "")


def test_progress_closes_what_it_reads_from_when_the_reader_stops():
    closed = []

    def source():
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    for _ in progress(source(), total=None, label="working"):
        break
    assert closed


def on_a_terminal(program, columns=80):
    """Run a program whose standard error is a terminal, and return all that it wrote there."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-c", program], stderr=theirs, stdout=theirs, env=environment)
    os.close(theirs)
    written = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:
            break  # the other side has closed
        if not piece:
            break
        written += piece
    process.wait()
    os.close(ours)
    return written.decode()


BAR = """
import itertools, threading, types
import clipjax.cli.console as console

class Timer(threading.Timer):
    def start(self):
        if {patient}:
            super().start()
        else:
            self.function()
    def join(self):
        pass

console.threading = types.SimpleNamespace(Timer=Timer)
console.time = types.SimpleNamespace(monotonic=itertools.count().__next__)
for _ in console.progress(range(4), total=300, label="encoding", step=10):
    pass
print("done")
"""


def test_bar_shows_count_rate_and_time_left_and_then_goes():
    written = on_a_terminal(BAR.format(patient=False))
    assert "encoding" in written and "40/300" in written and "10 images/s" in written and "0:26 left" in written
    assert written.rstrip().endswith("done")
    assert "\x1b[2K" in written  # the line of the bar is erased


def test_bar_appears_before_the_first_item_is_done():
    assert "0/300" in on_a_terminal(BAR.format(patient=False))


def test_quick_work_shows_no_bar():
    assert on_a_terminal(BAR.format(patient=True)).strip() == "done"


STEP = (
    BAR.partition("for _ in")[0]
    + """
with console.working("loading [a] file"):
    pass
print("done")
"""
)


def test_long_step_shows_its_name_and_the_time_and_then_goes():
    written = on_a_terminal(STEP.format(patient=False))
    assert "loading [a] file" in written and "0:00:00" in written and "\x1b[2K" in written
    assert written.rstrip().endswith("done")


def test_quick_step_shows_nothing():
    assert on_a_terminal(STEP.format(patient=True)).strip() == "done"


def test_long_step_is_silent_where_nobody_looks(monkeypatch, capsys):
    monkeypatch.setattr(console, "PATIENCE", 0.0)
    with console.working("loading"):
        pass
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("command", ["convert", "embed"])
def test_commands_that_load_weights_say_so(command, clipjax, checkpoint, photos, tmp_path, monkeypatch):
    labels = []

    @contextlib.contextmanager
    def working(label):
        labels.append(label)
        yield

    monkeypatch.setattr(console, "working", working)
    if command == "convert":
        clipjax("convert", checkpoint, tmp_path / "out")
        assert labels == [f"loading {checkpoint}", f"writing {tmp_path / 'out'}"]
    else:
        clipjax("embed", "--weights", checkpoint, "--images", photos, "-o", tmp_path / "e.npz")
        assert labels == [f"loading {checkpoint}"]


def test_table_is_aligned_and_wide_enough_in_a_pipe(capsys):
    long = "a class with a very long name " * 10
    print_table("title", ["class", "accuracy %"], [(long, 12.3456), ("short", 7)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "title"
    assert [line.split()[-1] for line in lines if line.startswith((" a class", " short"))] == ["12.35", "7"]
    assert all(line == line.rstrip() for line in lines)


def test_table_shows_brackets_and_colons_as_they_are(capsys):
    print_table("[red]title", ["name"], [("[bold]x[/bold] :smile:",)])
    assert "[red]title" in (out := capsys.readouterr().out) and "[bold]x[/bold] :smile:" in out


def test_long_cells_are_folded_to_the_terminal():
    program = "from clipjax.cli.console import print_table\nprint_table('t', ['name', 'n'], [('word ' * 40, 5)])"
    lines = on_a_terminal(program, columns=60).splitlines()
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in lines) <= 60
    assert sum("word" in line for line in lines) > 2


def test_json_is_one_line_of_ascii(capsys):
    print_json({"name": "größe\n猫"})
    out = capsys.readouterr().out
    assert out.isascii() and out.count("\n") == 1
    assert json.loads(out) == {"name": "größe\n猫"}


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0:00"), (59.6, "1:00"), (125, "2:05"), (3725, "1:02:05")])
def test_time_left_reads_like_a_clock(seconds, shown):
    assert console._clock(seconds) == shown
