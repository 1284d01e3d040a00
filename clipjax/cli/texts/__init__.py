"""clipjax texts: generate, import, check and look at texts about images and classes."""

from clipjax.cli.texts import check, generate, importing, phrases, sample, stats

ACTIONS = (generate, importing, check, stats, sample, phrases)


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "texts",
        help="have texts written about images and classes, import, check and look at them",
        description="Texts that methods learn from (captions, descriptions, differences), kept in one file, the store.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for module in ACTIONS:
        module.add_parser(actions)
