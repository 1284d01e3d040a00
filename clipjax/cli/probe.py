"""clipjax probe --weights ViT-B-32.pt --images data/ --train split=train --test split=test"""

import argparse

from clipjax.cli.options import (
    add_images,
    add_json,
    add_weights,
    load_model,
    open_images,
    positive,
    report_skipped,
    skipped_as_json,
)


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "probe",
        help="linear probe: logistic regression on image embeddings",
        description="Fit logistic regression (L-BFGS, the CLIP paper's sweep of C) on embeddings of labelled images.",
    )
    add_weights(parser)
    add_images(parser)
    parser.add_argument(
        "--train",
        default="split=train",
        metavar="COLUMN=VALUE",
        help="which images to fit (default: split=train)",
    )
    parser.add_argument(
        "--test",
        default="split=test",
        metavar="COLUMN=VALUE",
        help="which images to measure (default: split=test)",
    )
    parser.add_argument(
        "--val", metavar="COLUMN=VALUE", help="which images choose C (default: a fifth of the train images)"
    )
    parser.add_argument("--shots", type=positive, metavar="K", help="fit only K images of each class")
    parser.add_argument("--seed", type=int, default=0, help="for --shots and the validation part (default: 0)")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    import numpy as np

    from clipjax.classify.embed import embed_images
    from clipjax.cli.console import print_json, print_table, progress
    from clipjax.cli.options import conditions
    from clipjax.data.source import UNKNOWN
    from clipjax.data.splits import few_shot
    from clipjax.errors import DataError
    from clipjax.evaluation import mean_per_class_accuracy, top_k_accuracy
    from clipjax.evaluation.linear_probe import linear_probe

    source = open_images(args)
    parts = {}
    for name, pair in (("train", args.train), ("test", args.test), ("val", args.val)):
        if pair:
            parts[name] = source.where(**conditions([pair]))
            if (parts[name].labels == UNKNOWN).any():
                raise DataError(f"{source.name}: {name} images without a label; a probe needs labels")
    if args.shots:
        parts["train"] = few_shot(parts["train"], args.shots, args.seed)
    model, params = load_model(args)
    features, labels, skipped = {}, {}, []
    for name, part in parts.items():
        embeddings, rows, bad = embed_images(
            model, params, part, batch_size=args.batch_size, skip_bad=args.skip_bad, progress=progress
        )
        features[name] = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        labels[name] = part.labels[rows]
        skipped += bad
    report_skipped(skipped)
    validation = (features["val"], labels["val"]) if "val" in parts else None
    probe = linear_probe(
        features["train"],
        labels["train"],
        features["test"],
        validation=validation,
        seed=args.seed,
        progress=progress,
    )
    result = {
        "train_images": len(labels["train"]),
        "test_images": len(labels["test"]),
        "C": probe.C,
        "top1": 100 * float(np.mean(probe.predictions == labels["test"])),
    }
    position = {label: i for i, label in enumerate(probe.classes.tolist())}
    known = np.array([label in position for label in labels["test"].tolist()])
    if known.all():
        test = np.array([position[label] for label in labels["test"].tolist()])
        result["top5"] = 100 * top_k_accuracy(probe.scores, test, 5)
        result["mean_per_class"] = 100 * mean_per_class_accuracy(probe.scores, test)
    if args.json:
        sweep = [{"C": c, "accuracy": 100 * accuracy} for c, accuracy in probe.sweep]
        print_json({**result, "sweep": sweep, "converged": probe.converged, "skipped": skipped_as_json(skipped)})
        return
    names = {"train_images": "train images", "test_images": "test images", "top1": "top-1 %", "top5": "top-5 %",
             "mean_per_class": "mean per class %"}  # fmt: skip
    values = [format(v, ".3g") if k == "C" else v for k, v in result.items()]
    print_table(f"linear probe on {source.name} with {args.weights}", [names.get(k, k) for k in result], [values])
