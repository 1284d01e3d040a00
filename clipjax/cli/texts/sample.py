"""clipjax texts sample texts.jsonl --images photos/ -o sample.html"""

import argparse

from clipjax.cli.options import add_images, add_json, given, natural, positive


def add_parser(actions) -> None:
    parser = actions.add_parser(
        "sample",
        help="write a page with some texts beside their images",
        description="Draw some texts and write them, with their images and what is wrong with them, as a page.",
    )
    parser.add_argument("store", type=given, metavar="STORE")
    parser.add_argument("-n", type=positive, default=24, metavar="N", help="how many (default: 24)")
    add_images(parser, required=False)
    parser.add_argument("--weights", type=given, metavar="PATH", help="a CLIP that says how well texts and images fit")
    parser.add_argument("--kind", type=given, metavar="KIND", help="only texts of this kind, such as caption")
    parser.add_argument("--seed", type=natural, default=0, metavar="N", help="another seed draws others (default: 0)")
    parser.add_argument("-o", "--output", type=given, required=True, metavar="HTML", help="the page")
    parser.add_argument("--overwrite", action="store_true", help="replace the page if it exists")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from clipjax.cli.console import note, print_json, progress
    from clipjax.cli.options import open_images
    from clipjax.cli.problem_files import usable
    from clipjax.cli.texts.clip import TextClip
    from clipjax.cli.texts.fit import fit
    from clipjax.data.image_names import ImageNames
    from clipjax.errors import ConfigError, DataError
    from clipjax.outputs import check_free, new_file
    from clipjax.texts.checks import faults
    from clipjax.texts.html import Card, sample_page
    from clipjax.texts.record import KINDS, TextRecord
    from clipjax.texts.store import TextStore, draw

    if args.kind is not None and args.kind not in KINDS:
        raise ConfigError(f"--kind {args.kind}: is none of {', '.join(KINDS)}")
    if args.weights and not args.images:
        raise ConfigError("how texts fit images can only be told beside them; give --images, too")
    check_free(args.output, "file", overwrite=args.overwrite, made_from=[args.store])
    store = TextStore(args.store)
    source = open_images(args) if args.images else None
    if source is not None and args.skip_bad:
        source = usable(source, progress)
    names = ImageNames(source.ids if source is not None else ())
    places = lambda record: [names.place(name) for name in record.images]

    def wanted(record: TextRecord) -> bool:
        return args.kind in (None, record.kind) and (source is None or None not in places(record))

    records = draw(store, args.n, wanted=wanted, seed=args.seed)
    if not records:
        about = f" about images of {args.images}" if args.images else ""
        raise DataError(f"{args.store}: holds no {args.kind or 'texts'}{about}; generate or import some")
    similarity: dict[str, float] = {}
    if args.weights and source is not None:
        for chosen, found in fit(TextClip(args.weights, args.store, progress), source, records):
            similarity |= dict(zip((record.key for record in chosen), found.similarity.tolist()))

    def card(record: TextRecord) -> Card:
        pictures = [] if source is None else [source.image(place) for place in places(record) if place is not None]
        return Card(record, pictures, faults(record), similarity.get(record.key))

    cards = [card(record) for record in records]
    title = f"{len(cards)} of {store.texts:,} texts of {args.store}"
    with new_file(args.output, overwrite=args.overwrite) as staged:
        staged.write_text(sample_page(cards, title=title, note=f"Drawn with seed {args.seed}."), encoding="utf-8")
    if args.json:
        print_json({"page": args.output, "texts": len(cards)})
    note(f"wrote {args.output}")
