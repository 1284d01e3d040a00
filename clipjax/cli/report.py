"""clipjax report RUN... -o report.html"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipjax.cli.options import add_json, given

if TYPE_CHECKING:
    from clipjax.evaluation.run_record import RunRecord


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "report",
        help="what `adapt` did, as one page to look at, keep and print",
        description="Write one self-contained HTML page about one or several runs: accuracies before and after, what "
        "changed for which class and image, calibration, pseudo-labels, learning curves, and how to repeat it.",
    )
    parser.add_argument("runs", nargs="+", type=given, metavar="RUN", help="directories of `adapt`")
    parser.add_argument("-o", "--output", required=True, type=given, metavar="HTML", help="the page")
    parser.add_argument("--title", type=given, metavar="TEXT", help="the page's title")
    parser.add_argument("--overwrite", action="store_true", help="replace the page if it exists")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from clipjax.cli.console import note, print_json
    from clipjax.outputs import check_free

    read = [part for run in args.runs for part in Path(run).glob("*") if part.suffix != ".html"]
    check_free(args.output, "file", overwrite=args.overwrite, made_from=read)
    records = write_report(args.runs, Path(args.output), title=args.title, overwrite=args.overwrite)
    for record in records:
        for remark in record.remarks:
            note(f"{record.folder}: {remark}")
    if args.json:
        print_json({"report": args.output, "runs": [_document(record) for record in records]})
    else:
        note(f"wrote {args.output}")


def write_report(
    runs: Sequence[str | Path], output: Path, *, title: str | None = None, overwrite: bool = False
) -> "list[RunRecord]":
    """Read runs, write the page about them, and return what was read.

    Raises:
      DataError: a directory holds no run.
      OutputError: the page cannot be written.
    """
    from clipjax.evaluation.report import report_page
    from clipjax.evaluation.run_record import read_run
    from clipjax.outputs import new_file

    records = [read_run(folder) for folder in dict.fromkeys(map(Path, runs))]
    methods = ", ".join(dict.fromkeys(record.method for record in records))
    page = report_page(records, title=title or f"Adapted with {methods}")
    with new_file(output, overwrite=overwrite) as staged:
        # names of files may hold what UTF-8 does not
        staged.write_text(page, encoding="utf-8", errors="replace")
    return records


def _document(record: "RunRecord") -> dict:
    accuracy = record.accuracy or {}
    top1 = {when: accuracy[when]["top1"] for when in ("before", "after") if when in accuracy}
    return {
        "run": str(record.folder),
        "method": record.method,
        "finished": record.finished,
        "top1": top1,
        "remarks": list(record.remarks),
    }
