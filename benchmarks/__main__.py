"""Run every measurement beside PyTorch, keep the results, and write the tables of docs/benchmarks.md from them.

    python -m benchmarks --list                  # names, expected minutes, commands
    python -m benchmarks                         # all that have not been measured by this code on this machine
    python -m benchmarks --only encode load
    python -m benchmarks --tables                # write the tables anew, measure nothing

Each measurement is a process of its own and its result is kept as soon as it ends: a command that was stopped goes on
when it is repeated. All run on CPUs. The exit status is 1 where a measurement failed, 2 where something is missing.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.needs import missing
from benchmarks.results import Result, add_result, check_page, read_results, same_place, write_page
from benchmarks.side_by_side import MEASUREMENTS, Measurement
from clipjax.errors import ClipjaxError

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "benchmarks.md"
RESULTS = REPOSITORY / "docs" / "benchmarks.jsonl"
_DESCRIBE = "import json; from benchmarks.timing import machine; print(json.dumps(machine()))"


def main(words: Sequence[str] | None = None, measurements: Sequence[Measurement] = MEASUREMENTS) -> int:
    """Do what a command line says and return the exit status."""
    args = _parser(measurements).parse_args(words)
    wanted = [one for one in measurements if args.only is None or one.name in args.only]
    try:
        if args.list:
            print(_listed(wanted))
            return 0
        check_page(args.page)
        read_results(args.results)
        failed = 0 if args.tables else _run(wanted, args.results, again=args.again)
        write_page(args.page, read_results(args.results))
    except ClipjaxError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; what has ended is kept, and the same command goes on", file=sys.stderr)
        return 130
    return 1 if failed else 0


def code_version() -> str:
    """Return a digest of all code that a measurement may run: what another version measured is measured anew."""
    digest = hashlib.blake2b(digest_size=8)
    for folder in ("benchmarks", "clipjax"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            digest.update(f"{path.relative_to(REPOSITORY)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def describe_machine() -> Result:
    """Describe machine and versions as a measurement sees them, in a process that gives everything back."""
    return json.loads(_python(["-c", _DESCRIBE]))


def _run(wanted: Sequence[Measurement], path: Path, *, again: bool) -> int:
    absent = missing(dict.fromkeys(need for one in wanted for need in one.needs))
    if absent:
        raise ClipjaxError("; ".join(absent))
    code, machine = code_version(), describe_machine()
    failed = 0
    for one in wanted:
        known = {"name": one.name, "command": one.command, "code": code}
        earlier = [r for r in read_results(path) if known.items() <= r.items() and same_place(r["machine"], machine)]
        if earlier and not again:
            print(f"{one.name}: measured on {earlier[-1]['date']}; --again repeats it", file=sys.stderr)
            continue
        print(f"{one.name}: {one.command} (about {one.minutes} min)", file=sys.stderr)
        try:
            measured = _measured(one)
        except ClipjaxError as error:
            print(f"{one.name}: {error}", file=sys.stderr)
            failed += 1
            continue
        result = {**known, "date": time.strftime("%Y-%m-%d"), **measured, "machine": machine}
        add_result(path, result)
        print(json.dumps(result), flush=True)
    return failed


def _measured(one: Measurement) -> Result:
    start = time.monotonic()
    printed = _python(one.arguments)
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    ratios = one.numbers(lines)
    if not ratios:
        raise ClipjaxError("printed no JSON line with a ratio; nothing is kept")
    return {"seconds": round(time.monotonic() - start, 1), "ratios": ratios, "lines": lines}


def _python(arguments: list[str]) -> str:
    environment = {"JAX_PLATFORMS": "cpu", **os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        print(done.stdout, end="", file=sys.stderr)
        raise ClipjaxError(f"ended with status {done.returncode}; nothing is kept, and the same command tries it again")
    return done.stdout


def _listed(measurements: Sequence[Measurement]) -> str:
    width = max(len(one.name) for one in measurements)
    rows = [f"{one.name:{width}}  {one.minutes:3} min  {one.command}" for one in measurements]
    total = sum(one.minutes for one in measurements)
    return "\n".join([*rows, f"{'all':{width}}  {total:3} min on two cores with nothing else running"])


def _parser(measurements: Sequence[Measurement]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [one.name for one in measurements]
    parser.add_argument("--list", action="store_true", help="print names, expected minutes and commands")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="these alone")
    parser.add_argument("--again", action="store_true", help="also what has been measured")
    parser.add_argument("--tables", action="store_true", help="write the tables from the results, measure nothing")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="JSON lines")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="Markdown with markers")
    return parser


if __name__ == "__main__":
    sys.exit(main())
