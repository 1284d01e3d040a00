"""clipjax embed --weights ViT-B-32.pt --images photos/ --texts captions.txt -o embeddings.npz"""

import argparse
from pathlib import Path

from clipjax.cli.options import (
    add_images,
    add_json,
    add_weights,
    load_model,
    load_text_side,
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
    parser.add_argument("--texts", metavar="FILE", help="texts to embed, one on each line")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="a name that ends in .npz or .parquet")
    parser.add_argument("--normalize", action="store_true", help="scale the embeddings to unit length")
    parser.add_argument("--overwrite", action="store_true", help="replace the output, and start anew, if it exists")
    add_json(parser)
    parser.set_defaults(run=run, interrupted="run the same command again to go on from here")


def run(args: argparse.Namespace) -> None:
    from clipjax.classify.embedding_job import Pieces, resume_images, resume_texts
    from clipjax.cli.console import note, print_json, progress
    from clipjax.errors import DataError, OutputError
    from clipjax.outputs import check_free
    from clipjax.weights.fingerprint import fingerprint

    output = Path(args.output)
    if output.suffix not in (".npz", ".parquet"):
        raise OutputError(f"{output}: the name must end in .npz or .parquet")
    check_free(output, overwrite=args.overwrite)
    if not args.images and not args.texts:
        raise DataError("nothing to embed; give --images, --texts or both")
    source = open_images(args) if args.images else None
    texts = read_lines(Path(args.texts)) if args.texts else []
    model, params = load_model(args)
    tokenizer = load_text_side(args) if texts else None
    job = {
        "weights": fingerprint(params),
        "images": source.fingerprint if source else "",
        "texts": digest(texts),
        "dtype": args.dtype,
        "skip_bad": str(args.skip_bad),
    }
    pieces = Pieces(output, job, restart=args.overwrite)
    columns, skipped = {}, []
    if source is not None:
        images = resume_images(
            model,
            params,
            source,
            pieces,
            batch_size=args.batch_size,
            skip_bad=args.skip_bad,
            progress=progress,
        )
        skipped = images.skipped
        columns["image"] = [source.ids[i] for i in images.positions], _finished(images.rows, args.normalize)
    if tokenizer is not None:
        embedded = resume_texts(model, params, tokenizer, texts, pieces, progress=progress)
        columns["text"] = texts, _finished(embedded.rows, args.normalize)
    write(output, columns, overwrite=args.overwrite)
    pieces.remove()
    report_skipped(skipped)
    counts = {f"{kind}s": len(ids) for kind, (ids, _) in columns.items()}
    if args.json:
        dim = next(rows.shape[1] for _, rows in columns.values())
        print_json({"output": str(output), **counts, "dim": dim, "skipped": skipped_as_json(skipped)})
    else:
        note(f"wrote {output}: " + " and ".join(f"{n} {kind}" for kind, n in counts.items()))


def read_lines(path: Path) -> list[str]:
    """Read texts, one on each line.

    Raises:
      DataError: the file cannot be read, is not UTF-8, has no line or an empty one.
    """
    from clipjax.data.textfile import read_text
    from clipjax.errors import DataError

    lines = read_text(path).splitlines()
    if not lines:
        raise DataError(f"{path}: holds no text; write one on each line")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise DataError(f"{path}: line {number} is empty; remove it, since rows are counted by lines")
    return lines


def digest(texts: list[str]) -> str:
    import hashlib
    import json

    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def write(output: Path, columns: dict, *, overwrite: bool) -> None:
    """Write ids and embeddings; a parquet file has one row for each, with `kind`, `id` and `embedding`."""
    import numpy as np

    from clipjax.outputs import new_file

    with new_file(output, overwrite=overwrite) as staged:
        if output.suffix == ".npz":
            arrays = {}
            for kind, (ids, rows) in columns.items():
                arrays[f"{kind}_ids"], arrays[f"{kind}_embeddings"] = np.array(ids, dtype=np.str_), rows
            with staged.open("wb") as file:
                np.savez(file, **arrays)
        else:
            _write_parquet(staged, columns)


def _write_parquet(staged: Path, columns: dict) -> None:
    import pyarrow
    import pyarrow.parquet

    tables = []
    for kind, (ids, rows) in columns.items():
        embedding = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), rows.shape[1])
        table = {"kind": pyarrow.array([kind] * len(ids)), "id": pyarrow.array(ids), "embedding": embedding}
        tables.append(pyarrow.table(table))
    pyarrow.parquet.write_table(pyarrow.concat_tables(tables), staged)


def _finished(rows, normalize: bool):
    import numpy as np

    return rows / np.linalg.norm(rows, axis=1, keepdims=True) if normalize else rows
