"""clipjax zeroshot --weights ViT-B-32.pt --images photos/ --classes classes.txt --labels"""

import argparse
from collections import Counter
from typing import TYPE_CHECKING

from clipjax.cli.options import (
    add_classes,
    add_images,
    add_json,
    add_weights,
    check_output,
    given,
    load_model,
    load_text_side,
    note_cut_texts,
    open_images,
    report_skipped,
    skipped_as_json,
)

if TYPE_CHECKING:
    from clipjax.evaluation.accuracy_report import AccuracyReport

DEFAULT_TEMPLATE = "a photo of a {}."


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "zeroshot",
        help="classify images by class names; measure the accuracy, or write predictions",
        description="Classify images by class names. With --labels print accuracies, without write predictions as CSV.",
    )
    add_weights(parser)
    add_images(parser)
    add_classes(parser)
    parser.add_argument("--labels", action="store_true", help="compare with the images' own labels")
    parser.add_argument(
        "--by-position", action="store_true",
        help="let label 0 mean the first class of --classes and so on, for data that calls its classes otherwise",
    )  # fmt: skip
    parser.add_argument(
        "-o",
        "--output",
        type=given,
        metavar="CSV",
        help="where predictions go (default: standard output without --labels)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    import numpy as np

    from clipjax.classify.embed import embed_images
    from clipjax.classify.zero_shot import zero_shot_classifier
    from clipjax.cli.console import note, print_json, progress
    from clipjax.cli.predictions import predictions, write_predictions
    from clipjax.data.textfile import examples
    from clipjax.evaluation.accuracy_report import accuracy_report

    if args.output:
        check_output(args, args.output, "file")
    source, classes, texts = _classes_and_texts(args)
    labels = _labels(source, classes, args.by_position) if args.labels else None
    model, params = load_model(args, needs=("vision", "text"))
    tokenizer = load_text_side(args, model)
    classifier = zero_shot_classifier(model, params, tokenizer, classes.names, texts, progress=progress)
    embeddings, rows, skipped = embed_images(
        model, params, source, batch_size=args.batch_size, skip_bad=args.skip_bad, progress=progress
    )
    scores = np.asarray(classifier.scores_of(embeddings))
    truth = None if labels is None else labels[rows]
    found = predictions([source.ids[int(row)] for row in rows], classes.names, scores, truth)
    if args.output or (truth is None and not args.json):
        write_predictions(args.output, found, overwrite=args.overwrite)
    # what is not a mistake is said at the end, so that a mistake is one line
    if not args.classes:
        note(f"{len(classes.names)} class names taken from the images: {examples(classes.names, 8)}")
    if shared := [name for (name, *_), times in Counter(classes.prompt_names).items() if times > 1]:
        note(f"classes that share a name are told apart by their position: {examples(shared, 8)}")
    note_cut_texts(tokenizer, [text for own in texts for text in own])
    report_skipped(skipped)
    if args.output:
        note(f"wrote {len(rows)} predictions to {args.output}")
    report = None if truth is None else accuracy_report(scores, truth, classes.names)
    if args.json:
        document = {"images": len(rows)} if report is None else report.document()
        listed = {} if args.output or report is not None else {"predictions": [p.document() for p in found]}
        print_json({**document, **listed, "skipped": skipped_as_json(skipped)})
    elif report is not None:
        _print(f"zero-shot on {source.name} with {args.weights}", report)


def _classes_and_texts(args: argparse.Namespace):
    from clipjax.classify.class_texts import class_list_of, class_texts
    from clipjax.data.classes import read_classes, read_descriptions, read_templates

    templates = [template for spec in args.template for template in read_templates(spec)]
    # a class list is checked before the images are looked at, which may take a while
    classes = read_classes(args.classes) if args.classes else None
    source = open_images(args)
    classes = classes or class_list_of(source)
    names = list(dict.fromkeys(name for name, *_ in classes.prompt_names))
    descriptions = read_descriptions(args.descriptions, names) if args.descriptions else None
    if not templates and descriptions is None:
        templates = [classes.template or DEFAULT_TEMPLATE]
    return source, classes, class_texts(classes.prompt_names, templates, descriptions)


def _labels(source, classes, by_position: bool):
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
