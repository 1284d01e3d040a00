import errno
import io
import os
import re
import signal
import subprocess
import sys

import pytest

from clipjax.cli import inspect, main
from clipjax.cli.main import SUBCOMMANDS, build_parser
from clipjax.errors import DataError


def failing(monkeypatch, error):
    def run(args):
        raise error

    monkeypatch.setattr(inspect, "run", run)


def names():
    return [module.__name__.rpartition(".")[2] for module in SUBCOMMANDS]


@pytest.mark.parametrize("name", names())
def test_every_subcommand_explains_itself(name, clipjax):
    result = clipjax(name, "--help")
    assert result.status == 0
    assert result.out.startswith(f"usage: clipjax {name}")


GROUPS = {"data": ["prepare"], "texts": ["generate", "import", "check", "stats", "sample", "phrases"]}


@pytest.mark.parametrize("name", names())
def test_every_subcommand_has_a_result_for_machines(name, clipjax):
    for action in GROUPS.get(name, [None]):
        assert "--json" in clipjax(name, *filter(None, [action]), "--help").out


def test_help_lists_the_subcommands(clipjax):
    shown = clipjax("--help").out
    assert all(re.search(rf"^    {name}\b", shown, re.MULTILINE) for name in names())


def test_version_is_that_of_the_package(clipjax):
    assert re.fullmatch(r"clipjax (\d+\.\d+\.\d+|from a source tree.*)\n", clipjax("--version").out)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "required: COMMAND; see `clipjax --help`"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["embed"], "required: --weights, -o/--output; see `clipjax embed --help`"),
        (["zeroshot", "--weights", "w", "--images", "i", "--batch-size", "0"], "'0' is not an integer of at least 1"),
        (["zeroshot", "--weights", "w", "--images", "i", "--batch-size", "many"], "'many' is not an integer"),
        (["convert", "a", "b", "--format", "onnx"], "invalid choice: 'onnx'"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, part, clipjax, complains):
    complains(clipjax(*arguments), part)


@pytest.mark.parametrize("value", ["", " "])
@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("zeroshot", ["--classes", "--output", "--descriptions", "--images", "--weights", "--splits-file", "--split"]),
        ("embed", ["--images", "--texts", "--output"]),
        ("retrieve", ["--captions"]),
        ("rank", ["--difference", "--anchors", "--like", "--truth", "--output"]),
        ("comparative", ["--sentences", "--test", "--val", "--classes"]),
        ("probe", ["--train", "--test", "--val"]),
    ],
)
def test_empty_values_are_refused(command, options, value, clipjax, complains):
    for option in options:
        complains(clipjax(command, option, value), f"{option}: the value is empty")


@pytest.mark.parametrize("arguments", [("convert", "", "x"), ("convert", "x", ""), ("inspect", ""),
                                       ("data", "prepare", "", "x"), ("data", "prepare", "x", "")])  # fmt: skip
def test_empty_paths_are_refused(arguments, clipjax, complains):
    complains(clipjax(*arguments), "the value is empty")


def test_mistakes_are_one_line_and_status_2(clipjax, complains, monkeypatch):
    failing(monkeypatch, DataError("photos: no images\n   in there; look elsewhere"))
    complains(clipjax("inspect", "x"), "clipjax: error: photos: no images in there; look elsewhere")


def test_operating_system_errors_are_one_line(clipjax, complains, monkeypatch):
    failing(monkeypatch, PermissionError(errno.EACCES, "Permission denied", "secret.txt"))
    complains(clipjax("inspect", "x"), "secret.txt: Permission denied")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.")]
)
def test_full_memory_is_one_line_with_a_remedy(error, clipjax, complains, monkeypatch):
    failing(monkeypatch, error)
    complains(clipjax("inspect", "x"), "out of memory; use smaller batches (--batch-size")


def test_missing_accelerator_is_one_line(clipjax, complains, monkeypatch):
    failing(monkeypatch, RuntimeError("Unable to initialize backend 'cuda': no device\nmore"))
    complains(clipjax("inspect", "x"), "'cuda': no device; unset JAX_PLATFORMS")


def test_bugs_keep_their_traceback(clipjax, monkeypatch):
    failing(monkeypatch, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        clipjax("inspect", "x")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_unwind_to_one_line_and_the_shells_status(number, status, clipjax, complains, monkeypatch):
    cleaned = []

    def run(args):
        try:
            signal.raise_signal(number)
        finally:
            cleaned.append(True)

    monkeypatch.setattr(inspect, "run", run)
    complains(clipjax("inspect", "x"), "interrupted; nothing was written", status=status)
    assert cleaned


def test_signal_that_comes_out_as_another_exception_is_still_an_interruption(clipjax, complains, monkeypatch):
    def run(args):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("an extension failed") from None

    monkeypatch.setattr(inspect, "run", run)
    complains(clipjax("inspect", "x"), "interrupted", status=130)


def test_signal_in_a_garbage_collection_arrives_after_it(clipjax, complains, monkeypatch):
    class Collected:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def run(args):
        thing = Collected()
        del thing
        signal.pause()

    monkeypatch.setattr(inspect, "run", run)
    complains(clipjax("inspect", "x"), "interrupted", status=130)


def test_signal_handlers_are_put_back(clipjax, monkeypatch):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(inspect, "run", lambda args: None)
    clipjax("inspect", "x")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_signal_that_the_parent_ignores_stays_ignored(clipjax, monkeypatch):
    monkeypatch.setattr(inspect, "run", lambda args: signal.raise_signal(signal.SIGINT))
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert clipjax("inspect", "x").status == 0
    finally:
        signal.signal(signal.SIGINT, former)


def test_interruption_on_a_terminal_begins_a_line_of_its_own(clipjax, monkeypatch):
    monkeypatch.setattr(inspect, "run", lambda args: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr(sys.stderr.__class__, "isatty", lambda self: True, raising=False)
    assert clipjax("inspect", "x").err.startswith("\nclipjax: interrupted")


def program(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "clipjax.cli.main", *map(str, arguments)], text=True, **options)


def test_reader_that_leaves_early_is_no_error(checkpoint):
    reading, writing = os.pipe()
    os.close(reading)
    done = program("inspect", checkpoint, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
def test_full_disk_behind_standard_output_is_one_line(checkpoint):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = program("inspect", checkpoint, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, "clipjax: error: output: No space left on device\n")


def test_names_that_the_terminal_cannot_show_are_escaped(checkpoint, monkeypatch):
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(inspect, "run", lambda args: print("größe"))
    assert main.main(["inspect", "x"]) == 0
    assert output.buffer.getvalue() == b"gr\\xf6\\xdfe\n"


def test_parser_names_the_program_whatever_file_runs_it():
    assert build_parser().prog == "clipjax"
