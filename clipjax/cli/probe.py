"""clipjax probe --weights ViT-B-32.pt --images data/ --train split=train --test split=test"""

import argparse
from typing import TYPE_CHECKING

from clipjax.cli.options import (
    add_images,
    add_json,
    add_weights,
    given,
    load_model,
    natural,
    open_images,
    positive,
    report_skipped,
    skipped_as_json,
)

if TYPE_CHECKING:
    from clipjax.data.source import ImageSource

COLUMNS = {
    "train_images": "images fitted",
    "test_images": "test images",
    "C": "C",
    "top1": "top-1 %",
    "top5": "top-5 %",
    "mean_per_class": "mean per class %",
}


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "probe",
        help="linear probe: logistic regression on image embeddings",
        description="Fit logistic regression (L-BFGS, the CLIP paper's sweep of C) on embeddings of labelled images.",
    )
    add_weights(parser)
    add_images(parser)
    for name, default, what in (
        ("train", "split=train", "which images to fit (default: split=train)"),
        ("test", "split=test", "which images to measure (default: split=test)"),
        ("val", None, "which images choose C; fitted too unless --shots is given (default: a fifth of train)"),
    ):
        parser.add_argument(f"--{name}", type=given, default=default, metavar="COLUMN=VALUE", help=what)
    parser.add_argument("--shots", type=positive, metavar="K", help="fit only K images of each class")
    parser.add_argument("--seed", type=natural, default=0, help="for --shots and the validation part (default: 0)")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    import warnings

    import numpy as np

    from clipjax.classify.embed import embed_images
    from clipjax.classify.linear_probe import linear_probe
    from clipjax.cli.console import note, print_json, print_table, progress
    from clipjax.evaluation import mean_per_class_accuracy, top_k_accuracy

    source = open_images(args)
    parts = _parts(args, source)
    remarks = _overlaps(parts, args.shots)
    model, params = load_model(args, needs=("vision",))
    features, labels, skipped = {}, {}, []
    for name, part in parts.items():
        embeddings, rows, bad = embed_images(
            model, params, part, batch_size=args.batch_size, skip_bad=args.skip_bad, progress=progress
        )
        features[name] = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        labels[name] = part.labels[rows]
        skipped += bad
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said below
        probe = linear_probe(
            features["train"],
            labels["train"],
            features["test"],
            validation=(features["val"], labels["val"]) if "val" in parts else None,
            fit_validation=not args.shots,
            seed=args.seed,
            progress=progress,
        )
    # what is not a mistake is said at the end, so that a mistake is one line
    report_skipped(skipped)
    for remark in remarks:
        note(remark)
    if not probe.converged:
        note(f"the fit at C={probe.C:.3g} did not converge; its accuracy may be a little low")
    result = {"train_images": probe.fitted, "test_images": len(labels["test"]), "C": probe.C}
    result["top1"] = 100 * float(np.mean(probe.predictions == labels["test"]))
    if np.isin(labels["test"], probe.classes).all():
        test = np.searchsorted(probe.classes, labels["test"])
        result["top5"] = 100 * top_k_accuracy(probe.scores, test, 5)
        result["mean_per_class"] = 100 * mean_per_class_accuracy(probe.scores, test)
    if args.json:
        sweep = [{"C": c, "accuracy": 100 * accuracy} for c, accuracy in probe.sweep]
        print_json({**result, "sweep": sweep, "converged": probe.converged, "skipped": skipped_as_json(skipped)})
        return
    values = [format(value, ".3g") if key == "C" else value for key, value in result.items()]
    print_table(f"linear probe on {source.name} with {args.weights}", [COLUMNS[key] for key in result], [values])


def _parts(args: argparse.Namespace, source: "ImageSource") -> "dict[str, ImageSource]":
    from clipjax.cli.parts import part_of
    from clipjax.data.source import UNKNOWN
    from clipjax.data.splits import few_shot
    from clipjax.errors import DataError

    parts = {}
    for name, pair in (("train", args.train), ("test", args.test), ("val", args.val)):
        if pair is None:
            continue
        parts[name] = part_of(source, name, pair)
        if (parts[name].labels == UNKNOWN).any():
            raise DataError(
                f"{source.name}: {name} images without a label; a probe needs class folders or a manifest with labels"
            )
    if args.shots:
        parts["train"] = few_shot(parts["train"], args.shots, args.seed)
    return parts


def _overlaps(parts: "dict[str, ImageSource]", shots: int | None) -> list[str]:
    """Remark on images that are measured and were known to the fit."""
    measured = set(parts["test"].ids)
    chosen = set(parts["val"].ids) if "val" in parts else set()
    fitted = set(parts["train"].ids) | (set() if shots else chosen)
    known = {"fitted": fitted & measured, "used to choose C": (chosen - fitted) & measured}
    return [
        f"{len(shared)} images are both {how} and measured, so the accuracy says little about others"
        for how, shared in known.items()
        if shared
    ]
