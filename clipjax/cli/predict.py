"""clipjax predict RUN --images photos/"""

import argparse
from pathlib import Path

from clipjax.cli.classification import add_outcome, check_output_of
from clipjax.cli.options import add_compute, add_images, given, open_images


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "predict",
        help="classify new images with what `adapt` made",
        description="Classify images with an adapted classifier. With --labels print accuracies, without write "
        "predictions as CSV.",
    )
    parser.add_argument("classifier", type=given, metavar="RUN", help="the directory of `adapt`, or its model/")
    add_compute(parser)
    add_images(parser)
    add_outcome(parser, by_position="let label 0 mean the classifier's first class and so on")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from clipjax.classify.saved import load_classifier
    from clipjax.cli.classification import classify, labels_of
    from clipjax.cli.console import working
    from clipjax.data.classes import ClassList

    check_output_of(args)
    source = open_images(args)
    place = Path(args.classifier)
    with working(f"loading {place}"):
        saved = load_classifier(place / "model" if (place / "model").is_dir() else place)
    classifier = saved.with_dtype(args.dtype)
    classes = ClassList(classifier.class_names)
    labels = labels_of(source, classes, by_position=args.by_position) if args.labels else None
    classify(args, classifier, source, labels, title=f"{place} on {source.name}")
