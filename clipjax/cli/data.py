"""clipjax data prepare photos.tar photos-tfds --name photos"""

import argparse

from clipjax.cli.options import IMAGES_HELP, add_json, add_selection, given


def add_parser(commands) -> None:
    parser = commands.add_parser("data", help="prepare data sets", description="Prepare data sets.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    prepare = actions.add_parser(
        "prepare",
        help="write images as a TFDS array_record data set",
        description="Write images as a TFDS array_record data set that tfds.builder_from_directory reads.",
    )
    prepare.add_argument("images", type=given, metavar="SRC", help=IMAGES_HELP)
    prepare.add_argument("directory", type=given, metavar="DIR", help="where to write; must not exist")
    prepare.add_argument("--name", required=True, help="name of the data set, in lower case and underscores")
    prepare.add_argument("--version", default="1.0.0", help="default: 1.0.0")
    add_selection(prepare)
    prepare.add_argument("--skip-bad", action="store_true", help="leave out images that cannot be decoded")
    prepare.add_argument("--overwrite", action="store_true", help="replace DIR if it exists")
    add_json(prepare)
    prepare.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from clipjax.cli.console import note, print_json, progress
    from clipjax.cli.options import check_output, open_images, report_skipped, skipped_as_json
    from clipjax.data.prepare import prepare

    check_output(args, args.directory, "directory")
    source = open_images(args)
    made = prepare(
        source,
        args.directory,
        args.name,
        args.version,
        skip_bad=args.skip_bad,
        overwrite=args.overwrite,
        progress=progress,
    )
    report_skipped(made.skipped)
    if args.json:
        document = {"directory": str(made.directory), "splits": made.splits, "reencoded": made.reencoded}
        print_json({**document, "renamed": made.renamed, "skipped": skipped_as_json(made.skipped)})
        return
    counts = ", ".join(f"{name} {count}" for name, count in made.splits.items())
    note(f"wrote {made.directory}: {counts} images")
    for column, name in made.renamed.items():
        note(f"the column {column!r} is called {name} there")
    if made.reencoded:
        note(f"{made.reencoded} images were neither JPEG nor PNG and were rewritten as PNG, without loss")
