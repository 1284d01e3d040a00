"""clipjax texts check texts.jsonl --images photos/ --weights ViT-B-32.pt -o flagged.csv --keep good.jsonl"""

import argparse
import csv
from typing import TYPE_CHECKING, Any

from clipjax.cli.options import add_images, add_json, given

if TYPE_CHECKING:
    from clipjax.texts.faithfulness import Faithfulness
    from clipjax.texts.record import TextRecord

_COLUMNS = ("key", "kind", "subjects", "flags", "similarity", "percentile", "suits_better", "text")


def add_parser(actions) -> None:
    parser = actions.add_parser(
        "check",
        help="find texts that are damaged, too long, or do not fit their images",
        description="Find texts that break a rule (refusals, preambles, other languages, repetitions), that a model "
        "would cut, and that fit their images badly; write them down, and keep the others.",
    )
    parser.add_argument("store", type=given, metavar="STORE")
    parser.add_argument("--weights", type=given, metavar="PATH", help="a CLIP: its context length, and how texts fit")
    add_images(parser, required=False)
    parser.add_argument(
        "--percent", type=_percent, default=5.0, metavar="P", help="flag the P %% that fit worst (default: 5)"
    )
    parser.add_argument("-o", "--output", type=given, metavar="CSV", help="write the flagged texts down")
    parser.add_argument("--keep", type=given, metavar="STORE", help="write the texts without a flag to a new store")
    parser.add_argument("--overwrite", action="store_true", help="replace the outputs if they exist")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from clipjax.cli.console import note, print_json, print_table, progress
    from clipjax.cli.options import open_images
    from clipjax.cli.problem_files import usable
    from clipjax.cli.texts.clip import TextClip
    from clipjax.cli.texts.fit import fit
    from clipjax.errors import ConfigError, DataError
    from clipjax.outputs import check_free
    from clipjax.texts.checks import faults
    from clipjax.texts.store import TextStore

    if args.images and not args.weights:
        raise ConfigError("how texts fit images a CLIP has to say; give --weights")
    for place in filter(None, (args.output, args.keep)):
        check_free(place, "file", overwrite=args.overwrite, made_from=[args.store])
    store = TextStore(args.store)
    if wrong := store.verify():
        more = f" (and {len(wrong) - 1} more lines)" if len(wrong) > 1 else ""
        raise DataError(f"{wrong[0]}{more}; mend or remove such lines")
    records = list(store.records())
    if not records:
        raise DataError(f"{args.store}: holds no texts to check")
    checked = progress(records, total=len(records), label="checking", unit="texts")
    flags = {record.key: list(faults(record)) for record in checked}
    clip = TextClip(args.weights, args.store, progress) if args.weights else None
    measured = []
    if clip is not None and args.images:
        source = open_images(args)
        measured = fit(clip, usable(source, progress) if args.skip_bad else source, records)
    if clip is not None:
        cut = clip.tokenizer.truncated([record.text for record in records])
        for record, too_long in zip(records, cut):
            flags[record.key] += ["is_cut"] * bool(too_long)
    scores: dict[str, tuple[float, float, float]] = {}
    for chosen, found in measured:
        for place in found.low(args.percent):
            flags[chosen[place].key].append("fits_badly")
        values = zip(found.similarity.tolist(), found.percentile.tolist(), found.suits_better.tolist())
        scores |= {record.key: value for record, value in zip(chosen, values)}
    summaries = [_summary(chosen, found, args.percent) for chosen, found in measured]
    rules = sorted({rule for found in flags.values() for rule in found})
    counts = {rule: sum(rule in found for found in flags.values()) for rule in rules}
    flagged = [record for record in records if flags[record.key]]
    if args.output:
        _write(args, flagged, flags, scores)
    if args.keep:
        _keep(args, [record for record in records if not flags[record.key]])
    if args.json:
        print_json({"texts": len(records), "flagged": len(flagged), "flags": counts, "fit": summaries})
    else:
        shares = [(rule, count, 100 * count / len(records)) for rule, count in counts.items()]
        title = f"{len(flagged):,} of {len(records):,} texts of {args.store} have a flag"
        print_table(title, ["flag", "texts", "%"], shares)
        if summaries:
            lowest = f"lowest {args.percent:g} % below"
            columns = ["kind", "texts", "similarity, median", lowest, "suits others better, %"]
            print_table("texts and their images", columns, [list(s.values()) for s in summaries])
    for place in filter(None, (args.output, args.keep)):
        note(f"wrote {place}")


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 100")
    return value


def _summary(chosen: "list[TextRecord]", fit: "Faithfulness", percent: float) -> dict[str, Any]:
    import numpy as np

    return {
        "kind": chosen[0].kind,
        "texts": len(chosen),
        "similarity": float(np.median(fit.similarity)),
        "low": float(np.percentile(fit.similarity, percent)),
        "suits_better": 100 * float(fit.suits_better.mean()),
    }


def _write(args: argparse.Namespace, flagged, flags, scores) -> None:
    from clipjax.outputs import new_file

    opened = new_file(args.output, overwrite=args.overwrite)
    with opened as staged, staged.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_COLUMNS)
        # what fits worst comes first
        for r in sorted(flagged, key=lambda r: scores.get(r.key, (2.0,))[0]):
            fit = [f"{value:.4f}" for value in scores[r.key]] if r.key in scores else ["", "", ""]
            table.writerow([r.key, r.kind, " ".join(r.subjects), " ".join(flags[r.key]), *fit, r.text])


def _keep(args: argparse.Namespace, records: "list[TextRecord]") -> None:
    from clipjax.outputs import new_file
    from clipjax.texts.store import TextStore

    with new_file(args.keep, overwrite=args.overwrite) as staged:
        TextStore(staged, create=True).append(records)
