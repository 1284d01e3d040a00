"""clipjax convert ViT-B-32.pt vit-b-32-hf --format huggingface"""

import argparse
import dataclasses
from pathlib import Path

from clipjax.cli.options import add_json

FORMATS = ("huggingface", "openclip", "openai-state-dict", "orbax")


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "convert",
        help="rewrite a checkpoint in another format",
        description="Rewrite a checkpoint in another format. The source's format is recognised from its content.",
    )
    parser.add_argument("source", metavar="SRC", help="a checkpoint, or a name on the Hugging Face hub")
    parser.add_argument(
        "destination", metavar="DST", help="where to write; a file for openai-state-dict, else a directory"
    )
    parser.add_argument("--format", default="huggingface", choices=FORMATS, help="default: huggingface")
    parser.add_argument(
        "--dtype",
        default="keep",
        choices=("keep", "float32", "float16", "bfloat16"),
        help="default: as stored",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace DST if it exists")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    import jax

    from clipjax.cli.console import note, print_json
    from clipjax.inputs.tokenizer import load_tokenizer
    from clipjax.inputs.tokenizer_writer import write_tokenizer
    from clipjax.outputs import check_free
    from clipjax.weights.load import load, resolve
    from clipjax.weights.save import save

    source, destination = resolve(args.source), Path(args.destination)
    check_free(destination, overwrite=args.overwrite)
    model, params = load(source, dtype=None if args.dtype == "keep" else args.dtype)

    def add_tokenizer(folder: Path) -> None:
        if model.config.text is not None:
            tokenizer = load_tokenizer(source)
            if tokenizer.vocab_size <= model.config.text.vocab_size:
                length = model.config.context_length
                write_tokenizer(folder, source, dataclasses.replace(tokenizer, context_length=length))

    extra = add_tokenizer if args.format == "huggingface" else None
    save(destination, model, params, args.format, overwrite=args.overwrite, extra=extra)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    if args.json:
        print_json(
            {
                "source": str(source),
                "destination": str(destination),
                "format": args.format,
                "parameters": count,
            }
        )
    else:
        note(f"wrote {count:,} parameters to {destination} ({args.format})")
