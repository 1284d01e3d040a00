"""Few-shot methods on the testbed CLIP: base-to-new classes, all classes, another domain; one table for each study.

    python -m benchmarks.fewshot --work few --develop                            # choose settings
    python -m benchmarks.fewshot --work few --study baselines                    # 16 shots, base to new
    python -m benchmarks.fewshot --work few --study baselines --shots 1 2 4 8 16
    python -m benchmarks.fewshot --work few --study baselines --protocol all     # every class is known
    python -m benchmarks.fewshot --work few --study baselines --protocol domains --sets pacs_photo

Embeddings are made once, into WORK. Each result is a line of WORK/results.jsonl; what is there is not run again: start
another WORK for other code. `--develop` tries `GRIDS` on PACS art paintings, the development domain, whose measured
images are target-train images that are no shots. Seeds draw the shots and everything else.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fewshot_data import SETS, Opened, images_of, open_set
from benchmarks.fewshot_variants import CHOSEN, GRIDS, STUDIES, VARIANTS, Lesson, Variant, learnt, lesson_of
from benchmarks.timing import machine
from clipjax.classify.classifier import Classifier
from clipjax.classify.embed import embed_images
from clipjax.errors import ConfigError
from clipjax.evaluation.few_shot import base_new_split
from clipjax.evaluation.protocols import BaseNew, average
from clipjax.methods import descriptions
from clipjax.methods.transfer import transferred

PROTOCOLS = ("base-to-new", "all", "domains")
REPORTED = ("caltech101", "eurosat", "dtd")
DEVELOPMENT = "pacs_art_painting"
DOMAINS = ("art_painting", "cartoon")


def main() -> None:
    args = _parser().parse_args()
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    if args.develop:
        develop(work, args.seeds)
        return
    variants = args.variants or STUDIES[args.study]
    for shots in args.shots:
        for name in args.sets:
            for variant in variants:
                for seed in args.seeds:
                    result(work, args.protocol, name, variant, shots, seed)
        print(table(work, args.protocol, args.sets, variants, shots, args.seeds))
    print(json.dumps(machine()))


def develop(work: Path, seeds: list[int]) -> None:
    """Try the grids on the development domain, and say what came out."""
    for method, grid in GRIDS.items():
        for choice in grid:
            variant = Variant(str(choice), method, choice)
            found = [run(work, "base-to-new", DEVELOPMENT, variant, 16, seed) for seed in seeds]
            means = {key: round(statistics.mean(one[key] for one in found), 2) for key in ("base", "new")}
            print(json.dumps({"method": method, "choice": choice, **means}), flush=True)


def result(work: Path, protocol: str, name: str, variant: str, shots: int, seed: int) -> dict[str, Any]:
    """Adapt and measure, or read what was measured before."""
    key = key_of(protocol, name, variant, shots, seed)
    if key in (known := results(work)):
        return known[key]
    about = {"protocol": protocol, "set": name, "variant": variant, "shots": shots, "seed": seed, "key": key}
    found = {**about, **run(work, protocol, name, VARIANTS[variant], shots, seed)}
    with (work / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")
    print(json.dumps(found), flush=True)
    return found


def key_of(protocol: str, name: str, variant: str, shots: int, seed: int) -> str:
    """Name a result by all that it depends on but the code; what needs no shots is measured once."""
    drawn = VARIANTS[variant].method not in ("zero_shot", "descriptions") or protocol == "domains"
    settings = {**CHOSEN.get(VARIANTS[variant].method, {}), **VARIANTS[variant].settings}
    return json.dumps([protocol, name, variant, settings, *([shots, seed] if drawn else [])], sort_keys=True)


def run(work: Path, protocol: str, name: str, variant: Variant, shots: int, seed: int) -> dict[str, Any]:
    """Adapt once; return accuracies in per cent and seconds."""
    opened = open_set(name, work)
    everything = np.arange(len(opened.problem.class_names))
    base, new = base_new_split(len(everything)) if protocol == "base-to-new" else (everything, everything[:0])
    lesson = lesson_of(opened, variant, base, shots, seed)
    start = time.monotonic()
    classifier = learnt(variant, lesson)
    found: dict[str, Any] = {"seconds": round(time.monotonic() - start, 2)}
    chosen = opened.shots(base, shots, seed)
    found["base" if len(new) else "top1"] = _top1(classifier, *opened.measured(base, chosen))
    if len(new):
        moved = _moved(classifier, opened, variant, new, lesson)
        found["new"] = None if moved is None else _top1(moved, *opened.measured(new, chosen))
    if protocol == "domains":
        for domain in DOMAINS:
            found[domain] = _top1(classifier, *domain_rows(domain, work))
    return found


def _moved(
    classifier: Classifier, opened: Opened, variant: Variant, new: np.ndarray, lesson: Lesson
) -> Classifier | None:
    """Return the classifier of the new classes; None where the method says nothing of them."""
    problem = opened.problem.restricted_to(new)
    if variant.method == "descriptions":  # has new classes described, as published
        other = lesson_of(opened, variant, new, 1, lesson.seed)
        weights = descriptions.fit(other.shots.class_weights, other.described, descriptions.Config())
        return replace(classifier, class_names=problem.class_names, class_weights=weights)
    try:
        return transferred(classifier, problem)
    except ConfigError:
        return None


def domain_rows(domain: str, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Embed the test images of a PACS domain, once."""
    opened = open_set("pacs_photo", work)
    path = work / "embedded" / f"{domain}.npz"
    if not path.exists():
        source = images_of(SETS["pacs_photo"], (("testbed", "target-test"), ("extra", domain)))
        rows, indices, _ = embed_images(opened.problem.model, opened.problem.params, source)
        np.savez(path, rows=rows / np.linalg.norm(rows, axis=1, keepdims=True), labels=source.labels[indices])
    with np.load(path) as stored:
        return stored["rows"], stored["labels"]


def _top1(classifier: Classifier, rows: np.ndarray, labels: np.ndarray) -> float:
    return 100 * float(np.mean(np.asarray(classifier.scores_of(rows)).argmax(1) == labels))


def table(work: Path, protocol: str, sets: list[str], variants: list[str], shots: int, seeds: list[int]) -> str:
    """Write means and standard deviations over seeds as Markdown; what was not run is left out."""
    known = results(work)
    shown = {"base-to-new": ("base", "new"), "all": ("top1",), "domains": ("top1", *DOMAINS)}[protocol]
    heads = [f"{name} {key}" for name in sets for key in shown]
    last = ["base", "new", "H of means", "mean of H"] if protocol == "base-to-new" else []
    lines = [f"| {shots} shots | " + " | ".join(heads + last) + " |", "|---" * (len(heads + last) + 1) + "|"]
    for variant in variants:
        cells, by_set = [], []
        for name in sets:
            keys = dict.fromkeys(key_of(protocol, name, variant, shots, seed) for seed in seeds)
            found = [known[key] for key in keys if key in known]
            for key in shown:
                values = [one[key] for one in found if one.get(key) is not None]
                spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):.1f}{spread}" if values else "")
            if found and all(one.get("new") is not None for one in found):
                by_set.append(BaseNew(*(statistics.mean(one[key] for one in found) for key in ("base", "new"))))
        if last:
            means = average(by_set).values() if len(by_set) == len(sets) else []
            cells += [f"{value:.2f}" for value in means] or [""] * len(last)
        lines.append(f"| {VARIANTS[variant].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def results(work: Path) -> dict[str, dict[str, Any]]:
    """Read what was measured, by key."""
    path = work / "results.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {found["key"]: found for found in map(json.loads, lines)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", default="few", metavar="DIR", help="embeddings and results; a repeated command goes on"
    )
    parser.add_argument("--develop", action="store_true", help="choose settings on the development domain")
    parser.add_argument("--study", default="baselines", choices=list(STUDIES), help="which table")
    parser.add_argument("--protocol", default="base-to-new", choices=PROTOCOLS)
    parser.add_argument("--sets", nargs="+", default=list(REPORTED), choices=list(SETS))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), help="these rows alone")
    parser.add_argument("--shots", nargs="+", type=int, default=[16])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    return parser


if __name__ == "__main__":
    main()
