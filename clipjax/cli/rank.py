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
    given,
    load_model,
    load_text_side,
    note_cut_texts,
    open_images,
    positive,
    report_skipped,
    skipped_as_json,
)
from clipjax.errors import DataError

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
        "others, or some anchors, as the second. Write a page with the pictures, or CSV.",
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
    from clipjax.evaluation.ranking import difference_scores, kendall_tau, ranked
    from clipjax.evaluation.ranking_page import Place, ranking_page
    from clipjax.outputs import new_file

    if args.output is not None:
        check_output(args, args.output, "file")
    source = open_images(args)
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
    scores = difference_scores(rows, sentence, beside)
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
            title=args.difference,
            note=_said(args, len(places), tau),
            shown=args.shown,
            truth_name=args.truth or "",
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


def _tau(tau: float) -> float | None:
    return None if tau != tau else tau


def _said(args: argparse.Namespace, images: int, tau: float | None) -> str:
    beside = f"the images of {args.anchors}" if args.anchors else "each other"
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
