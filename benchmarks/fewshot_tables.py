"""What the results of `benchmarks.fewshot` say: a table for each study, and the paper's findings as sign tests."""

import json
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fewshot_data import SETS
from benchmarks.fewshot_variants import VARIANTS, Variant, settings_of
from benchmarks.study_results import noted
from clipjax.evaluation.few_shot import harmonic_mean
from clipjax.evaluation.protocols import BaseNew, average

HALVED = ("base-to-new", "pseudo-new")
"""The protocols that measure base and new classes."""

DOMAINS = ("art_painting", "cartoon")
SWEPT = (1, 2, 4, 8, 16)

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Claim:
    """A finding of the paper (numbers as in section 7.3 of its specification): one variant is above another.

    A side is a variant with its number of shots. `measure` is "base", "new" or "H", their harmonic mean.
    """

    fact: int
    better: tuple[str, int]
    worse: tuple[str, int]
    measure: str = "H"


CLAIMS = (
    Claim(1, ("random", 16), ("zero_shot", 16)),
    Claim(1, ("mean", 16), ("random", 16)),
    Claim(1, ("mlp", 16), ("mean", 16)),
    Claim(1, ("aape", 16), ("mlp", 16)),
    Claim(2, ("aape", 16), ("undistilled", 16), "base"),
    Claim(2, ("aape", 16), ("undistilled", 16), "new"),
    Claim(3, ("aape", 1), ("undistilled", 16)),
    Claim(3, ("aape", 1), ("cocoop", 16)),
    *(Claim(3, ("aape", shots), ("descriptions", shots)) for shots in SWEPT),
    Claim(5, ("aape", 16), ("h_only", 16)),
    *(Claim(5, ("h_only", 16), (other, 16)) for other in ("descriptions", "cocoop", "undistilled")),
)


def results(work: Path) -> dict[str, Result]:
    """Read what was measured, by key."""
    return {found["key"]: found for found in noted(work / "results.jsonl")}


def key_of(protocol: str, name: str, label: str, variant: Variant, shots: int, seed: int) -> str:
    """Name a result by all that it depends on but the code; what needs no shots is measured once.

    Where shots are taken from the images that are measured, the rest depends on them.
    """
    learns = variant.method not in ("zero_shot", "descriptions")
    drawn = learns or protocol == "pseudo-new" or SETS[name].pool == SETS[name].test
    return json.dumps([protocol, name, label, settings_of(variant), *([shots, seed] if drawn else [])], sort_keys=True)


def table(
    known: Mapping[str, Result], protocol: str, sets: list[str], variants: list[str], shots: int, seeds: list[int]
) -> str:
    """Write means and standard deviations over seeds as Markdown; what was not run is left out."""
    shown = {"all": ("top1",), "domains": ("top1", *DOMAINS)}.get(protocol, ("base", "new"))
    heads = [f"{name} {key}" for name in sets for key in shown]
    last = ["base", "new", "H of means", "mean of H"] if protocol in HALVED else []
    lines = [f"| {shots} shots | " + " | ".join(heads + last) + " |", "|---" * (len(heads + last) + 1) + "|"]
    for label in variants:
        cells, by_set = [], []
        for name in sets:
            keys = dict.fromkeys(key_of(protocol, name, label, VARIANTS[label], shots, seed) for seed in seeds)
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
        lines.append(f"| {VARIANTS[label].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def signs(known: Mapping[str, Result], sets: list[str], seeds: list[int]) -> str:
    """Count for each claim in how many pairs of a set and a seed it is so, base to new, as Markdown.

    `p` is the probability of as many pairs or more if either sign were as likely, ties left out. Seeds of a set share
    its images, so that it is smaller than it should be.
    """
    lines = ["| fact | above | below | measure | pairs | so | tied | p |", "|---|---|---|---|---|---|---|---|"]
    for claim in CLAIMS:
        gaps = [gap for name in sets for seed in seeds if (gap := _gap(claim, known, name, seed)) is not None]
        held, tied = sum(gap > 0 for gap in gaps), sum(gap == 0 for gap in gaps)
        sides = [f"{VARIANTS[label].title}, {shots} shots" for label, shots in (claim.better, claim.worse)]
        p = f"{sign_test(held, len(gaps) - tied):.3f}" if gaps else ""
        cells = [str(claim.fact), *sides, claim.measure, str(len(gaps)), str(held), str(tied), p]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sign_test(held: int, pairs: int) -> float:
    """Return how likely at least `held` of so many fair coins show heads."""
    return sum(math.comb(pairs, count) for count in range(held, pairs + 1)) / 2**pairs


def _gap(claim: Claim, known: Mapping[str, Result], name: str, seed: int) -> float | None:
    """Return by how much the better side is above the other; None where one was not measured."""
    measure: Callable[[Result], float | None] = lambda found: found[claim.measure]
    if claim.measure == "H":
        measure = lambda found: None if found["new"] is None else harmonic_mean(found["base"], found["new"])
    values = []
    for label, shots in (claim.better, claim.worse):
        found = known.get(key_of("base-to-new", name, label, VARIANTS[label], shots, seed))
        values.append(None if found is None else measure(found))
    better, worse = values
    return None if better is None or worse is None else better - worse
