"""Options that several subcommands share, and what they stand for."""

import argparse
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from clipjax.errors import ConfigError, DataError

if TYPE_CHECKING:
    from clipjax.data.loader import BadImage
    from clipjax.data.source import ImageSource
    from clipjax.inputs.tokenizer import Tokenizer
    from clipjax.models.clip import CLIP, Params
    from clipjax.models.config import CLIPConfig

_INPUTS = (
    "weights", "classifier", "images", "anchors", "like", "splits_file", "classes", "template", "descriptions", "texts",
)  # fmt: skip
"""The arguments that name what a command reads."""

IMAGES_HELP = "a folder of class folders, a flat folder, a tar, or a TFDS data set prepared as array_record"


def positive(text: str) -> int:
    """Parse an integer of at least one."""
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
    return int(text)


def share(text: str) -> float:
    """Parse a number from 0 to 1."""
    number = finite(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return number


def finite(text: str) -> float:
    """Parse a finite number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return number


def natural(text: str) -> int:
    """Parse an integer of at least zero."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 0")
    return int(text)


def given(text: str) -> str:
    """Refuse an empty value, which a script with an unset variable passes and which would count as none."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the value is empty")
    return text


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add what says which model to run, and how."""
    parser.add_argument(
        "--weights", type=given, required=True, metavar="PATH", help="a checkpoint, or a name on the Hugging Face hub"
    )
    add_compute(parser)


def add_compute(parser: argparse.ArgumentParser) -> None:
    """Add what says how a model runs."""
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16", "float16"),
        help="compute type (default: float32)",
    )
    parser.add_argument("--batch-size", type=positive, default=64, metavar="N", help="images per step (default: 64)")


def add_images(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add what says which images."""
    parser.add_argument("--images", type=given, required=required, metavar="PATH", help=IMAGES_HELP)
    add_selection(parser)
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out images that cannot be decoded, and list them"
    )


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add what selects among the images."""
    parser.add_argument("--split", type=given, metavar="NAME", help="only the images of this split")
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE",
        help="only the images with this value in the manifest; repeat a column for several values",
    )  # fmt: skip
    parser.add_argument(
        "--splits-file", type=given, metavar="JSON", help="a CoOp split_zhou_*.json that lists the images"
    )


def add_classes(parser: argparse.ArgumentParser) -> None:
    """Add what says which classes there are, and which texts stand for them."""
    parser.add_argument(
        "--classes", type=given, metavar="FILE[:KEY]",
        help="class names: one per line, a JSON list, {folder: name}, or KEY of a JSON object "
        "(default: the class folders or the manifest's names)",
    )  # fmt: skip
    parser.add_argument(
        "--template", action="append", default=[], metavar="TEXT|FILE[:KEY]",
        help="prompt with {} for the name, or a file of them; repeatable "
        "(default: the class file's, else 'a photo of a {}.')",
    )  # fmt: skip
    parser.add_argument(
        "--descriptions",
        type=given,
        metavar="FILE",
        help="class descriptions in the CuPL or DCLIP JSON format, instead of or with templates",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the switch to a result that machines read."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def add_preset(parser: argparse.ArgumentParser) -> None:
    """Add what names the configuration of a file that does not bring its own."""
    parser.add_argument(
        "--preset", type=given, metavar="NAME",
        help="the published configuration of a file without one, such as ViT-B/32 or laion/ViT-B-32",
    )  # fmt: skip


def preset_of(args: argparse.Namespace) -> "CLIPConfig | None":
    """Return the configuration that --preset names, if any.

    Raises:
      ConfigError: there is none of this name.
    """
    from clipjax.models.presets import preset

    return None if args.preset is None else preset(args.preset)


def load_model(args: argparse.Namespace, needs: Sequence[str]) -> "tuple[CLIP, Params]":
    """Load the model that --weights and --dtype ask for.

    Raises:
      ConfigError: it lacks one of the towers "vision" and "text" that `needs` names.
    """
    from clipjax.cli.console import working
    from clipjax.weights.load import load

    with working(f"loading {args.weights}"):
        model, params = load(args.weights)
    for tower in needs:
        if getattr(model.config, tower) is None:
            what = {"vision": "image", "text": "text"}[tower]
            raise ConfigError(f"{args.weights}: has no {what} tower; pass a checkpoint that has one")
    return model.replace(dtype=args.dtype), params


def load_text_side(args: argparse.Namespace, model: "CLIP") -> "Tokenizer":
    """Load the tokenizer that belongs to --weights (see `tokenizer_of`)."""
    return tokenizer_of(args.weights, model.config)


def tokenizer_of(weights: str, config: "CLIPConfig") -> "Tokenizer":
    """Load the tokenizer that lies beside weights, at the model's context length.

    Raises:
      ConfigError: it has more tokens than the model.
    """
    import dataclasses

    from clipjax.inputs.tokenizer import load_tokenizer
    from clipjax.weights.load import resolve

    tokenizer, text = load_tokenizer(resolve(weights)), config.text
    if text is None or tokenizer.vocab_size > text.vocab_size:
        raise ConfigError(
            f"{weights}: the model has {text.vocab_size if text else 0} tokens, the tokenizer "
            f"{tokenizer.vocab_size}; put the model's own vocab.json and merges.txt (or tokenizer.json) beside them"
        )
    return dataclasses.replace(tokenizer, context_length=text.context_length)


def note_cut_texts(tokenizer: "Tokenizer", texts: Sequence[str]) -> None:
    """Say how many texts are longer than the context, which cuts them."""
    from clipjax.cli.console import note

    # a token has at least a byte, so that most texts need not be tokenized to know
    long = [text for text in texts if len(text.encode("utf-8", "replace")) > tokenizer.context_length - 2]
    if long and (count := int(tokenizer.truncated(long).sum())):
        note(f"{count:,} of {len(texts):,} texts were cut at the model's {tokenizer.context_length} tokens")


def open_images(args: argparse.Namespace) -> "ImageSource":
    """Open and select the images."""
    from clipjax.cli.console import note, progress
    from clipjax.data.opening import open_source

    source = open_source(
        args.images,
        split=args.split,
        where=conditions(args.where),
        splits_file=args.splits_file,
        progress=progress,
    )
    for remark in source.notes:
        note(remark)
    return source


def check_output(args: argparse.Namespace, path: str, kind: Literal["file", "directory"]) -> None:
    """Refuse early an output that exists and may not be replaced, or that this command reads.

    Raises:
      OutputError: see `check_free`.
    """
    from clipjax.data.textfile import existing_path
    from clipjax.outputs import check_free

    named = [getattr(args, name, None) for name in _INPUTS]
    specs = [spec for value in named for spec in (value if isinstance(value, list) else [value]) if spec]
    # FILE:KEY reads FILE
    found = [existing_path(name) for spec in specs for name in (spec, spec.rpartition(":")[0]) if name]
    read = [place for place in found if place is not None]
    check_free(path, kind, overwrite=args.overwrite, made_from=read)


def conditions(pairs: Sequence[str], option: str = "--where") -> dict[str, list[str]]:
    """Group COLUMN=VALUE pairs by column.

    Raises:
      DataError: a pair without an equals sign.
    """
    grouped: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        column, equals, value = pair.partition("=")
        if not equals or not column:
            raise DataError(f"{option} {pair}: write COLUMN=VALUE, as in {option} split=test")
        grouped[column].append(value)
    return dict(grouped)


def report_skipped(skipped: "Sequence[BadImage]") -> None:
    """List the images that were left out."""
    from clipjax.cli.console import note

    if skipped:
        note(f"left out {len(skipped)} images that cannot be used:")
        for bad in skipped:
            note(f"  {bad.reason}")


def skipped_as_json(skipped: "Sequence[BadImage]") -> list[dict[str, str]]:
    """List the images that were left out, for machines."""
    return [{"id": bad.id, "reason": bad.reason} for bad in skipped]
