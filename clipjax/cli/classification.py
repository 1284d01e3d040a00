"""Classify images and say what came out: predictions as CSV, or accuracies where the images have labels."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from clipjax.cli.options import add_json, check_output, given, report_skipped, skipped_as_json

if TYPE_CHECKING:
    from clipjax.classify.classifier import Classifier
    from clipjax.classify.ensemble import Ensemble
    from clipjax.data.classes import ClassList
    from clipjax.data.source import ImageSource
    from clipjax.evaluation.accuracy_report import AccuracyReport


def add_outcome(parser: argparse.ArgumentParser, *, by_position: str) -> None:
    """Add the flags that say what is wanted: accuracies or predictions, and where they go."""
    parser.add_argument("--labels", action="store_true", help="compare with the images' own labels")
    parser.add_argument(
        "--by-position", action="store_true", help=f"{by_position}, for data that calls its classes otherwise"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=given,
        metavar="CSV",
        help="where predictions go (default: standard output without --labels)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    add_json(parser)


def check_output_of(args: argparse.Namespace) -> None:
    """Refuse an output that exists before any work is done."""
    if args.output:
        check_output(args, args.output, "file")


def classify(
    args: argparse.Namespace,
    classifier: "Classifier | Ensemble",
    source: "ImageSource",
    labels,
    *,
    title: str,
    remarks: Callable[[], None] = lambda: None,
) -> None:
    """Write predictions, and print accuracies if there are `labels` (positions in the classifier's class names).

    `remarks` prints what is no mistake; it comes at the end, so that a mistake is one line.
    """
    from clipjax.classify.embed import score_images
    from clipjax.cli.console import note, print_json, progress
    from clipjax.cli.predictions import predictions, write_predictions
    from clipjax.evaluation.accuracy_report import accuracy_report

    scores, rows, skipped = score_images(
        classifier,
        source,
        batch_size=args.batch_size,
        skip_bad=args.skip_bad,
        progress=progress,
    )
    names = classifier.class_names
    truth = None if labels is None else labels[rows]
    found = predictions([source.ids[int(row)] for row in rows], names, scores, truth)
    if args.output or (truth is None and not args.json):
        write_predictions(args.output, found, overwrite=args.overwrite)
    remarks()
    report_skipped(skipped)
    if args.output:
        note(f"wrote {len(rows)} predictions to {args.output}")
    report = None if truth is None else accuracy_report(scores, truth, names)
    if args.json:
        document = {"images": len(rows)} if report is None else report.document()
        listed = {} if args.output or report is not None else {"predictions": [p.document() for p in found]}
        print_json({**document, **listed, "skipped": skipped_as_json(skipped)})
    elif report is not None:
        _print(title, report)


def labels_of(source: "ImageSource", classes: "ClassList", *, by_position: bool):
    """Return the images' labels as positions in the class list.

    Raises:
      DataError: they do not fit the list, or fit it by number alone and `by_position` is false.
    """
    from clipjax.cli.console import note
    from clipjax.data.classes import labels_for
    from clipjax.data.textfile import examples
    from clipjax.errors import DataError

    labels, matched = labels_for(source, classes)
    if matched == "by position":
        # two lists of ten classes fit each other by number alone: a mix-up would pass for a bad model
        if any(source.classnames) and not by_position:
            theirs = [name for name in dict.fromkeys(source.classnames) if name not in classes.names]
            raise DataError(
                f"{source.name}: class names {examples(theirs)} are not in the class list "
                f"({examples(classes.names)}); choose the right list, write it as a JSON object "
                '{"name in the data": "name in the prompt"}, or pass --by-position if the order is the same'
            )
        note("labels were matched to the class list by position")
    return labels


def _print(title: str, report: "AccuracyReport") -> None:
    from clipjax.cli.console import print_table

    measures = [report.images, report.top1, report.top5, report.mean_per_class, report.ece]
    print_table(title, ["images", "top-1 %", "top-5 %", "mean per class %", "ECE %"], [measures])
    rows = [
        (row.name, row.images, row.accuracy, f"{row.taken_for[0]} ({row.taken_for[1]})" if row.taken_for else "")
        for row in report.classes()
    ]
    print_table("classes, weakest first", ["class", "images", "accuracy %", "most often taken for"], rows)
