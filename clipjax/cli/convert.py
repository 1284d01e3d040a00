"""clipjax convert ViT-B-32.pt vit-b-32-hf --format huggingface"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clipjax.cli.options import add_json, add_preset, given, preset_of
from clipjax.errors import ConfigError

if TYPE_CHECKING:
    from clipjax.models.clip import CLIP

FORMATS = ("huggingface", "openclip", "openai-state-dict", "orbax")


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "convert",
        help="rewrite a checkpoint in another format",
        description="Rewrite a checkpoint in another format. The source's format is recognised from its content.",
    )
    parser.add_argument("source", type=given, metavar="SRC", help="a checkpoint, or a name on the Hugging Face hub")
    parser.add_argument(
        "destination",
        type=given,
        metavar="DST",
        help="where to write; a file for openai-state-dict, else a directory",
    )
    add_preset(parser)
    parser.add_argument("--format", default="huggingface", choices=FORMATS, help="default: huggingface")
    parser.add_argument(
        "--dtype",
        default="keep",
        choices=("keep", "float32", "float16", "bfloat16"),
        help="default: as stored",
    )
    parser.add_argument(
        "--text-encoder",
        action="store_true",
        help="the text tower alone, as text-to-image pipelines of diffusers load it from text_encoder/",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace DST if it exists")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    import jax

    from clipjax.cli.console import note, print_json, working
    from clipjax.outputs import check_free
    from clipjax.weights.load import load, resolve
    from clipjax.weights.save import save
    from clipjax.weights.text_encoder import text_encoder

    if args.text_encoder and args.format != "huggingface":
        raise ConfigError(f"--text-encoder is for the format huggingface, not for {args.format}; leave out one of both")
    source, destination = resolve(args.source), Path(args.destination)
    config = preset_of(args)
    if args.format == "openai-state-dict":
        check_free(destination, "file", overwrite=args.overwrite)
    else:
        # a file may be rewritten in its own place, but a directory may hold more than the weights
        check_free(destination, "directory", overwrite=args.overwrite, made_from=[source])
    with working(f"loading {args.source}"):
        model, params = load(source, dtype=None if args.dtype == "keep" else args.dtype, config=config)
    if args.text_encoder:
        model, params = text_encoder(model, params)
    extra, remark = _tokenizer_files(source, model, args.format)
    with working(f"writing {destination}"):
        save(destination, model, params, args.format, overwrite=args.overwrite, extra=extra)
    if remark:
        note(remark)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    if args.json:
        facts = {"source": str(source), "destination": str(destination), "format": args.format}
        print_json({**facts, "parameters": count})
    else:
        note(f"wrote {count:,} parameters to {destination} ({args.format})")


def _tokenizer_files(source: Path, model: "CLIP", format: str) -> "tuple[Callable[[Path], None] | None, str]":
    """Choose what is written beside the weights, and remark on a tokenizer that is not.

    A tokenizer goes with a Hugging Face directory always, with others only if it is not CLIP's published one.
    """
    from clipjax.inputs.tokenizer import load_tokenizer, openai_tokenizer
    from clipjax.inputs.tokenizer_writer import write_tokenizer

    text, single_file = model.config.text, format == "openai-state-dict"
    if text is None:
        return None, ""
    try:
        tokenizer = load_tokenizer(source)
        if tokenizer.vocab_size > text.vocab_size:
            raise ConfigError(f"the model has {text.vocab_size} tokens, and {source} has no tokenizer of its own")
    except ConfigError as error:
        return None, "" if single_file else f"no tokenizer went with the weights: {error}"
    published = tokenizer.encoding.fingerprint == openai_tokenizer().encoding.fingerprint
    if published and format != "huggingface":
        return None, ""
    if single_file:
        return None, "this format has no place for the model's tokenizer, which is not CLIP's own: keep its files"
    tokenizer = dataclasses.replace(tokenizer, context_length=text.context_length)
    return lambda folder: write_tokenizer(folder, source, tokenizer), ""
