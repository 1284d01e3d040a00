"""clipjax texts generate --config=configs/texts.py --set images=photos/ --store texts.jsonl"""

import argparse

from clipjax.cli.options import add_json, given


def add_parser(actions) -> None:
    parser = actions.add_parser(
        "generate",
        help="ask a model, or write by rule; a stopped run goes on where it was",
        description="Ask what the store has no answer to, and store each answer as it comes. Repeat the command "
        "to go on after a stop, and to ask again what failed.",
    )
    parser.add_argument("--config", type=given, metavar="FILE[:ARG]", help="a file of settings: configs/texts.py")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="a setting, such as images=photos, ask=rewrite or writer=chat, see configs/texts.py; repeatable",
    )  # fmt: skip
    parser.add_argument("--store", type=given, required=True, metavar="FILE", help="where texts are kept (.jsonl)")
    add_json(parser)
    parser.set_defaults(run=run, interrupted="answers so far are kept; repeat the command to go on", resumes=True)


FAILURES = 1
"""The exit status where questions got no answer."""


def run(args: argparse.Namespace) -> int:
    from clipjax.cli.adapt import nested
    from clipjax.cli.config_files import merged, read_config
    from clipjax.cli.console import note, print_json, progress
    from clipjax.cli.texts.questions import TextFiles, questions_of
    from clipjax.cli.texts.writers import WriterSettings, open_writer
    from clipjax.errors import ConfigError
    from clipjax.texts.differences import clean_difference
    from clipjax.texts.generate import Budget, generate
    from clipjax.texts.store import TextStore
    from clipjax.training.settings import from_mapping

    settings = merged(read_config(args.config) if args.config else {}, nested(args.set))
    limits = settings.pop("budget", {})
    if not isinstance(limits, dict):
        raise ConfigError(f"the setting budget is {limits!r}; give budget.requests=N or budget.tokens=N")
    budget = from_mapping(Budget, limits, "budget.")
    own = {name: settings.pop(name) for name in WriterSettings.names() & settings.keys()}
    files = from_mapping(TextFiles, settings)
    writer = open_writer(from_mapping(WriterSettings, own), args.store, progress)
    questions = questions_of(files, args.store, progress)
    store = TextStore(args.store, create=True)
    outcome = generate(
        store, writer, questions, clean={"difference": clean_difference}, budget=budget, progress=progress
    )
    status = FAILURES if outcome.failed else 0
    if args.json:
        print_json({**vars(outcome), "questions": len(questions), "model": writer.model, "store": args.store})
        return status
    cost = f", {outcome.tokens:,} tokens" if outcome.tokens else ""
    note(f"{outcome.answered:,} of {len(questions):,} questions answered by {writer.model}{cost}; "
         f"{outcome.known:,} were answered before")  # fmt: skip
    if outcome.rejected:
        note(
            f"{outcome.rejected:,} answers are of no use and were rejected: `clipjax texts stats {args.store}` says why"
        )
    if outcome.failed:
        note(f"{outcome.failed:,} got no answer: `clipjax texts stats {args.store}` says why; repeat to ask again")
    if outcome.stopped:
        note(f"stopped: {outcome.stopped}; repeat the command to go on")
    return status
