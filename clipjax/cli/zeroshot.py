"""clipjax zeroshot --weights ViT-B-32.pt --images photos/ --classes classes.txt --labels"""

import argparse
from collections import Counter
from typing import TYPE_CHECKING

from clipjax.cli.classification import add_outcome, check_output_of
from clipjax.cli.options import (
    add_classes,
    add_images,
    add_weights,
    load_model,
    load_text_side,
    note_cut_texts,
    open_images,
)

if TYPE_CHECKING:
    from clipjax.data.classes import ClassList
    from clipjax.data.source import ImageSource

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
    add_outcome(parser, by_position="let label 0 mean the first class of --classes and so on")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from clipjax.classify.zero_shot import zero_shot_classifier
    from clipjax.cli.classification import classify, labels_of
    from clipjax.cli.console import note, progress
    from clipjax.data.textfile import examples

    check_output_of(args)
    source, classes, texts = classes_and_texts(args)
    labels = labels_of(source, classes, by_position=args.by_position) if args.labels else None
    model, params = load_model(args, needs=("vision", "text"))
    tokenizer = load_text_side(args, model)
    classifier = zero_shot_classifier(model, params, tokenizer, classes.names, texts, progress=progress)

    def remarks() -> None:
        if not args.classes:
            note(f"{len(classes.names)} class names taken from the images: {examples(classes.names, 8)}")
        if shared := [name for (name, *_), times in Counter(classes.prompt_names).items() if times > 1]:
            note(f"classes that share a name are told apart by their position: {examples(shared, 8)}")
        note_cut_texts(tokenizer, [text for own in texts for text in own])

    classify(args, classifier, source, labels, title=f"zero-shot on {source.name} with {args.weights}", remarks=remarks)


def classes_and_texts(args: argparse.Namespace) -> "tuple[ImageSource, ClassList, list[list[str]]]":
    """Open the images, read or find the classes, and list the texts of each.

    Raises:
      DataError: files that cannot be read, or classes without a text.
    """
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
