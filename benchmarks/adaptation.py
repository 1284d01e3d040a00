"""Methods without labels, their baselines and a ceiling on the testbed's domains, under one protocol.

    python -m benchmarks.adaptation --work study --develop                           # choose learning rates
    python -m benchmarks.adaptation --work study --domains eurosat pacs_cartoon      # the table

Every variant adapts the same small CLIP to the same unlabelled target-train images and is measured once, at its end,
on target-test. Variants that train an encoder do so for as many epochs with the same augmentation; otherwise a variant
has its method's own optimiser and settings. `--develop` tries those of `GRIDS` on PACS art paintings, the development
domain. Each result is a line of WORK/results.jsonl; what is there is not run again: start another WORK for other code.
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.testbed_domains import DEVELOPMENT, DOMAINS, open_domain, told
from benchmarks.timing import machine
from clipjax.cli.adapt import measured, nested
from clipjax.cli.problem_files import Opened
from clipjax.methods import latteclip
from clipjax.methods.adapt import adapt
from clipjax.progress import silent
from clipjax.training.fit import Pace
from clipjax.training.metrics import Entry
from clipjax.training.run import Run

SEEDS = (1, 2, 3)
EPOCHS = 3.0
VIEW = {"crop": 0.9, "jitter": 0.8, "grayscale": 0.2}  # LatteCLIP's
FLYP = {"equal_labels": "negatives", "epochs": EPOCHS, "flip": 0.0, **VIEW}
LATTE = {"epochs": EPOCHS, **VIEW}
TOLD = {"texts": ["class", "image"], **LATTE}


@dataclasses.dataclass(frozen=True)
class Variant:
    """A method with settings, and its name in the table. With `labels` it sees the true ones: a ceiling."""

    title: str
    method: str
    settings: dict[str, Any]
    labels: bool = False


VARIANTS = {
    "zero_shot": Variant("zero-shot", "zero_shot", {}),
    "flyp": Variant("FLYP, zero-shot pseudo-labels", "finetune", {"labels": "pseudo", **FLYP}),
    "self_training": Variant("self-training, threshold", "self_training", {"epochs": EPOCHS, "flip": 0.0, **VIEW}),
    "upl": Variant("UPL", "upl", {"contexts": 4, "crop": 0.5}),
    "prototypes": Variant("prototypes alone, encoders frozen", "latteclip", {"trainable": ["^logit_scale$"], **LATTE}),
    "latteclip_1e-7": Variant("LatteCLIP, learning rate 1e-7 as published", "latteclip", LATTE),
    "latteclip": Variant("LatteCLIP", "latteclip", LATTE),
    "told": Variant("LatteCLIP, captions that name the true class", "latteclip", TOLD, labels=True),
    "oracle": Variant("FLYP, true labels: a ceiling", "finetune", {"labels": "given", **FLYP}, labels=True),
}

GRIDS = {
    "flyp": [f"optimizer.lr={lr}" for lr in ("3e-5", "1e-4", "3e-4", "1e-3")],
    "self_training": [
        *(f"optimizer.lr={lr} confidence={c}" for lr in ("3e-5", "1e-4", "3e-4") for c in (0.3, 0.5)),
        "optimizer.lr=1e-4 confidence=0.7",
    ],
    "upl": [f"optimizer.lr={lr} contexts={n}" for lr in ("2e-3", "1e-2") for n in (4, 8)],
    "latteclip": [f"optimizer.lr={lr}" for lr in ("3e-5", "1e-4", "3e-4")],
}
CHOSEN = {
    "flyp": "optimizer.lr=3e-4",
    "self_training": "optimizer.lr=1e-4 confidence=0.5",
    "upl": "optimizer.lr=2e-3 contexts=8",
    "latteclip": "optimizer.lr=3e-4",
    "told": "optimizer.lr=3e-4",
    "oracle": "optimizer.lr=3e-4",
}
"""The best of each grid on the development domain; the ceiling is FLYP, too."""


def main() -> None:
    args = _parser().parse_args()
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    if args.develop:
        for name in args.variants:
            for choice in GRIDS.get(name, ()):
                result(work, DEVELOPMENT, name, 0, choice)
        return
    for seed in args.seeds:
        for domain in args.domains:
            for name in args.variants:
                result(work, domain, name, seed, CHOSEN.get(name, ""))
    print(table(work, args.domains, args.variants, args.seeds))
    print(json.dumps(machine()))


def result(work: Path, domain: str, name: str, seed: int, choice: str) -> dict[str, Any]:
    """Adapt and measure, or read what was measured before."""
    variant, settings = VARIANTS[name], settings_of(name, seed, choice)
    key = key_of(domain, name, settings)
    if key in (known := results(work)):
        return known[key]
    opened = open_domain(domain, work, labels=variant.labels, texts=variant.method == "latteclip" and name != "told")
    opened = told(opened) if name == "told" else opened
    about = {"domain": domain, "variant": name, "seed": seed, "choice": choice, "key": key}
    found = {**about, **run(opened, variant.method, settings)}
    with (work / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")
    print(json.dumps(found), flush=True)
    return found


def settings_of(name: str, seed: int, choice: str) -> dict[str, Any]:
    """Put a variant's settings together with those that were chosen; zero-shot has none, not even a seed."""
    own = {**VARIANTS[name].settings, **nested(choice.split())}
    return own if name == "zero_shot" else {**own, "seed": seed}


def key_of(domain: str, name: str, settings: dict[str, Any]) -> str:
    """Name a result by domain, variant and settings; texts and code are not in it (see above)."""
    return json.dumps([domain, name, settings], sort_keys=True)


def run(opened: Opened, method: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Adapt once; return accuracies in percent, seconds, and what the run's last entry says without labels."""
    seen: dict[int, dict[str, float]] = {}

    def remember(entry: Entry) -> None:
        seen[entry.step] = entry.values

    start = time.monotonic()
    classifier = adapt(method, opened.problem, run=Run(sinks=(remember,), pace=Pace(log_every=1)), **settings)
    seconds = time.monotonic() - start
    assert opened.test is not None
    top1 = measured(classifier, opened.test, silent).document()["top1"]
    # what the adapted text tower says of the class names, in place of the method's own class weights
    texts = opened.problem.text_classifier(classifier.params)
    by_texts = measured(texts, opened.test, silent).document()["top1"]
    return {"top1": top1, "top1_by_texts": by_texts, "seconds": round(seconds, 1), **watched(opened, seen)}


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


def results(work: Path) -> dict[str, dict[str, Any]]:
    """Read what was measured, by key."""
    path = work / "results.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {found["key"]: found for found in map(json.loads, lines)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="study", metavar="DIR", help="texts and results; a repeated command goes on")
    parser.add_argument("--develop", action="store_true", help="choose settings on the development domain")
    parser.add_argument("--domains", nargs="+", default=["eurosat", "pacs_cartoon"], choices=list(DOMAINS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    return parser


if __name__ == "__main__":
    main()
