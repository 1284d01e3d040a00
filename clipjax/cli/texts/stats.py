"""clipjax texts stats texts.jsonl --html texts.html"""

import argparse

from clipjax.cli.options import add_json, given


def add_parser(actions) -> None:
    parser = actions.add_parser(
        "stats",
        help="count texts: kinds, lengths, repetitions, failures",
        description="Count what a store holds, and why questions got no answer.",
    )
    parser.add_argument("store", type=given, metavar="STORE")
    parser.add_argument("--html", type=given, metavar="FILE", help="write a page with histograms, too")
    parser.add_argument("--overwrite", action="store_true", help="replace the page if it exists")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    import dataclasses
    import itertools
    from typing import get_args

    from clipjax.cli.console import note, print_json, print_table, progress
    from clipjax.outputs import check_free, new_file
    from clipjax.texts.html import statistics_page
    from clipjax.texts.statistics import LENGTHS, statistics
    from clipjax.texts.store import State, TextStore

    if args.html:
        check_free(args.html, "file", overwrite=args.overwrite, made_from=[args.store])
    store = TextStore(args.store)
    records = itertools.chain.from_iterable(store.records(state=state) for state in get_args(State))
    found = statistics(progress(records, total=len(store), label="counting", unit="texts"))
    if args.html:
        note_ = f"{store.texts:,} texts, {len(store) - store.texts:,} questions without one."
        with new_file(args.html, overwrite=args.overwrite) as staged:
            staged.write_text(statistics_page(found, title=f"Texts of {args.store}", note=note_), encoding="utf-8")
    if args.json:
        print_json({"store": args.store, "kinds": [dataclasses.asdict(s) for s in found]})
    else:
        words = [f"words, {'longest' if q == 100 else f'{q} %'}" for q in LENGTHS]
        columns = ["kind", "texts", "subjects", "rejected", "failed", "equal to another", "with a fault", *words]
        rows = [
            [s.kind, s.texts, s.subjects, s.rejected, s.failed, s.repeated, s.faulty, *s.words.values()] for s in found
        ]
        print_table(args.store, columns, rows)
        counted = [(s.kind, rule, count) for s in found for rule, count in s.faults.items()]
        counted += [(s.kind, f"no text: {why}", count) for s in found for why, count in s.errors.items()]
        if counted:
            print_table("faults", ["kind", "fault", "texts"], counted)
    if args.html:
        note(f"wrote {args.html}")
