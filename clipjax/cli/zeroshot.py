"""clipjax zeroshot --weights ViT-B-32.pt --images photos/ --classes classes.txt --labels"""

import argparse

from clipjax.cli.options import (
    add_classes,
    add_images,
    add_json,
    add_weights,
    load_model,
    load_text_side,
    open_images,
    report_skipped,
    skipped_as_json,
)

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
        "-o",
        "--output",
        metavar="CSV",
        help="where predictions go (default: standard output without --labels)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from clipjax.classify.class_texts import class_texts
    from clipjax.classify.embed import embed_images
    from clipjax.classify.zero_shot import zero_shot_classifier
    from clipjax.cli.console import note, progress
    from clipjax.cli.predictions import write_predictions
    from clipjax.data.classes import labels_for, read_classes, read_descriptions, read_templates
    from clipjax.outputs import check_free

    if args.output:
        check_free(args.output, overwrite=args.overwrite)
    classes = read_classes(args.classes)
    templates = [t for spec in args.template for t in read_templates(spec)]
    descriptions = read_descriptions(args.descriptions, classes.names) if args.descriptions else None
    if not templates and descriptions is None:
        templates = [classes.template or DEFAULT_TEMPLATE]
    texts = class_texts(classes.names, templates, descriptions)
    source = open_images(args)
    labels, matched = labels_for(source, classes) if args.labels else (None, None)
    model, params = load_model(args)
    classifier = zero_shot_classifier(model, params, load_text_side(args), classes.names, texts, progress=progress)
    embeddings, rows, skipped = embed_images(
        model, params, source, batch_size=args.batch_size, skip_bad=args.skip_bad, progress=progress
    )
    scores = _host(classifier.scores_of(embeddings))
    report_skipped(skipped)
    ids = [source.ids[row] for row in rows]
    if args.output or labels is None:
        write_predictions(args.output, ids, classes.names, scores, overwrite=args.overwrite)
        if args.output:
            note(f"wrote {len(ids)} predictions to {args.output}")
    if labels is not None:
        if matched == "by position":
            note("labels were matched to the class list by position, since their names differ")
        _print_accuracy(args, source.name, classes.names, scores, labels[rows], skipped)


def _host(scores):
    import numpy as np

    return np.asarray(scores)


def _print_accuracy(args, name, class_names, scores, labels, skipped) -> None:
    import numpy as np

    from clipjax.cli.console import print_json, print_table
    from clipjax.evaluation import (
        confusion_matrix,
        expected_calibration_error,
        mean_per_class_accuracy,
        per_class_accuracy,
        top_k_accuracy,
    )

    result = {
        "images": len(labels),
        "top1": 100 * top_k_accuracy(scores, labels, 1),
        "top5": 100 * top_k_accuracy(scores, labels, 5),
        "mean_per_class": 100 * mean_per_class_accuracy(scores, labels),
        "ece": 100 * expected_calibration_error(scores, labels),
    }
    per_class = 100 * per_class_accuracy(scores, labels)
    if args.json:
        accuracies = {c: None if np.isnan(a) else float(a) for c, a in zip(class_names, per_class)}
        confusion = confusion_matrix(scores, labels).tolist()
        print_json({**result, "per_class": accuracies, "confusion": confusion, "skipped": skipped_as_json(skipped)})
        return
    title = f"zero-shot on {name} with {args.weights}"
    print_table(title, ["images", "top-1 %", "top-5 %", "mean per class %", "ECE %"], [list(result.values())])
    confusion = confusion_matrix(scores, labels)
    rows = []
    for i in np.argsort(np.nan_to_num(per_class, nan=-1.0), kind="stable"):
        if confusion[i].sum() == 0:
            continue
        others = confusion[i].copy()
        others[i] = 0
        wrong = f"{class_names[others.argmax()]} ({others.max()})" if others.any() else ""
        rows.append((class_names[i], int(confusion[i].sum()), float(per_class[i]), wrong))
    print_table("classes, weakest first", ["class", "images", "accuracy %", "most often taken for"], rows)
