"""Methods without labels, their baselines and a ceiling on the testbed's domains, under one protocol.

    python -m benchmarks.adaptation --study latteclip --work study --develop     # choose learning rates
    python -m benchmarks.adaptation --study latteclip --work study               # the table

Every variant adapts the same small CLIP to the same unlabelled target-train images and is measured once, at its end,
on target-test. Variants of LatteCLIP's study that train an encoder do so for as many epochs with the same augmentation;
otherwise, and in CoFT's study, a variant has its method's own optimiser and settings. `--develop` tries those of
`GRIDS` on PACS art paintings, the development domain. Each result is a line of WORK/results.jsonl; what is there is not
run again: start another WORK for other code. Variants of CoFT share what they have in common, the prompts of a domain
and seed, and so the first takes longest.
"""

import argparse
import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adaptation_variants import CHOSEN, GRIDS, STUDIES, VARIANTS
from benchmarks.study_results import note, noted
from benchmarks.testbed_domains import DEVELOPMENT, DOMAINS, open_domain, told
from benchmarks.timing import machine
from clipjax.classify.classifier import Classifier
from clipjax.classify.embed import score_images, score_members
from clipjax.classify.ensemble import Ensemble
from clipjax.cli.adapt import nested
from clipjax.cli.problem_files import Opened
from clipjax.data.source import ImageSource
from clipjax.evaluation.pseudo_labels import quality
from clipjax.methods import latteclip
from clipjax.methods.adapt import adapt
from clipjax.training.fit import Pace
from clipjax.training.metrics import Entry
from clipjax.training.run import Run

SEEDS = (1, 2, 3)


def main() -> None:
    args = _parser().parse_args()
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    variants = args.variants or STUDIES[args.study]
    if args.develop:
        for name in variants:
            for choice in GRIDS.get(name, ()):
                result(work, DEVELOPMENT, name, 0, choice)
        return
    for seed in args.seeds:
        for domain in args.domains:
            for name in variants:
                result(work, domain, name, seed, CHOSEN.get(name, ""))
    print(table(work, args.domains, variants, args.seeds))
    print(label_table(work, args.domains, variants))
    print(json.dumps(machine()))


def result(work: Path, domain: str, name: str, seed: int, choice: str) -> dict[str, Any]:
    """Adapt and measure, or read what was measured before."""
    variant, settings = VARIANTS[name], settings_of(name, seed, choice)
    key = key_of(domain, name, settings)
    if key in (known := results(work)):
        return known[key]
    opened = open_domain(domain, work, labels=variant.labels, texts=variant.reads_texts)
    opened = told(opened) if name == "told" else opened
    about = {"domain": domain, "variant": name, "seed": seed, "choice": choice, "key": key}
    shared = work / "prompts" / f"{domain}-{seed}" if variant.method == "coft" else None
    found = {**about, **run(opened, variant.method, settings, shared)}
    note(work / "results.jsonl", found)
    return found


def settings_of(name: str, seed: int, choice: str) -> dict[str, Any]:
    """Put a variant's settings together with those that were chosen; zero-shot has none, not even a seed."""
    own = {**VARIANTS[name].settings, **nested(choice.split())}
    return own if name == "zero_shot" else {**own, "seed": seed}


def key_of(domain: str, name: str, settings: dict[str, Any]) -> str:
    """Name a result by domain, variant and settings; texts and code are not in it (see above)."""
    return json.dumps([domain, name, settings], sort_keys=True)


def run(opened: Opened, method: str, settings: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """Adapt once; return accuracies in percent, seconds, and what the run says of itself.

    In a `folder` stages of earlier variants are found; those that every variant has for itself are removed.
    """
    seen: dict[int, dict[str, float]] = {}

    def remember(entry: Entry) -> None:
        seen[entry.step] = entry.values

    for path in _judged(folder):
        path.unlink()  # of a variant that was stopped
    start = time.monotonic()
    classifier = adapt(method, opened.problem, run=Run(folder, sinks=(remember,), pace=Pace(log_every=1)), **settings)
    seconds = time.monotonic() - start
    assert opened.test is not None
    scores, members, _ = score_members(classifier, opened.test)
    found: dict[str, Any] = {"top1": _top1(scores, opened.test), "seconds": round(seconds, 1)}
    if members:
        found["members"] = [_top1(member, opened.test) for member in members]
    elif isinstance(classifier, Classifier):
        # what the adapted text tower says of the class names, in place of the method's own class weights
        found["top1_by_texts"] = top1(opened.problem.text_classifier(classifier.params), opened.test)
    if folder is not None:
        found["judged"] = judged(folder, opened)
        for stage in (folder / "stages").glob("tune-*"):
            shutil.rmtree(stage)
    return {**found, **watched(opened, seen)}


def judged(folder: Path, opened: Opened) -> list[dict[str, Any] | None]:
    """Measure CoFT's pseudo-labels by labels that it never saw, those of each model's proposals, and remove them."""
    found = []
    for path in _judged(folder):
        with np.load(path) as arrays:
            shares = quality(arrays, opened.problem.images.labels)
        found.append(shares)
        path.unlink()
    return found


def _judged(folder: Path | None) -> list[Path]:
    return [] if folder is None else sorted((folder / "once").glob("judged-*.npz"))


def top1(classifier: Classifier | Ensemble, test: ImageSource) -> float:
    """Measure a classifier, in percent."""
    return _top1(score_images(classifier, test)[0], test)


def _top1(scores: np.ndarray, test: ImageSource) -> float:
    return 100 * float(np.mean(scores.argmax(1) == test.labels))


def watched(opened: Opened, seen: dict[int, dict[str, float]]) -> dict[str, Any]:
    """Return what LatteCLIP's metrics say without labels: each epoch's agreement, and drift and entropy at the end."""
    if not seen or "epoch_agreement" not in (last := seen[max(seen)]):
        return {}
    per_epoch = len(opened.problem.images) // latteclip.Config().batch_size
    epochs = [round(seen[step]["epoch_agreement"], 4) for step in sorted(seen) if step % per_epoch == 0]
    return {"agreement_by_epoch": epochs, **{name: round(last[name], 4) for name in ("drift", "mixer_entropy")}}


def table(work: Path, domains: list[str], variants: list[str], seeds: list[int]) -> str:
    """Write the means and standard deviations over seeds as Markdown; what was not run is left out."""
    known = results(work)
    lines = ["| | " + " | ".join(domains) + " | mean |", "|---" * (len(domains) + 2) + "|"]
    for name in variants:
        cells, means = [], []
        for domain in domains:
            keys = [key_of(domain, name, settings_of(name, seed, CHOSEN.get(name, ""))) for seed in seeds]
            found = [known[key]["top1"] for key in dict.fromkeys(keys) if key in known]
            if not found:
                cells.append("")
                continue
            means.append(statistics.mean(found))
            cells.append(f"{means[-1]:.2f} ± {statistics.stdev(found):.2f}" if len(found) > 1 else f"{means[-1]:.2f}")
        mean = f"{statistics.mean(means):.2f}" if len(means) == len(domains) else ""
        lines.append(f"| {VARIANTS[name].title} | " + " | ".join(cells) + f" | {mean} |")
    return "\n".join(lines)


def label_table(work: Path, domains: list[str], variants: list[str]) -> str:
    """Write how many of CoFT's proposals are right, and of the accepted ones, and how many are accepted: means."""
    lines = ["| % right of all, of the accepted (accepted) | " + " | ".join(domains) + " |"]
    lines.append("|---" * (len(domains) + 1) + "|")
    for name in variants:
        cells = []
        for domain in domains:
            runs = [one for one in results(work).values() if (one["domain"], one["variant"]) == (domain, name)]
            each = [shares for one in runs for shares in one.get("judged", ()) if shares]
            keys = ("right", "right_of_accepted", "accepted")
            means = [statistics.mean(shares[key] for shares in each) for key in keys] if each else []
            cells.append("{:.1f}, {:.1f} ({:.0f})".format(*means) if means else "")
        if any(cells):
            lines.append(f"| {VARIANTS[name].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def results(work: Path) -> dict[str, dict[str, Any]]:
    """Read what was measured, by key."""
    return {found["key"]: found for found in noted(work / "results.jsonl")}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="study", metavar="DIR", help="texts and results; a repeated command goes on")
    parser.add_argument("--develop", action="store_true", help="choose settings on the development domain")
    parser.add_argument("--domains", nargs="+", default=["eurosat", "pacs_cartoon"], choices=list(DOMAINS))
    parser.add_argument("--study", default="latteclip", choices=list(STUDIES), help="which table")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), help="these rows alone")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    return parser


if __name__ == "__main__":
    main()
