"""clipjax texts phrases captions.csv cupl.json -o phrases.txt"""

import argparse

from clipjax.cli.options import add_json, given, positive


def add_parser(actions) -> None:
    parser = actions.add_parser(
        "phrases",
        help="collect the noun phrases of captions, for the retrieval writer",
        description="Collect the noun phrases of captions and class descriptions, the frequent ones first, into a file "
        "that the retrieval writer describes images with. Lines of the file may be removed or added by hand.",
    )
    parser.add_argument("files", nargs="+", type=given, metavar="FILE", help="caption files, descriptions, or stores")
    parser.add_argument("-o", "--output", type=given, required=True, metavar="FILE", help="the inventory")
    parser.add_argument("--most", type=positive, default=1000, metavar="N", help="how many (default: 1000)")
    parser.add_argument(
        "--at-least", type=positive, default=3, metavar="N", help="sentences that hold a phrase (default: 3)"
    )
    parser.add_argument("--longest", type=positive, default=4, metavar="N", help="words of a phrase (default: 4)")
    parser.add_argument("--overwrite", action="store_true", help="replace the inventory if it exists")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from clipjax.cli.console import note, print_json
    from clipjax.outputs import check_free
    from clipjax.texts.importing import import_texts
    from clipjax.texts.phrases import mine_phrases, source_digest, write_phrases
    from clipjax.texts.store import TextStore, is_store

    check_free(args.output, "file", overwrite=args.overwrite, made_from=args.files)
    sentences = [
        record.text
        for name in args.files
        for record in (TextStore(name).records() if is_store(name) else import_texts(name))
    ]
    settings = {"at_least": args.at_least, "longest": args.longest, "most": args.most}
    phrases = mine_phrases(sentences, **settings)
    write_phrases(args.output, phrases, sources=source_digest(sentences, **settings), overwrite=args.overwrite)
    if args.json:
        print_json({"phrases": len(phrases), "texts": len(sentences), "inventory": args.output})
    note(f"wrote {len(phrases):,} phrases of {len(sentences):,} texts to {args.output}")
