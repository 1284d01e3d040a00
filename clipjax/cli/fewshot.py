"""clipjax fewshot --method aape --weights ViT-B-32.pt --images caltech101.tar --shots 16 --protocol base-to-new"""

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from clipjax.cli.options import add_classes, add_images, add_json, given, positive
from clipjax.methods.registry import METHODS

if TYPE_CHECKING:
    from clipjax.classify.problem import Problem
    from clipjax.data.source import ImageSource
    from clipjax.evaluation.measured_images import MeasuredImages
    from clipjax.evaluation.protocols import Adapt, Adapted

PROTOCOLS = ("k-shot", "base-to-new", "pseudo-new")
_TITLES = {"top1": "top-1 %", "base": "base %", "new": "new %", "harmonic": "harmonic mean %"}


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "fewshot",
        help="few-shot protocols: K images of each class, base to new classes, other domains",
        description="Adapt to a few labelled images of each class, several times, and print mean accuracies. "
        "`k-shot` measures all classes; `base-to-new` adapts to the first half of them and measures both halves; "
        "`pseudo-new` does so within the first half, to choose settings on: measure it on images that you do not "
        "report on.",
    )
    parser.add_argument("--method", required=True, metavar="NAME", help=", ".join(METHODS))
    parser.add_argument("--weights", required=True, type=given, metavar="PATH", help="a checkpoint, or a hub name")
    add_images(parser)
    add_classes(parser)
    parser.add_argument("--texts", type=given, metavar="STORE", help="descriptions as `clipjax texts` writes them")
    parser.add_argument("--protocol", default="k-shot", choices=PROTOCOLS, help="default: k-shot")
    parser.add_argument(
        "--shots", type=positive, nargs="+", default=[16], metavar="K", help="images of each class (default: 16)"
    )
    parser.add_argument("--seeds", type=positive, default=3, metavar="N", help="repetitions (default: 3)")
    parser.add_argument("--test", type=given, metavar="PATH", help="labelled images to measure on (default: --images)")
    parser.add_argument("--test-split", type=given, metavar="NAME", help="measure on this split")
    parser.add_argument("--test-where", action="append", default=[], metavar="COLUMN=VALUE", help="likewise")
    parser.add_argument(
        "--other", action="append", default=[], metavar="COLUMN=VALUE",
        help="measure on these images of --images, too: another domain of the same classes (k-shot)",
    )  # fmt: skip
    parser.add_argument(
        "--other-images", action="append", default=[], type=given, metavar="PATH",
        help="measure on other images, too: of the same classes, of some of them, or of classes of their own (k-shot)",
    )  # fmt: skip
    parser.add_argument("--other-split", type=given, metavar="NAME", help="which split of --other-images")
    parser.add_argument("--by-position", action="store_true", help="let label 0 mean the first class of --classes")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the method")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="default: float32")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from clipjax.cli.adapt import nested
    from clipjax.cli.console import note, progress
    from clipjax.cli.other_images import others_of
    from clipjax.errors import ConfigError, DataError
    from clipjax.evaluation.few_shot import base_new_split
    from clipjax.evaluation.measured_images import MeasuredImages
    from clipjax.evaluation.protocols import base_to_new, k_shot, pseudo_new_split
    from clipjax.methods.registry import method_named
    from clipjax.training.settings import from_mapping

    settings = nested(args.set)
    if "seed" in settings:
        raise ConfigError("--set seed does nothing here: --seeds N repeats everything with the seeds 1 to N")
    config = from_mapping(method_named(args.method).Config, settings)
    if args.protocol != "k-shot" and (args.other or args.other_images):
        raise ConfigError("--other and --other-images belong to the protocol k-shot; leave out --protocol")
    problem, images = _opened(args)
    count = len(problem.class_names)
    least = {"k-shot": 2, "base-to-new": 4, "pseudo-new": 7}[args.protocol]
    if count < least:
        raise DataError(f"{count} classes are too few for {args.protocol}; it needs at least {least}")
    test = MeasuredImages(images, problem, progress)
    others = others_of(args, problem) if args.protocol == "k-shot" else {}
    results: list[dict[str, Any]] = []
    for shots in args.shots:
        for seed in range(1, args.seeds + 1):
            adapt = _adapter(args.method, config, seed)
            row: dict[str, Any] = {"shots": shots, "seed": seed}
            if args.protocol == "k-shot":
                row |= _k_shot_row(k_shot(problem, shots, seed, adapt), test, others)
            else:
                split = base_new_split if args.protocol == "base-to-new" else pseudo_new_split
                found = base_to_new(problem, test, shots, seed, adapt, split=split)
                row |= {"base": found.base, "new": found.new, "harmonic": found.harmonic}
            results.append(row)
            note(_said(row))
    _show(args, problem.shots.name if problem.shots is not None else args.images, results)


def _opened(args: argparse.Namespace) -> "tuple[Problem, ImageSource]":
    from clipjax.cli.console import progress
    from clipjax.cli.problem_files import ProblemFiles, open_problem
    from clipjax.data.classes import read_descriptions
    from clipjax.errors import DataError
    from clipjax.texts.collected import Texts

    if args.descriptions and args.texts:
        raise DataError("--descriptions and --texts both describe the classes; give one of them")
    if not (args.test or args.test_split or args.test_where):
        raise DataError("no images to measure on; choose some with --test, --test-split or --test-where")
    files = ProblemFiles(
        weights=args.weights,
        images=args.images,
        split=args.split,
        where=tuple(args.where),
        splits_file=args.splits_file,
        classes=args.classes,
        template=tuple(args.template),
        texts=args.texts,
        labels=True,
        test=args.test,
        test_split=args.test_split,
        test_where=tuple(args.test_where),
        by_position=args.by_position,
        skip_bad=args.skip_bad,
        dtype=args.dtype,
    )
    opened = open_problem(files, progress)
    assert opened.test is not None
    problem = opened.problem
    if args.descriptions:
        # what methods learn from; the class weights that they start from are those of the templates
        found = read_descriptions(args.descriptions, problem.class_names)
        written = {(name,): texts for name, texts in found.items()}
        problem = dataclasses.replace(problem, texts=Texts({"class_description": written}))
    return problem, opened.test


def _adapter(method: str, config: Any, seed: int) -> "Adapt":
    from clipjax.cli.console import progress
    from clipjax.methods.adapt import adapt
    from clipjax.training.run import Run

    own = dataclasses.replace(config, seed=seed) if hasattr(config, "seed") else config
    return lambda problem: adapt(method, problem, config=own, run=Run(progress=progress))


def _k_shot_row(
    classifier: "Adapted", test: "MeasuredImages", others: "dict[str, tuple[Problem, MeasuredImages]]"
) -> dict[str, float]:
    from clipjax.evaluation.protocols import elsewhere

    return {"top1": test.accuracy(classifier)} | {name: elsewhere(classifier, *other) for name, other in others.items()}


def _said(row: dict[str, Any]) -> str:
    measured = ", ".join(f"{_TITLES.get(name, name)} {row[name]:.2f}" for name in row if name not in ("shots", "seed"))
    return f"{row['shots']} shots, seed {row['seed']}: {measured}"


def _show(args: argparse.Namespace, name: str, results: list[dict[str, Any]]) -> None:
    import statistics

    from clipjax.cli.console import print_json, print_table

    measures = [key for key in results[0] if key not in ("shots", "seed")]
    rows = []
    for shots in args.shots:
        cells = []
        for measure in measures:
            values = [result[measure] for result in results if result["shots"] == shots]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}")
        rows.append([shots, *cells])
    if args.json:
        print_json({"method": args.method, "protocol": args.protocol, "results": results})
        return
    columns = ["shots", *(_TITLES.get(measure, measure) for measure in measures)]
    print_table(f"{args.method}, {args.protocol}, {args.seeds} seeds, on {name}", columns, rows)
