"""clipjax texts import captions.csv cupl.json --store texts.jsonl"""

import argparse

from clipjax.cli.options import add_json, given


def add_parser(actions) -> None:
    parser = actions.add_parser(
        "import",
        help="add texts that others wrote, or those of other stores",
        description="Add the texts of published files (Flickr8k and COCO captions; class descriptions as CuPL, DCLIP, "
        "SuS-X, ProText and CaFo wrote them) and of other stores. What is there already is not added again.",
    )
    parser.add_argument("files", nargs="+", type=given, metavar="FILE", help="published files, or stores")
    parser.add_argument("--store", type=given, required=True, metavar="FILE", help="where texts are kept (.jsonl)")
    parser.add_argument(
        "--kind", choices=("caption", "class_description"), help="what the files hold, where that is not plain"
    )
    parser.add_argument("--model", default="", metavar="NAME", help="what wrote the texts, where known")
    parser.add_argument(
        "--classes", type=given, metavar="FILE[:KEY]", help="the classes that the lines of a plain text describe"
    )
    add_json(parser)
    parser.set_defaults(run=run, interrupted="what was imported is kept; repeat the command for the rest")


def run(args: argparse.Namespace) -> None:
    from clipjax.cli.console import note, print_json
    from clipjax.data.classes import read_classes
    from clipjax.texts.importing import import_texts
    from clipjax.texts.store import TextStore, is_store, merge

    classes = read_classes(args.classes).names if args.classes else None
    # all are read before the first is added: a mistake in one leaves the store as it was
    found = [
        TextStore(name) if is_store(name) else import_texts(name, kind=args.kind, model=args.model, classes=classes)
        for name in args.files
    ]
    store = TextStore(args.store, create=True)
    added = {
        name: merge(store, part) if isinstance(part, TextStore) else store.append(part)
        for name, part in zip(args.files, found)
    }
    if args.json:
        print_json({"added": added, "texts": store.texts, "store": args.store})
        return
    for name, part in zip(args.files, found):
        there = f", {len(part) - added[name]:,} were there" if len(part) > added[name] else ""
        note(f"{name}: added {added[name]:,} texts{there}")
