"""clipjax quickstart: adapt a CLIP to real images without labels, offline, in a minute or three."""

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

from clipjax.cli.options import add_json, given

METHODS: dict[str, dict[str, Any]] = {
    "finetune": {
        "confident": 0.8,
        "epochs": 8,
        "batch_size": 64,
        "flip": 0.0,
        "optimizer": {"lr": 3e-4},
    },
    "latteclip": {
        "epochs": 5,
        "batch_size": 64,
        "optimizer": {"lr": 3e-4},
    },
    "coft": {
        "contexts": 2,
        "visual_prompts": 2,
        "least_prompt_steps": 40,
        "prompt_epochs": 1,
        "tune_epochs": 3,
        "flip": 0.0,
        "tune_optimizer": {"lr": 2e-2},
    },
}
"""What is run, with settings that were chosen on the part of the digits that is neither adapted to nor tested on."""


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "quickstart",
        help="see what clipjax does: adapt a CLIP to real images without labels",
        description="Load the small CLIP inside the package, which was trained on drawn digits, letters and shapes, "
        "and adapt it to real handwritten digits without their labels. Needs no network and a minute or three.",
    )
    parser.add_argument(
        "-o", "--output", type=given, default="clipjax-quickstart", metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--weights", type=given, metavar="PATH", help="another small CLIP of digits in place of the one in the package"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace another run in DIR")
    add_json(parser)
    parser.set_defaults(run=run, interrupted="what was done is kept; repeat the command to go on", resumes=True)


def run(args: argparse.Namespace) -> None:
    import logging

    from clipjax.cli.adapt import adapt_and_measure
    from clipjax.cli.console import note, print_json, print_table, progress
    from clipjax.cli.problem_files import Opened
    from clipjax.cli.quickstart_texts import digit_texts
    from clipjax.cli.report import write_report
    from clipjax.cli.run_settings import RunSettings, log_to_stderr
    from clipjax.outputs import check_free
    from clipjax.weights.embedded import EMBEDDED
    from clipjax.weights.load import resolve

    log_to_stderr(logging.WARNING)
    start = time.monotonic()
    folder = Path(args.output)
    check_free(folder / "texts.jsonl", overwrite=True)
    weights = resolve(args.weights or EMBEDDED)
    problem, test = digits_problem(weights)
    texts = digit_texts(problem, weights, folder, progress)
    problem = dataclasses.replace(problem, texts=texts)
    rows = []
    for method, values in METHODS.items():
        settings = RunSettings(checkpoint_every=100, log_every=5)
        opened = Opened(problem, test, hidden=problem.images.labels)
        place = folder / method
        rows.append(
            adapt_and_measure(method, opened, values, settings, place, overwrite=args.overwrite, words=args.words)
        )
    page = folder / "report.html"
    write_report([folder / method for method in METHODS], page, title="Digits, learnt without labels", overwrite=True)
    seconds = time.monotonic() - start
    before = rows[0]["before"]
    if args.json:
        document = {"zero_shot": before, "methods": rows, "seconds": seconds, "run": str(folder), "report": str(page)}
        print_json(document)
        return
    table = [["zero-shot", before["top1"], before["mean_per_class"], before["ece"]]]
    table += [
        [f"{row['method']}, no labels", *(row["after"][k] for k in ("top1", "mean_per_class", "ece"))] for row in rows
    ]
    print_table(
        f"a CLIP that has only seen drawn glyphs, on {before['images']} real handwritten digits",
        ["classifier", "top-1 %", "mean per class %", "ECE %"],
        table,
    )
    print(f"adapted to {len(problem.images)} other digits without their labels, in {seconds:.0f} s in all")
    for row in rows:
        note(f"{row['method']}: {folder / row['method'] / 'model'} loads in clipjax and in transformers")
    note(f"{page}: what changed, to look at in a browser")


def digits_problem(weights: Path):
    """Build the problem: a CLIP, the digits to adapt to, and those to measure on."""
    from clipjax.classify.problem import make_problem
    from clipjax.data.digits import DIGIT_NAMES, handwritten_digits
    from clipjax.data.glyph_captions import DIGIT_TEMPLATES
    from clipjax.inputs.tokenizer import load_tokenizer
    from clipjax.weights.load import load

    model, params = load(weights)
    problem = make_problem(
        model, params, load_tokenizer(weights), DIGIT_NAMES, handwritten_digits("adapt"), templates=DIGIT_TEMPLATES
    )
    return problem, handwritten_digits("test")
