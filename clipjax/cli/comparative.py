"""clipjax comparative --weights RUN/model --images birds/ --test split=test --sentences pairs.csv"""

import argparse
import csv
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from clipjax.cli.options import (
    add_classes,
    add_images,
    add_json,
    add_weights,
    given,
    load_model,
    load_text_side,
    note_cut_texts,
    positive,
    report_skipped,
    share,
    skipped_as_json,
)
from clipjax.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, Int

    from clipjax.data.class_pairs import ClassSentence
    from clipjax.data.classes import ClassList
    from clipjax.data.source import ImageSource
    from clipjax.evaluation.comparative import Comparative

ALPHA = 0.9
"""The released code's default."""

PAPER = "pairs were chosen by errors on the images that are measured: the paper's protocol, and not zero-shot"


class Part(NamedTuple):
    """Embedded images and the positions of their classes."""

    images: "Float[np.ndarray, 'images dim']"
    labels: "Int[np.ndarray, ' images']"


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "comparative",
        help="correct class weights by sentences about confused classes, and measure what that changes",
        description="Comparative prompting (PC-CLIP): a sentence says how a first class looks other than a second, "
        "and moves the weight of the second. Without --sentences the most frequent confusions are listed as CSV, to "
        "write sentences about.",
    )
    add_weights(parser)
    add_images(parser)
    add_classes(parser)
    parser.add_argument(
        "--by-position", action="store_true", help="let label 0 mean the first class of --classes and so on"
    )
    for name, what in (
        ("test", "which images to measure (default: all)"),
        ("val", "which images choose the pairs (with --pairs-from val) and alpha (unless --alpha is given)"),
    ):
        parser.add_argument(f"--{name}", type=given, metavar="COLUMN=VALUE", help=what)
    parser.add_argument("--sentences", type=given, metavar="CSV", help="lines of first,second,sentence about classes")
    parser.add_argument(
        "--pairs-from", choices=("file", "val", "test"), default="file",
        help="which pairs count: all of --sentences, or the most frequent confusions of the validation images, or of "
        "the images that are measured, which is the paper's protocol and not zero-shot (default: file)",
    )  # fmt: skip
    parser.add_argument("--count", type=positive, default=3, metavar="N", help="so many confusions (default: 3)")
    parser.add_argument(
        "--alpha", type=share, metavar="A",
        help=f"how much of a class's own weight is kept (default: the best on --val, else {ALPHA})",
    )  # fmt: skip
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    import numpy as np

    from clipjax.classify.classifier import mean_class_weights
    from clipjax.classify.embed import embed_images, embed_texts
    from clipjax.cli.classification import labels_of
    from clipjax.cli.console import progress
    from clipjax.cli.zeroshot import classes_and_texts
    from clipjax.data.class_pairs import read_class_pairs
    from clipjax.evaluation.comparative import mean_difference_distance, pairs_of_confusion

    if args.pairs_from == "val" and args.val is None:
        raise ConfigError("--pairs-from val needs --val COLUMN=VALUE, which says which images choose")
    if args.pairs_from == "file" and args.sentences is None:
        raise ConfigError(
            "give --sentences CSV, or list the classes to write about with --pairs-from val or --pairs-from test"
        )
    source, classes, texts = classes_and_texts(args)
    written = None if args.sentences is None else read_class_pairs(args.sentences, classes)
    sources = _parts(args, source)
    if written is None:
        sources = {args.pairs_from: sources[args.pairs_from]}
    labels = {name: labels_of(part, classes, by_position=args.by_position) for name, part in sources.items()}
    model, params = load_model(args, needs=("vision", "text"))
    tokenizer = load_text_side(args, model)
    counts = [len(own) for own in texts]
    told = [text for own in texts for text in own]
    rows = embed_texts(model, params, tokenizer, told, progress=progress)
    weights = np.asarray(mean_class_weights(rows, counts))
    parts, skipped = {}, []
    for name, part in sources.items():
        images, kept, bad = embed_images(
            model, params, part, batch_size=args.batch_size, skip_bad=args.skip_bad, progress=progress
        )
        parts[name] = Part(images, labels[name][kept])
        skipped += bad
    confused = None
    if args.pairs_from != "file":
        chosen = parts[args.pairs_from]
        confused = pairs_of_confusion(chosen.images, chosen.labels, weights, args.count)
        if not len(confused):
            raise DataError(
                f"{source.name}: no image of --{args.pairs_from} is taken for another class; nothing is to be corrected"
            )
    if written is None:
        assert confused is not None
        _list(args, confused.tolist(), classes)
    else:
        used = written if confused is None else _about(str(args.sentences), written, confused.tolist(), classes)
        pairs = np.array([one[:2] for one in used])
        differences = embed_texts(model, params, tokenizer, [one.text for one in used])
        # unlike weights not of unit length, as the paper measures it
        plain = np.stack([own.mean(0) for own in np.split(rows, np.cumsum(counts)[:-1])])
        distance = mean_difference_distance(plain, pairs, differences)
        _measure(args, parts, weights, pairs, differences, _Said(source.name, used, classes, distance, skipped))
        note_cut_texts(tokenizer, [*told, *(one.text for one in used)])
    report_skipped(skipped)


class _Said(NamedTuple):
    """What is told beside the accuracies."""

    source: str
    used: "list[ClassSentence]"
    classes: "ClassList"
    distance: float
    skipped: list[Any]


def _parts(args: argparse.Namespace, source: "ImageSource") -> "dict[str, ImageSource]":
    from clipjax.cli.parts import part_of

    if args.val is None:
        return {"test": source if args.test is None else part_of(source, "test", args.test)}
    if args.test is None:
        raise ConfigError("--val needs --test COLUMN=VALUE as well, so that no image both chooses and is measured")
    parts = {name: part_of(source, name, getattr(args, name)) for name in ("test", "val")}
    if shared := len(set(parts["test"].ids) & set(parts["val"].ids)):
        raise DataError(
            f"{source.name}: {shared:,} images are in both --test and --val; choose by others than measured"
        )
    return parts


def _about(
    path: str, written: "list[ClassSentence]", pairs: list[list[int]], classes: "ClassList"
) -> "list[ClassSentence]":
    """Keep the sentences about some pairs.

    Raises:
      DataError: a pair has none.
    """
    from clipjax.data.textfile import examples

    known = {(one.first, one.second) for one in written}
    absent = [",".join(classes.names[place] for place in pair) for pair in pairs if tuple(pair) not in known]
    if absent:
        raise DataError(
            f"{path}: has no sentence about {examples(absent, 10)} (first,second), which are confused most; write one, "
            "or lower --count"
        )
    return [one for one in written if [one.first, one.second] in pairs]


def _list(args: argparse.Namespace, pairs: list[list[int]], classes: "ClassList") -> None:
    """Print pairs as a file of sentences that are still to be written."""
    from clipjax.cli.console import note, print_json
    from clipjax.data.class_pairs import HEADER

    named = [[classes.names[place] for place in pair] for pair in pairs]
    if args.json:
        print_json({"pairs_from": args.pairs_from, "pairs": named})
    else:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows([*pair, ""] for pair in named)
    note("write how each first class looks other than the second, and pass the lines with --sentences")


def _measure(
    args: argparse.Namespace,
    parts: dict[str, Part],
    weights: "Float[np.ndarray, 'classes dim']",
    pairs: "Int[np.ndarray, 'pairs 2']",
    differences: "Float[np.ndarray, 'pairs dim']",
    said: _Said,
) -> None:
    from clipjax.cli.console import note, print_json, print_table
    from clipjax.evaluation.comparative import ALPHAS, best_alpha, comparative_prompting

    sweep = sorted({*ALPHAS, ALPHA if args.alpha is None else args.alpha})
    found = {
        name: comparative_prompting(*part, weights, pairs, differences, alphas=sweep) for name, part in parts.items()
    }
    chosen = args.alpha is None and "val" in found
    alpha = best_alpha(found["val"]) if chosen else ALPHA if args.alpha is None else args.alpha
    rows = [_row(one, *others) for one, *others in zip(*(found[name] for name in parts))]
    own, plain = (next(row for row in rows if row["alpha"] == a) for a in (alpha, 1.0))
    if args.json:
        named = [[said.classes.names[one.first], said.classes.names[one.second], one.text] for one in said.used]
        accuracies = {name: own[name] for name in ("top1", "subset")}
        before = {f"zero_shot_{name}": plain[name] for name in accuracies}
        print_json(
            {
                "images": len(parts["test"].labels),
                "pairs_from": args.pairs_from,
                "paper_protocol": args.pairs_from == "test",
                "alpha": alpha,
                "alpha_from": "val" if chosen else "fixed",
                **accuracies,
                **before,
                "distance": said.distance,
                "sweep": rows,
                "sentences": named,
                "skipped": skipped_as_json(said.skipped),
            }
        )
        return
    columns = ["alpha", "top-1 %", "within the pairs' classes %", *(["validation top-1 %"] if "val" in parts else [])]
    table = [["" if value is None else value for value in row.values()] for row in rows]
    print_table(f"comparative prompting on {said.source} with {args.weights}", columns, table)
    how = "best on the validation images" if chosen else "fixed"
    note(f"alpha {alpha:g} ({how}): {own['top1']:.2f} %, zero-shot {plain['top1']:.2f} %")
    note(
        f"{len(said.used)} sentences are {said.distance:.3f} from the differences of their classes' texts, "
        f"{2 - said.distance:.3f} from the reversed ones"
    )
    if args.pairs_from == "test":
        note(PAPER)


def _row(measured: "Comparative", validated: "Comparative | None" = None) -> dict[str, float | None]:
    subset = None if measured.subset != measured.subset else 100 * measured.subset
    row = {"alpha": measured.alpha, "top1": 100 * measured.accuracy, "subset": subset}
    return row if validated is None else row | {"validation_top1": 100 * validated.accuracy}
