"""clipjax export RUN -o DIR --format huggingface"""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipjax.cli.options import add_json, given

if TYPE_CHECKING:
    from clipjax.classify.export import Facts
    from clipjax.evaluation.run_record import RunRecord

FORMATS = ("huggingface", "openclip", "stablehlo")


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "export",
        help="take what `adapt` made to PyTorch, or to a jax without clipjax",
        description="Write an adapted classifier for other libraries, with a model card whose lines use it: a "
        "checkpoint for transformers or OpenCLIP with the class weights beside it, or a StableHLO program.",
    )
    parser.add_argument("run_directory", type=given, metavar="RUN", help="the directory of `adapt`, or its model/")
    parser.add_argument("-o", "--output", required=True, type=given, metavar="DIR", help="the directory to write")
    parser.add_argument("--format", default="huggingface", choices=FORMATS, help="default: huggingface")
    parser.add_argument("--license", type=given, metavar="SPDX", help="the licence of the model, for its card")
    parser.add_argument("--data-license", type=given, metavar="TEXT", help="that of the images it was adapted to")
    parser.add_argument("--overwrite", action="store_true", help="replace DIR if it exists")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from clipjax.classify.export import export_directory, export_stablehlo
    from clipjax.classify.export.card import crop_remark
    from clipjax.classify.saved import load_classifier
    from clipjax.cli.console import note, print_json, working
    from clipjax.inputs.tokenizer import load_tokenizer
    from clipjax.outputs import check_free

    place = Path(args.run_directory)
    model = place / "model" if (place / "model").is_dir() else place
    check_free(args.output, "directory", overwrite=args.overwrite, made_from=[model])
    with working(f"loading {model}"):
        classifier = load_classifier(model)
    facts = facts_of(model, args.license, args.data_license, classifier.provenance)
    with working(f"writing {args.output}"):
        if args.format == "stablehlo":
            export_stablehlo(args.output, classifier, facts, overwrite=args.overwrite)
        else:
            tokenizer = load_tokenizer(model)
            export_directory(args.output, classifier, tokenizer, args.format, facts, overwrite=args.overwrite)
    if remark := crop_remark(classifier.model.config.preprocessing, args.format):
        note(remark)
    if args.json:
        print_json({"run": str(place), "destination": args.output, "format": args.format})
    else:
        note(f"wrote {args.output} ({args.format}); its README.md says how to use it")


def facts_of(model: Path, license: str | None, data_license: str | None, provenance: dict[str, Any]) -> "Facts":
    """Collect what a model card says from the run around a model; without one, from the model's own note."""
    from clipjax.classify.export import Facts
    from clipjax.errors import DataError
    from clipjax.evaluation.run_record import read_run

    try:
        record = read_run(model.parent)
    except DataError:
        config = provenance.get("config")
        return Facts(
            method=str(provenance.get("method", "")),
            settings=config if isinstance(config, dict) else {},
            license=license,
            data_license=data_license,
        )
    accuracy = record.accuracy or {}
    return Facts(
        method=record.method,
        base=_base(record),
        data=_data(record, provenance),
        labels=_labels(record),
        before=accuracy.get("before"),
        after=accuracy.get("after"),
        settings=record.config,
        versions=record.versions,
        command=shlex.join(record.command),
        license=license,
        data_license=data_license,
    )


def _base(record: "RunRecord") -> str:
    digest = f"weights {record.identity.get('weights', '')}"
    return f"{record.problem['weights']} ({digest})" if "weights" in record.problem else digest


def _data(record: "RunRecord", provenance: dict[str, Any]) -> str:
    count, problem = provenance.get("images"), record.problem
    chosen = [problem.get("images", ""), *(f"--split {problem['split']}" for _ in [0] if problem.get("split"))]
    chosen += [f"--where {condition}" for condition in problem.get("where", [])]
    where = " ".join(filter(None, chosen))
    counted = f"{count:,} images" if isinstance(count, int) else ""
    return ", ".join(filter(None, (counted, where, f"digest {str(record.identity.get('images', ''))[:16]}")))


def _labels(record: "RunRecord") -> str:
    if record.identity.get("shots") is None:
        return "without labels"
    shots = record.problem.get("shots")
    return f"with the labels of {shots} images of each class" if shots else "with labels"
