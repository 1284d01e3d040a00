"""The `clipjax` command: find the subcommand, run it, turn mistakes into one line and exit status 2.

Subcommands import what they need when they run, so that `clipjax --help` does not wait for jax.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from clipjax.cli import convert, data, doctor, embed, inspect, probe, retrieve, zeroshot
from clipjax.errors import ClipjaxError

SUBCOMMANDS = (doctor, convert, inspect, embed, zeroshot, retrieve, probe, data)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="clipjax",
        description="CLIP in JAX: convert checkpoints, embed and classify images, and measure it.",
        epilog="`clipjax COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"clipjax {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in SUBCOMMANDS:
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    args = build_parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except ClipjaxError as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        hint = getattr(args, "interrupted", "nothing was written")
        print(f"\nclipjax {args.command}: interrupted; {hint}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of our output (head, less) has left; keep the interpreter from complaining about it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _complain("out of memory; use a smaller --batch-size or a machine with more")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}")


def _complain(message: str) -> int:
    print(f"clipjax: error: {message}", file=sys.stderr)
    return 2


def _version() -> str:
    from importlib.metadata import version

    return version("clipjax")


if __name__ == "__main__":
    sys.exit(main())
