"""clipjax adapt --method finetune --weights ViT-B-32.pt --images photos/ --classes classes.txt -o run"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipjax.cli.options import add_classes, add_images, add_json, given, natural, positive
from clipjax.methods.registry import METHODS

if TYPE_CHECKING:
    from clipjax.classify.classifier import Classifier
    from clipjax.classify.ensemble import Ensemble
    from clipjax.classify.problem import Problem
    from clipjax.cli.problem_files import Opened
    from clipjax.cli.run_settings import RunSettings
    from clipjax.data.source import ImageSource
    from clipjax.inputs.tokenizer import Tokenizer


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "adapt",
        help="adapt a model to images, with or without labels",
        description="Adapt a model to the images of one domain. What comes out, a checkpoint for PyTorch and JAX "
        "with its class weights, is RUN/model. A run that was stopped goes on when the command is repeated.",
    )
    parser.add_argument("--method", required=True, metavar="NAME", help=", ".join(METHODS))
    parser.add_argument("--weights", required=True, type=given, metavar="PATH", help="a checkpoint, or a hub name")
    add_images(parser)
    add_classes(parser)
    parser.add_argument(
        "--texts", type=given, metavar="STORE", help="texts for methods that learn from them, see `clipjax texts`"
    )
    parser.add_argument(
        "--student", type=given, metavar="PATH", help="another checkpoint, for methods that train one model by another"
    )
    parser.add_argument("--labels", action="store_true", help="learn from the images' own labels")
    parser.add_argument("--shots", type=positive, metavar="K", help="learn from the labels of K images of each class")
    parser.add_argument("--shots-seed", type=natural, default=0, metavar="N", help="which K images (default: 0)")
    parser.add_argument("--test", type=given, metavar="PATH", help="labelled images to measure on, before and after")
    parser.add_argument(
        "--test-split", type=given, metavar="NAME", help="measure on this split (of --test, or of --images)"
    )
    parser.add_argument("--test-where", action="append", default=[], metavar="COLUMN=VALUE", help="likewise")
    parser.add_argument(
        "--by-position", action="store_true",
        help="let label 0 mean the first class of --classes and so on, for data that calls its classes otherwise",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="a setting of the method, such as epochs=5 or optimizer.lr=1e-6; repeatable",
    )  # fmt: skip
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="default: float32")
    parser.add_argument(
        "--fsdp", type=positive, default=1, metavar="N", help="devices that share one copy of the model"
    )
    parser.add_argument(
        "--workers", type=natural, default=0, metavar="N", help="processes that prepare images (default: threads)"
    )
    parser.add_argument("--checkpoint-every", type=positive, default=1000, metavar="STEPS", help="default: 1000")
    parser.add_argument("-o", "--output", required=True, type=given, metavar="RUN", help="the run's directory")
    parser.add_argument("--tensorboard", action="store_true", help="write RUN/tensorboard, too (extra `tensorboard`)")
    parser.add_argument("--overwrite", action="store_true", help="replace another run in RUN; the same one goes on")
    add_json(parser)
    parser.set_defaults(run=run, interrupted="what was done is kept; repeat the command to go on", resumes=True)


def run(args: argparse.Namespace) -> None:
    from clipjax.cli.console import progress
    from clipjax.cli.problem_files import ProblemFiles, open_problem
    from clipjax.cli.run_settings import RunSettings, log_to_stderr

    log_to_stderr()
    files = ProblemFiles(
        weights=args.weights,
        images=args.images,
        split=args.split,
        where=tuple(args.where),
        splits_file=args.splits_file,
        classes=args.classes,
        template=tuple(args.template),
        descriptions=args.descriptions,
        texts=args.texts,
        student=args.student,
        labels=args.labels,
        shots=args.shots,
        shots_seed=args.shots_seed,
        test=args.test,
        test_split=args.test_split,
        test_where=tuple(args.test_where),
        by_position=args.by_position,
        skip_bad=args.skip_bad,
        dtype=args.dtype,
    )
    settings = RunSettings(
        fsdp=args.fsdp, checkpoint_every=args.checkpoint_every, tensorboard=args.tensorboard, workers=args.workers
    )
    folder = Path(args.output)
    opened = open_problem(files, progress)
    document = adapt_and_measure(
        args.method,
        opened,
        nested(args.set),
        settings,
        folder,
        overwrite=args.overwrite,
        words=args.words,
    )
    show(document, folder, as_json=args.json)


def adapt_and_measure(
    method: str,
    opened: "Opened",
    values: dict[str, Any],
    settings: "RunSettings",
    folder: Path,
    *,
    overwrite: bool,
    words: Sequence[str] = (),
) -> dict[str, Any]:
    """Run a method, save its classifier as RUN/model, and measure it before and after if there are test images.

    What a report needs goes into RUN, too; `words` is the command that it repeats.
    """
    import jax

    from clipjax.classify.saved import save_classifier
    from clipjax.cli.run_settings import run_options
    from clipjax.cli.sessions import session
    from clipjax.evaluation.pseudo_labels import write_quality
    from clipjax.methods.adapt import adapt, identity
    from clipjax.methods.registry import method_named
    from clipjax.outputs import new_file
    from clipjax.training.run import Run, open_run
    from clipjax.training.settings import from_mapping

    problem = opened.problem
    config = from_mapping(method_named(method).Config, values)
    claimed = open_run(folder, identity(method, problem, config), overwrite=overwrite, made_from=opened.made_from)
    with session(folder, words, opened.files):
        run = Run(folder=claimed.folder, **run_options(settings, folder))
        classifier = adapt(method, problem, config=config, run=run)
        first = jax.process_index() == 0
        if first:
            save_classifier(folder / "model", classifier, _tokenizer(classifier, problem), overwrite=True)
        # what the method counted; of the problem's own parts provenance holds digests
        counts = [classifier.provenance.get(name) for name in ("images", "shots")]
        learnt_from = next((count for count in counts if isinstance(count, int)), None)
        document: dict[str, Any] = {"method": method, "images": learnt_from, "run": str(folder)}
        if opened.test is not None:
            document |= _before_and_after(opened, opened.test, classifier, folder)
            if first:
                with new_file(folder / "accuracy.json", overwrite=True) as staged:
                    staged.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        if first and opened.hidden is not None:
            write_quality(folder, opened.hidden)
    return document


def _before_and_after(
    opened: "Opened", test: "ImageSource", classifier: "Classifier | Ensemble", folder: Path
) -> dict[str, Any]:
    """Measure zero-shot and adapted classifier on test images, and keep what both say of each."""
    import jax

    from clipjax.classify.embed import score_images, score_members
    from clipjax.cli.console import progress
    from clipjax.evaluation.accuracy_report import accuracy_report
    from clipjax.evaluation.image_by_image import predictions_of, write_predictions

    problem = opened.problem
    before, rows, _ = score_images(problem.text_classifier(problem.params), test, progress=progress)
    after, members, _ = score_members(classifier, test, progress=progress)
    labels, names = test.labels[rows], classifier.class_names
    document: dict[str, Any] = {
        "before": accuracy_report(before, labels, names).document(),
        "after": accuracy_report(after, labels, names).document(),
    }
    if members:
        document["members"] = [accuracy_report(member, labels, names).document() for member in members]
    if jax.process_index() == 0:
        # a stop between here and the end of the measurement leaves none, not two that are mixed
        (folder / "accuracy.json").unlink(missing_ok=True)
        ids = [test.ids[int(row)] for row in rows]
        write_predictions(folder, predictions_of(ids, labels, before, after), test.select(rows))
    return document


def _tokenizer(classifier: "Classifier | Ensemble", problem: "Problem") -> "Tokenizer":
    """Say which tokenizer belongs to a classifier's text tower: the student's where that is the student's own."""
    from clipjax.classify.ensemble import Ensemble

    first = classifier.members[0] if isinstance(classifier, Ensemble) else classifier
    student = problem.student
    if student is None or first.params["text"] is not student.params["text"]:
        return problem.tokenizer
    return student.tokenizer or problem.tokenizer


def nested(pairs: list[str]) -> dict[str, Any]:
    """Read NAME=VALUE pairs; values are JSON where they can be (numbers, lists, true, null), else text.

    Raises:
      ConfigError: a pair without an equals sign.
    """
    from clipjax.errors import ConfigError

    tree: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set {pair}: write NAME=VALUE, as in --set epochs=5")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        *folders, last = name.split(".")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {pair}: {folder} was given a value already; give its parts, or the whole")
        place[last] = value
    return tree


def show(document: dict[str, Any], folder: Path, *, as_json: bool) -> None:
    """Print what came out."""
    from clipjax.cli.console import note, print_json, print_table

    if as_json:
        print_json(document)
    elif "after" in document:
        columns = ["classifier", "images", "top-1 %", "mean per class %", "ECE %"]
        rows = [
            [name, *(document[when][key] for key in ("images", "top1", "mean_per_class", "ece"))]
            for name, when in (("zero-shot", "before"), (document["method"], "after"))
        ]
        for number, member in enumerate(document.get("members", []), 1):
            rows.append(
                [f"  model {number} alone", *(member[key] for key in ("images", "top1", "mean_per_class", "ece"))]
            )
        learnt = f" on {document['images']:,} images" if document["images"] else ""
        print_table(f"{document['method']}{learnt}", columns, rows)
    uses = f"`clipjax predict {folder} --images DIR` uses it"
    note(f"wrote {folder / 'model'}; {uses}, `clipjax report {folder} -o HTML` shows how it came about")
