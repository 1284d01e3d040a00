"""clipjax inspect ViT-B-32.pt"""

import argparse
import dataclasses

from clipjax.cli.options import add_json, add_preset, given, preset_of


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "inspect",
        help="say what a checkpoint is, without loading its numbers",
        description="Say what a checkpoint is: format, configuration, parameters. The numbers are not read.",
    )
    parser.add_argument("path", type=given, metavar="PATH", help="a checkpoint, or a name on the Hugging Face hub")
    add_preset(parser)
    parser.add_argument("--all", action="store_true", help="list every parameter, not one line for each part")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from clipjax.cli.console import print_json, print_table
    from clipjax.weights.describe import describe
    from clipjax.weights.load import resolve

    found = describe(resolve(args.path), preset_of(args))
    if args.json:
        print_json(dataclasses.asdict(found))
        return
    parts = found.parameters if args.all else found.parts()
    print_table(f"{args.path}: {found.format}", ["configuration", "value"], _settings(found.config), numeric=False)
    rows = [(p.path, "x".join(map(str, p.shape)) or "scalar", p.dtype, f"{p.count:,}") for p in parts]
    total = sum(p.count for p in found.parameters)
    print_table("parameters", ["path", "shape", "type", "numbers"], [*rows, ("total", "", "", f"{total:,}")])


def _settings(config: dict, prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in config.items():
        if isinstance(value, dict):
            rows += _settings(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, str(value)))
    return rows
