"""clipjax embed --weights ViT-B-32.pt --images photos/ --texts captions.txt -o embeddings.npz"""

import argparse
from pathlib import Path

from clipjax.cli.options import (
    add_images,
    add_json,
    add_weights,
    check_output,
    given,
    load_model,
    load_text_side,
    note_cut_texts,
    open_images,
    report_skipped,
    skipped_as_json,
)


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "embed",
        help="embed images and texts into a .npz or .parquet file; a stopped run goes on where it was",
        description="Embed images, texts or both. A stopped run goes on where it was when started again.",
    )
    add_weights(parser)
    add_images(parser, required=False)
    parser.add_argument("--texts", type=given, metavar="FILE", help="texts to embed, one on each line")
    parser.add_argument(
        "-o", "--output", type=given, required=True, metavar="FILE", help="a name that ends in .npz or .parquet"
    )
    parser.add_argument("--normalize", action="store_true", help="scale the embeddings to unit length")
    parser.add_argument("--overwrite", action="store_true", help="replace the output, and start anew, if it exists")
    add_json(parser)
    parser.set_defaults(run=run, interrupted="run the same command again to go on from here")


def run(args: argparse.Namespace) -> None:
    from clipjax.classify.embedding_file import EmbeddingTable, check_ids, check_suffix, read_texts, write_embeddings
    from clipjax.classify.embedding_job import Pieces, job_of, resume_images, resume_texts
    from clipjax.cli.console import note, print_json, progress
    from clipjax.errors import DataError

    output = Path(args.output)
    check_suffix(output)
    check_output(args, args.output, "file")
    if not args.images and not args.texts:
        raise DataError("nothing to embed; give --images, --texts or both")
    texts = read_texts(Path(args.texts)) if args.texts else []
    check_ids(output, texts, args.texts)
    source = open_images(args) if args.images else None
    if source is not None:
        check_ids(output, source.ids, source.name)
    model, params = load_model(args, needs=[*(["vision"] if source else []), *(["text"] if texts else [])])
    tokenizer = load_text_side(args, model) if texts else None
    job = job_of(model, params, source, tokenizer, texts)
    pieces = Pieces(output, job, restart=args.overwrite)
    if args.overwrite:
        # the same command would start anew
        remove = f"remove {output}, then " if output.exists() else ""
        args.interrupted = f"{remove}run the same command without --overwrite to go on from here"
    for kind in ("images", "texts"):
        if done := pieces.count(kind):
            note(f"going on with a stopped run: {done:,} {kind} are done already")
    tables, skipped = [], []
    if source is not None:
        found = resume_images(
            model, params, source, pieces, batch_size=args.batch_size, skip_bad=args.skip_bad, progress=progress
        )
        skipped = found.skipped
        kept = source.select(found.positions)
        known = any(kept.classnames) or (kept.labels >= 0).any()
        columns = {"label": kept.labels, "classname": kept.classnames} if known else {}
        tables.append(EmbeddingTable("image", kept.ids, found.rows, columns))
    if tokenizer is not None:
        found = resume_texts(model, params, tokenizer, texts, pieces, progress=progress)
        tables.append(EmbeddingTable("text", texts, found.rows))
    if args.normalize:
        tables = [table.normalized() for table in tables]
    write_embeddings(output, tables, overwrite=args.overwrite)
    pieces.remove()
    report_skipped(skipped)
    if tokenizer is not None:
        note_cut_texts(tokenizer, texts)
    counts = {f"{table.kind}s": len(table.ids) for table in tables}
    if args.json:
        dim = tables[0].rows.shape[1]
        print_json({"output": str(output), **counts, "dim": dim, "skipped": skipped_as_json(skipped)})
    else:
        note(f"wrote {output}: " + " and ".join(f"{n:,} {kind if n > 1 else kind[:-1]}" for kind, n in counts.items()))
