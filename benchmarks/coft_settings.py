"""CoFT in other settings, each a small run on real images with the testbed's CLIP.

    python -m benchmarks.coft_settings --work study --seeds 1

"shots": EuroSAT, four labelled images of each class and the others without labels. "noisy": half of CIFAR-10's
test images of the testbed, 40 % of whose labels are replaced by another class at random, measured on the other half
(what its results have as "judged" is held against the replaced labels, and says nothing of true ones).
"student": the testbed's CLIP has the first word on EuroSAT, and the image tower in the package, which has only seen
drawn glyphs, learns. "errors": what phase II makes of EuroSAT's zero-shot labels, of true ones as many of which are
replaced at random, and of true ones: a diagnosis, by labels that no method may see. Each result is a line of
WORK/settings.jsonl; what is there is not run again. Prompts are shared where they are the same, also with
`benchmarks.adaptation`.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adaptation import run, top1
from benchmarks.adaptation_variants import COFT
from benchmarks.study_results import note, noted
from benchmarks.testbed_domains import DATA, open_domain
from benchmarks.timing import machine
from clipjax.classify.problem import Student
from clipjax.cli.problem_files import Opened, ProblemFiles, labelled, open_problem
from clipjax.data.classes import read_classes
from clipjax.data.source import ImageSource
from clipjax.data.splits import few_shot
from clipjax.methods.pseudo_labels import zero_shot_scores
from clipjax.progress import silent
from clipjax.training.run import Run
from clipjax.weights.embedded import EMBEDDED
from clipjax.weights.load import load

NOISE, SHOTS = 0.4, 4
Trial = tuple[str, Opened, str, dict[str, Any]]
"""A name, the problem, a method and its settings."""

Setting = Callable[[Path, int], Iterator[Trial]]


def shots(work: Path, seed: int) -> Iterator[Trial]:
    """EuroSAT with a few labels: CoFT with them, and fine-tuning on them alone; without is in the table of CoFT."""
    opened = open_domain("eurosat", work, labels=True, texts=False)
    assert opened.problem.shots is not None
    few = few_shot(opened.problem.shots, SHOTS, seed)
    given = dataclasses.replace(opened, problem=dataclasses.replace(opened.problem, shots=few))
    yield f"CoFT, {SHOTS} shots", given, "coft", COFT
    alone = {"equal_labels": "negatives", "epochs": 30.0, "flip": 0.5, "batch_size": 10 * SHOTS}
    yield f"FLYP on {SHOTS} shots alone", given, "finetune", {**alone, "optimizer": {"lr": 3e-4}}


def noisy(work: Path, seed: int) -> Iterator[Trial]:
    """CIFAR-10 with wrong labels: believing all, checking them, and ignoring them as the paper does."""
    classes = work / "cifar10.txt"
    listed = json.loads((DATA / "testbed" / "classes.json").read_text(encoding="utf-8"))["cifar10"]
    classes.write_text("\n".join(listed["classes"]) + "\n", encoding="utf-8")
    files = ProblemFiles(
        weights=str(DATA / "testbed"),
        images=str(DATA / "data" / "images" / "cifar10.tar"),
        where=("split=test",),
        classes=str(classes),
        template=(str(listed["template"]),),
        by_position=True,
    )
    whole = open_problem(files, silent).problem
    images = labelled(whole.images, read_classes(str(classes)), by_position=True)
    half = np.isin(np.arange(len(images)), _half_of_each_class(images))
    wrong = with_noise(images.select(np.flatnonzero(half)), len(listed["classes"]), seed, NOISE)
    problem = dataclasses.replace(whole, images=wrong, shots=wrong)
    opened = Opened(problem, images.select(np.flatnonzero(~half)))
    given = {**COFT, "labels": "noisy"}
    yield "CoFT, all given labels", opened, "coft", {**given, "validation": "none"}
    yield "CoFT, given labels checked", opened, "coft", given
    yield "CoFT, labels ignored", opened, "coft", {**COFT, "labels": "ignored"}


def student(work: Path, seed: int) -> Iterator[Trial]:
    """EuroSAT for another image tower."""
    opened = open_domain("eurosat", work, texts=False)
    model, params = load(EMBEDDED)
    taught = dataclasses.replace(opened.problem, student=Student(model, params))
    yield "CoFT, the package's image tower", dataclasses.replace(opened, problem=taught), "coft", COFT


def errors(work: Path, seed: int) -> Iterator[Trial]:
    """EuroSAT by phase II alone, from labels that are wrong in different ways."""
    opened = open_domain("eurosat", work, labels=True, texts=False)
    truth = opened.problem.shots
    assert truth is not None
    guessed = np.asarray(zero_shot_scores(opened.problem, Run()).labels)
    share, classes = float(np.mean(guessed != truth.labels)), len(opened.problem.class_names)
    wrongs = {
        "phase II, zero-shot labels": dataclasses.replace(truth, labels=guessed),
        f"phase II, {share:.1%} of true labels replaced at random": with_noise(truth, classes, seed, share),
        "phase II, true labels": truth,
    }
    believing = {**COFT, "labels": "noisy", "validation": "none", "prompt_epochs": 0, "least_prompt_steps": 1}
    for name, images in wrongs.items():
        problem = dataclasses.replace(opened.problem, images=images, shots=images)
        yield name, dataclasses.replace(opened, problem=problem), "coft", believing


SETTINGS: dict[str, tuple[Setting, str]] = {
    "shots": (shots, "eurosat-shots"),
    "noisy": (noisy, "cifar10-noisy"),
    "student": (student, "eurosat"),
    "errors": (errors, "eurosat-errors"),
}
"""The trials of each setting, and where they find prompts of one another."""


def main() -> None:
    args = _parser().parse_args()
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for setting in args.settings:
            trials, place = SETTINGS[setting]
            for trial in trials(work, seed):
                result(work, setting, seed, trial, work / "prompts" / f"{place}-{seed}")
    print(json.dumps(machine()))


def result(work: Path, setting: str, seed: int, trial: Trial, folder: Path) -> dict[str, Any]:
    """Run and measure a trial, or read what was measured before."""
    name, opened, method, settings = trial
    assert opened.test is not None
    about = {"setting": setting, "seed": seed, "trial": name}
    path = work / "settings.jsonl"
    for known in noted(path):
        if about.items() <= known.items():
            return known
    zero_shot = top1(opened.problem.zero_shot, opened.test)
    shared = folder if method == "coft" else None
    found = {**about, "zero_shot": zero_shot, **run(opened, method, {**settings, "seed": seed}, shared)}
    note(path, found)
    return found


def with_noise(images: ImageSource, classes: int, seed: int, share: float) -> ImageSource:
    """Replace the labels of a share of the images by another class, all equally likely."""
    random = np.random.default_rng(seed)
    labels = np.array(images.labels)
    rows = random.permutation(len(labels))[: round(share * len(labels))]
    labels[rows] = (labels[rows] + random.integers(1, classes, len(rows))) % classes
    return dataclasses.replace(images, labels=labels)


def _half_of_each_class(images: ImageSource) -> np.ndarray:
    rows = [np.flatnonzero(images.labels == label) for label in np.unique(images.labels)]
    return np.concatenate([each[: len(each) // 2] for each in rows])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="study", metavar="DIR", help="results; a repeated command goes on")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    return parser


if __name__ == "__main__":
    main()
