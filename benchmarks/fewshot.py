"""Few-shot methods on the testbed CLIP: base-to-new classes, all classes, another domain; one table for each study.

    python -m benchmarks.fewshot --work few --develop                            # choose settings
    python -m benchmarks.fewshot --work few --study selection --protocol pseudo-new --sets eurosat dtd
    python -m benchmarks.fewshot --work few --study baselines                    # 16 shots, base to new
    python -m benchmarks.fewshot --work few --study baselines --shots 1 2 4 8 16
    python -m benchmarks.fewshot --work few --study baselines --protocol all     # every class is known
    python -m benchmarks.fewshot --work few --study baselines --protocol domains --sets pacs_photo
    python -m benchmarks.fewshot --work few --signs                  # hold the paper's findings against what is there

Embeddings are made once, into WORK. Each result is a line of WORK/results.jsonl; what is there is not run again: start
another WORK for other code. `--develop` tries `GRIDS` on PACS art paintings, the development domain, whose measured
images are target-train images that are no shots. `pseudo-new` divides the base classes once more and measures images of
the pool that are no shots, so that neither new classes nor test images choose anything. Seeds draw the shots and
everything else.
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
from benchmarks.fewshot_tables import DOMAINS, HALVED, Result, key_of, results, signs, table
from benchmarks.fewshot_variants import GRIDS, STUDIES, VARIANTS, Lesson, Variant, learnt, lesson_of
from benchmarks.study_results import note
from benchmarks.timing import machine
from clipjax.classify.classifier import Classifier
from clipjax.errors import ConfigError
from clipjax.evaluation.few_shot import base_new_split
from clipjax.evaluation.protocols import pseudo_new_split
from clipjax.methods import descriptions
from clipjax.methods.cached_shots import Views, embedded
from clipjax.methods.transfer import transferred
from clipjax.training.run import Run

PROTOCOLS = (*HALVED, "all", "domains")
REPORTED = ("caltech101", "eurosat", "dtd")
DEVELOPMENT = "pacs_art_painting"


def main() -> None:
    parser = _parser()
    args = parser.parse_args()
    if args.protocol == "domains" and args.sets != ["pacs_photo"]:
        parser.error("domains are those of the PACS photographs; give --sets pacs_photo")
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    if args.signs:
        print(signs(results(work), args.sets, args.seeds))
        return
    if args.develop:
        develop(work, args.seeds)
        return
    variants = args.variants or STUDIES[args.study]
    for shots in args.shots:
        for name in args.sets:
            for variant in variants:
                if VARIANTS[variant].fewest <= shots:
                    for seed in args.seeds:
                        result(work, args.protocol, name, variant, VARIANTS[variant], shots, seed)
        print(table(results(work), args.protocol, args.sets, variants, shots, args.seeds))
    print(json.dumps(machine()))


def develop(work: Path, seeds: list[int]) -> None:
    """Try the grids on the development domain, and say what came out."""
    for method, grid in GRIDS.items():
        for choice in grid:
            variant = Variant(json.dumps(choice), method, choice)
            found = [result(work, "base-to-new", DEVELOPMENT, "choice", variant, 16, seed) for seed in seeds]
            means = {key: round(statistics.mean(one[key] for one in found), 2) for key in ("base", "new")}
            print(json.dumps({"method": method, "choice": choice, **means}), flush=True)


def result(work: Path, protocol: str, name: str, label: str, variant: Variant, shots: int, seed: int) -> Result:
    """Adapt and measure, or read what was measured before."""
    key = key_of(protocol, name, label, variant, shots, seed)
    if key in (known := results(work)):
        return known[key]
    about = {"protocol": protocol, "set": name, "variant": label, "shots": shots, "seed": seed, "key": key}
    found = {**about, **run(work, protocol, name, variant, shots, seed)}
    note(work / "results.jsonl", found)
    return found


def run(work: Path, protocol: str, name: str, variant: Variant, shots: int, seed: int) -> dict[str, Any]:
    """Adapt once; return accuracies in per cent, the seconds of adapting, and those of all."""
    opened = open_set(name, work)
    start = time.monotonic()
    everything = np.arange(len(opened.problem.class_names))
    split = {"base-to-new": base_new_split, "pseudo-new": pseudo_new_split}.get(protocol)
    base, new = (everything, everything[:0]) if split is None else split(len(everything))
    lesson = lesson_of(opened, variant, base, shots, seed)
    classifier = learnt(variant, lesson)
    found: dict[str, Any] = {"seconds": round(time.monotonic() - start, 2)}
    chosen = opened.shots(base, shots, seed)
    measured = opened.left_over if protocol == "pseudo-new" else opened.measured
    found["base" if len(new) else "top1"] = _top1(classifier, *measured(base, chosen))
    if len(new):
        moved = _moved(classifier, opened, variant, new, lesson)
        found["new"] = None if moved is None else _top1(moved, *measured(new, chosen))
    if protocol == "domains":
        for domain in DOMAINS:
            found[domain] = _top1(classifier, *domain_rows(domain, work))
    return {**found, "seconds_in_all": round(time.monotonic() - start, 2)}


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
    source = images_of(SETS["pacs_photo"], (("testbed", "target-test"), ("extra", domain)))
    rows = embedded(open_set("pacs_photo", work).problem, source, Views(0), Run(folder=work / "embedded" / domain), 0)
    return rows[:, 0], source.labels


def _top1(classifier: Classifier, rows: np.ndarray, labels: np.ndarray) -> float:
    return 100 * float(np.mean(np.asarray(classifier.scores_of(rows)).argmax(1) == labels))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", default="few", metavar="DIR", help="embeddings and results; a repeated command goes on"
    )
    parser.add_argument("--develop", action="store_true", help="choose settings on the development domain")
    parser.add_argument("--signs", action="store_true", help="hold the paper's findings against the results")
    parser.add_argument("--study", default="baselines", choices=list(STUDIES), help="which table")
    parser.add_argument("--protocol", default="base-to-new", choices=PROTOCOLS)
    parser.add_argument("--sets", nargs="+", default=list(REPORTED), choices=list(SETS))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), help="these rows alone")
    parser.add_argument("--shots", nargs="+", type=int, default=[16])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    return parser


if __name__ == "__main__":
    main()
