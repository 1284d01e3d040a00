"""Options that several subcommands share, and what they stand for."""

import argparse
from collections import defaultdict
from typing import TYPE_CHECKING

from clipjax.errors import DataError

if TYPE_CHECKING:
    from clipjax.data.loader import BadImage
    from clipjax.data.source import ImageSource
    from clipjax.inputs.tokenizer import Tokenizer
    from clipjax.models.clip import CLIP, Params

IMAGES_HELP = "a folder of class folders, a flat folder, a tar, or a TFDS data set prepared as array_record"


def positive(text: str) -> int:
    """Parse an integer of at least one."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add what says which model to run, and how."""
    parser.add_argument(
        "--weights", required=True, metavar="PATH", help="a checkpoint, or a name on the Hugging Face hub"
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16", "float16"),
        help="compute type (default: float32)",
    )
    parser.add_argument("--batch-size", type=positive, default=64, metavar="N", help="images per step (default: 64)")


def add_images(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add what says which images."""
    parser.add_argument("--images", required=required, metavar="PATH", help=IMAGES_HELP)
    parser.add_argument("--split", metavar="NAME", help="only the images of this split")
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE",
        help="only the images with this value in the manifest; repeat a column for several values",
    )  # fmt: skip
    parser.add_argument("--splits-file", metavar="JSON", help="a CoOp split_zhou_*.json that lists the images")
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out images that cannot be decoded, and list them"
    )


def add_classes(parser: argparse.ArgumentParser) -> None:
    """Add what says which classes there are, and which texts stand for them."""
    parser.add_argument(
        "--classes", required=True, metavar="FILE[:KEY]",
        help="class names: one per line, a JSON list, {folder: name}, or KEY of a JSON object",
    )  # fmt: skip
    parser.add_argument(
        "--template", action="append", default=[], metavar="TEXT|FILE[:KEY]",
        help="prompt with {} for the name, or a file of them; repeatable (default: the class file's, else 'a photo of a {}.')",
    )  # fmt: skip
    parser.add_argument(
        "--descriptions",
        metavar="FILE",
        help="class descriptions in the CuPL or DCLIP JSON format, instead of or with templates",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def load_model(args: argparse.Namespace) -> "tuple[CLIP, Params]":
    """Load the model that --weights and --dtype ask for."""
    from clipjax.weights.load import load

    model, params = load(args.weights)
    return model.replace(dtype=args.dtype), params


def load_text_side(args: argparse.Namespace) -> "Tokenizer":
    """Load the tokenizer that belongs to --weights."""
    from clipjax.inputs.tokenizer import load_tokenizer
    from clipjax.weights.load import resolve

    return load_tokenizer(resolve(args.weights))


def open_images(args: argparse.Namespace, extra: "dict[str, str] | None" = None) -> "ImageSource":
    """Open and select the images; `extra` are further conditions, column to value."""
    from clipjax.cli.console import note
    from clipjax.data.opening import open_source

    where = {column: list(values) for column, values in conditions(args.where).items()}
    for column, value in (extra or {}).items():
        where[column] = [value]
    source = open_source(args.images, split=args.split, where=where, splits_file=args.splits_file)
    for remark in source.notes:
        note(remark)
    return source


def conditions(pairs: list[str]) -> dict[str, list[str]]:
    """Group COLUMN=VALUE pairs by column.

    Raises:
      DataError: a pair without an equals sign.
    """
    grouped: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        column, equals, value = pair.partition("=")
        if not equals or not column:
            raise DataError(f"--where {pair}: write COLUMN=VALUE, as in --where split=test")
        grouped[column].append(value)
    return dict(grouped)


def report_skipped(skipped: "list[BadImage]") -> None:
    """List the images that were left out."""
    from clipjax.cli.console import note

    if skipped:
        note(f"left out {len(skipped)} images that cannot be used:")
        for bad in skipped:
            note(f"  {bad.reason}")


def skipped_as_json(skipped: "list[BadImage]") -> list[dict[str, str]]:
    return [{"id": bad.id, "reason": bad.reason} for bad in skipped]
