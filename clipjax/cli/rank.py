"""clipjax rank --weights RUN/model --images photos/ --difference 'the first image is brighter, the second darker'"""

import argparse
import csv
import sys
from typing import TYPE_CHECKING

from clipjax.cli.options import (
    add_images,
    add_json,
    add_weights,
    check_output,
    finite,
    given,
    load_model,
    load_text_side,
    note_cut_texts,
    open_images,
    positive,
    report_skipped,
    skipped_as_json,
)
from clipjax.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from clipjax.data.source import ImageSource
    from clipjax.evaluation.ranking_page import Place


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "rank",
        help="order images by a sentence that says how a first image differs from a second",
        description="Order images by how well a difference sentence fits each of them as the first image and the "
        "others, or some anchors, as the second; or by how much they are like one image, changed as the sentence says. "
        "Write a page with the pictures, or CSV.",
    )
    add_weights(parser)
    add_images(parser)
    parser.add_argument(
        "--difference", type=given, required=True, metavar="TEXT",
        help="such as 'the first image is brighter, the second darker'",
    )  # fmt: skip
    parser.add_argument(
        "--anchors", type=given, metavar="PATH", help="images to compare with (default: all others of --images)"
    )
    parser.add_argument(
        "--like", type=given, metavar="ID|FILE",
        help="order by likeness to this image, moved along the sentence: this image, but at night",
    )  # fmt: skip
    parser.add_argument(
        "--strength", type=finite, metavar="S", help="how far --like is moved; 1 is the image's own length (default: 1)"
    )
    parser.add_argument(
        "--truth", type=given, metavar="COLUMN",
        help="a manifest column with the attribute as a number: print Kendall's tau with it",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=given, metavar="HTML", help="a page with the ranking (default: CSV)")
    parser.add_argument(
        "--shown", type=positive, default=60, metavar="N", help="pictures on the page: first and last (default: 60)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the page if it exists")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from clipjax.classify.embed import embed_images, embed_texts
    from clipjax.cli.console import note, print_json, progress
    from clipjax.data.opening import open_source
    from clipjax.evaluation.analogies import likeness, moved_queries
    from clipjax.evaluation.ranking import difference_scores, kendall_tau, ranked
    from clipjax.evaluation.ranking_page import Place, ranking_page
    from clipjax.outputs import new_file

    if args.like is None and args.strength is not None:
        raise ConfigError("--strength says how far the image of --like is moved; give one, or leave it out")
    if args.like is not None and args.anchors is not None:
        raise ConfigError("--anchors are compared with by the sentence alone; leave them out, or leave out --like")
    if args.output is not None:
        check_output(args, args.output, "file")
    source = open_images(args)
    asked, own = (None, None) if args.like is None else _query(args, source)
    truth = None if args.truth is None else numbers_of(source, args.truth)
    anchors = None if args.anchors is None else open_source(args.anchors, progress=progress)
    model, params = load_model(args, needs=("vision", "text"))
    tokenizer = load_text_side(args, model)
    embed = lambda images, skip_bad: embed_images(
        model, params, images, batch_size=args.batch_size, skip_bad=skip_bad, progress=progress
    )
    rows, kept, skipped = embed(source, args.skip_bad)
    beside = None if anchors is None else embed(anchors, False)[0]
    sentence = embed_texts(model, params, tokenizer, [args.difference])[0]
    if asked is None:
        scores = difference_scores(rows, sentence, beside)
    else:
        others = kept != (-1 if own is None else own)
        strength = 1.0 if args.strength is None else args.strength
        query = moved_queries(embed(asked, False)[0], sentence, strength=strength)
        kept, scores = kept[others], likeness(query, rows[others])[0]
    tau = None if truth is None else _tau(kendall_tau(scores, truth[kept]))
    order = ranked(scores)
    row_at: list[int] = kept[order].tolist()
    places = [
        Place(rank, source.ids[row], float(score), None if truth is None else float(truth[row]))
        for rank, (row, score) in enumerate(zip(row_at, scores[order]), 1)
    ]
    if args.output is not None:
        page = ranking_page(
            places,
            lambda place: source.image(row_at[place.rank - 1]),
            title=args.difference if args.like is None else f"{args.like}, but: {args.difference}",
            note=_said(args, len(places), tau),
            shown=args.shown,
            truth_name=args.truth or "",
            query=None if asked is None else asked.image(0),
        )
        with new_file(args.output, overwrite=args.overwrite) as staged:
            # a path, or the sentence, may hold bytes that are no UTF-8
            staged.write_text(page, encoding="utf-8", errors="backslashreplace")
    report_skipped(skipped)
    note_cut_texts(tokenizer, [args.difference])
    if args.json:
        ranking = [{"id": place.id, "score": place.score} for place in places]
        print_json({"images": len(places), "kendall_tau": tau, "ranking": ranking, "skipped": skipped_as_json(skipped)})
    elif args.output is None:
        _write_csv(places, args.truth)
    if args.truth is not None:
        note(_told(args.truth, tau))
    if args.output is not None:
        note(f"wrote {args.output}")


def numbers_of(source: "ImageSource", column: str) -> "Float[np.ndarray, ' images']":
    """Read a column of a source as numbers.

    Raises:
      DataError: there is no such column, or an entry that is no number.
    """
    import numpy as np

    values = source.column(column)
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError as error:
        raise DataError(f"{source.name}: the column {column!r} holds no numbers ({error})") from None
    if not np.isfinite(numbers).all():
        raise DataError(f"{source.name}: the column {column!r} holds a number that is not finite; leave the image out")
    return numbers


def _query(args: argparse.Namespace, source: "ImageSource") -> "tuple[ImageSource, int | None]":
    """Find the image of --like, and where it is among the images, of which it is then left out.

    Raises:
      DataError: there is no such image, or no other.
    """
    from pathlib import Path

    from clipjax.data.image_names import ImageNames
    from clipjax.data.source import memory_source
    from clipjax.data.textfile import existing_path

    path, root = existing_path(args.like), Path(args.images).expanduser().resolve()
    inside = path is not None and path.resolve().is_relative_to(root)
    named = path.resolve().relative_to(root).as_posix() if path is not None and inside else args.like
    place = ImageNames(source.ids).place(named)
    if place is not None:
        if len(source) == 1:
            raise DataError(f"{source.name}: holds no other image than {args.like!r}; give more to order")
        return source.select([place]), place
    if path is None or not path.is_file():
        raise DataError(f"--like {args.like}: neither an image of {source.name} nor a file; give an id, or a path")
    return memory_source([path.read_bytes()], ids=[path.name], name=str(path)), None


def _tau(tau: float) -> float | None:
    return None if tau != tau else tau


def _said(args: argparse.Namespace, images: int, tau: float | None) -> str:
    beside = f"the images of {args.anchors}" if args.anchors else args.like or "each other"
    measured = f" {_told(args.truth, tau)}." if args.truth else ""
    return f"{images:,} images of {args.images}, compared with {beside} by {args.weights}.{measured}"


def _told(truth: str, tau: float | None) -> str:
    found = "there is none, as all values or all scores are equal" if tau is None else f"{tau:.3f}"
    return f"Kendall's tau with {truth}: {found}"


def _write_csv(places: "list[Place]", truth: str | None) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["rank", "id", "score", *([truth] if truth else [])])
    for place in places:
        known = [] if place.truth is None else [f"{place.truth:g}"]
        writer.writerow([place.rank, place.id, f"{place.score:.6f}", *known])
