"""The `clipjax` command: find the subcommand, run it, turn mistakes into one line and exit status 2.

Subcommands import what they need when they run, so that `clipjax --help` does not wait for jax.
"""

import argparse
import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

from clipjax.cli import (
    adapt,
    comparative,
    compare,
    convert,
    data,
    differences,
    doctor,
    embed,
    export,
    fewshot,
    inspect,
    plan,
    predict,
    probe,
    quickstart,
    rank,
    report,
    retrieve,
    serve,
    texts,
    train,
    zeroshot,
)
from clipjax.errors import ClipjaxError, Stopped

SUBCOMMANDS = (
    quickstart,
    doctor,
    convert,
    inspect,
    embed,
    zeroshot,
    retrieve,
    rank,
    differences,
    comparative,
    probe,
    adapt,
    predict,
    export,
    fewshot,
    report,
    serve,
    compare,
    train,
    plan,
    data,
    texts,
)

MISTAKE = 2
"""The exit status after a mistake that the user can mend. After Ctrl-C it is 130, as in a shell."""

RESTART = 75
"""The exit status of `adapt` and `train` when they were asked to stop (EX_TEMPFAIL): started again, they go on."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the arguments and exit."""
        print(f"clipjax: error: {message}; see `{self.prog} --help`", file=sys.stderr)
        sys.exit(MISTAKE)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line."""
    parser = Parser(
        prog="clipjax",
        description="CLIP in JAX: convert it, measure it, and adapt it to your own images, with or without labels.",
        epilog="`clipjax COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"clipjax {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in SUBCOMMANDS:
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    args = argparse.Namespace(words=tuple(sys.argv[1:] if argv is None else argv))  # runs remember their command
    with _signals_unwind() as received:
        try:
            build_parser().parse_args(argv, args)
            return _run(args)
        except BaseException:
            if not received:  # else whatever it is: extensions make other exceptions of a KeyboardInterrupt
                raise
    start = "\n" if sys.stderr.isatty() else ""  # the terminal has written ^C
    hint = getattr(args, "interrupted", "nothing was written")
    print(f"{start}clipjax: interrupted; {hint}", file=sys.stderr)
    status = RESTART if getattr(args, "resumes", False) else 128 + received[0]
    if argv is None:
        # at once: threads of jax, Grain and Orbax are still at work, and would complain or crash
        sys.stderr.flush()
        os._exit(status)
    return status


def _run(args: argparse.Namespace) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # names from file systems and data sets may hold what the terminal's encoding does not
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = args.run(args) or 0
        sys.stdout.flush()
        return status
    except Stopped as error:
        print(f"clipjax: {error}", file=sys.stderr)
        return RESTART
    except ClipjaxError as error:
        return _complain(str(error))
    except BrokenPipeError:
        _discard_output()  # its reader (head, less) has left
        return 0
    except MemoryError:
        return _complain(
            "out of memory; use smaller batches (--batch-size, or the setting batch_size) or a machine with more"
        )
    except OSError as error:
        if error.filename is None:
            _discard_output()
        return _complain(f"{error.filename or 'output'}: {error.strerror or error}")
    except RuntimeError as error:
        # jax has no finer kinds for an accelerator that is full or absent
        if "RESOURCE_EXHAUSTED" in str(error):
            return _complain(
                "the device is out of memory; use smaller batches (--batch-size, the setting batch_size) or bfloat16"
            )
        if "Unable to initialize backend" in str(error):
            return _complain(f"{str(error).splitlines()[0]}; unset JAX_PLATFORMS, or install jax for the device")
        raise


@contextlib.contextmanager
def _signals_unwind() -> Iterator[list[int]]:
    """Let Ctrl-C and SIGTERM, which batch systems send, unwind so that nothing half-written stays.

    Yields a list that holds the signals received.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def unwind(number: int, frame: FrameType | None) -> None:
        if _deaf(frame):
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
            return
        received.append(number)
        raise KeyboardInterrupt

    heard = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    former = {number: signal.signal(number, unwind) for number in heard}
    try:
        yield received
    finally:
        for number, handler in former.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _deaf(frame: FrameType | None) -> bool:
    """Tell whether an exception would go wrong here: garbage collections drop it, extensions crash when imported."""
    while frame is not None:
        code = frame.f_code
        if code.co_name in ("_xla_gc_callback", "__del__") or code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _complain(message: str) -> int:
    print(f"clipjax: error: {message}", file=sys.stderr)
    return MISTAKE


def _discard_output() -> None:
    """Keep the interpreter from failing on unwritten output when it exits."""
    with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("clipjax")
    except PackageNotFoundError:
        return "from a source tree that is not installed"


if __name__ == "__main__":
    sys.exit(main())
