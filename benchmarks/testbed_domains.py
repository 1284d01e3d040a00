"""The testbed's target domains as problems: a small CLIP, unlabelled target-train images, texts written without labels.

PACS art_painting is the development domain, on which settings are chosen; the others are only reported.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.needs import DATA, require
from clipjax.cli.main import main as clipjax_command
from clipjax.cli.problem_files import Opened, ProblemFiles, open_problem
from clipjax.outputs import new_file
from clipjax.progress import silent
from clipjax.texts.collected import Texts

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PHRASES = 3000


@dataclass(frozen=True)
class Domain:
    """A target domain: which images of which tar, which class list, and the words that prompts use."""

    tar: str
    classes: str
    dataset: str
    where: tuple[str, ...] = ()

    @property
    def images(self) -> str:
        """Where the images lie."""
        return str(DATA / "data" / "images" / self.tar)

    @property
    def listed(self) -> dict[str, object]:
        """The class names and the template that the testbed's own numbers were made with."""
        return json.loads((DATA / "testbed" / "classes.json").read_text(encoding="utf-8"))[self.classes]


DOMAINS = {
    "pacs_art_painting": Domain("pacs.tar", "pacs", "pacs", ("extra=art_painting",)),
    "pacs_cartoon": Domain("pacs.tar", "pacs", "pacs", ("extra=cartoon",)),
    "eurosat": Domain("eurosat.tar", "eurosat", "eurosat"),
}
DEVELOPMENT = "pacs_art_painting"


def open_domain(name: str, work: Path, *, labels: bool = False, texts: bool = True) -> Opened:
    """Open a domain's problem and its labelled test images; `labels` gives the true labels, for a ceiling."""
    require("testbed")
    domain = DOMAINS[name]
    files = ProblemFiles(
        weights=str(DATA / "testbed"),
        images=domain.images,
        where=("testbed=target-train", *domain.where),
        classes=str(_class_file(name, work)),
        template=(str(domain.listed["template"]),),
        texts=str(written_texts(name, work)) if texts else None,
        labels=labels,
        test_where=("testbed=target-test", *domain.where),
        by_position=True,
    )
    return open_problem(files, silent)


def told(opened: Opened) -> Opened:
    """Return the problem with captions that name each image's true class: what a writer that sees all would say."""
    problem = opened.problem
    assert problem.shots is not None
    named = [problem.prompts[label] for label in problem.shots.labels.tolist()]
    captions = {(image,): texts for image, texts in zip(problem.shots.ids, named)}
    return replace(opened, problem=replace(problem, texts=Texts({"caption": captions})))


def written_texts(name: str, work: Path) -> Path:
    """Have captions and group captions of a domain's target-train images written; those that there are stay.

    The writer sees the testbed CLIP's embeddings of these images and an inventory of phrases that is mined from
    captions of other images and from published class descriptions. Groups are of zero-shot labels.
    """
    domain, store = DOMAINS[name], work / f"{name}.jsonl"
    settings = {
        "dataset": domain.dataset,
        "images": domain.images,
        "where": json.dumps(["testbed=target-train", *domain.where]),
        "classes": str(_class_file(name, work)),
        "template": json.dumps([domain.listed["template"]]),
        "weights": str(DATA / "testbed"),
        "writer": "retrieval",
        "retrieval.weights": str(DATA / "testbed"),
        "retrieval.phrases": str(_inventory(work)),
    }
    given = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    _clipjax("texts", "generate", f"--config={CONFIGS / 'texts.py'}:latteclip", *given, "--store", str(store))
    return store


def _inventory(work: Path) -> Path:
    phrases = work / "phrases.txt"
    if not phrases.exists():
        texts = DATA / "data" / "texts"
        captions = sorted((texts / "captions").iterdir())
        descriptions = sorted((texts / "descriptions").glob("*/*.json"))
        files = [str(path) for path in (*captions, *descriptions)]
        _clipjax("texts", "phrases", *files, "-o", str(phrases), "--most", str(PHRASES))
    return phrases


def _class_file(name: str, work: Path) -> Path:
    domain = DOMAINS[name]
    path = work / f"{domain.classes}.txt"
    if not path.exists():
        with new_file(path) as staged:  # whole at once: another process may be reading it
            staged.write_text("\n".join(domain.listed["classes"]) + "\n", encoding="utf-8")  # pyright: ignore
    return path


def _clipjax(*arguments: str) -> None:
    status = clipjax_command(list(arguments))
    if status:
        raise SystemExit(f"clipjax {' '.join(arguments[:2])} failed with {status}")
