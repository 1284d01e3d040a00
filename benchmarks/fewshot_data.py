"""The sets of `benchmarks.fewshot`: images that the testbed CLIP has not seen, embedded once, and class descriptions.

Few-shot images of Caltech101 are CoOp's val split, those of EuroSAT and DTD the target-train images. "new" classes are
those that adaptation does not use; texts about some of them were in the pretraining of the testbed CLIP.
"""

import csv
import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks.needs import DATA, require
from clipjax.classify.problem import Problem, make_problem
from clipjax.data.classes import read_descriptions
from clipjax.data.opening import open_source
from clipjax.data.source import ImageSource
from clipjax.errors import DataError
from clipjax.inputs.tokenizer import load_tokenizer
from clipjax.methods.cached_shots import (
    CachedShots,
    Descriptions,
    Views,
    cached_shots,
    embedded,
    embedded_descriptions,
)
from clipjax.texts.collected import Texts
from clipjax.training.run import Run
from clipjax.weights.load import load

VIEWS = Views(8, crop=0.5)
CAPTIONS_PER_CLASS = 30


@dataclass(frozen=True)
class ImageSet:
    """Which images to draw shots from and which to measure on, by columns of the manifest; whose class list."""

    tar: str
    classes: str
    pool: tuple[tuple[str, str], ...]
    test: tuple[tuple[str, str], ...]
    descriptions: tuple[str, ...]


_TARGET = ((("testbed", "target-train"),), (("testbed", "target-test"),))
_ART = (("testbed", "target-train"), ("extra", "art_painting"))
_PHOTO = (("testbed", "heldout-test"), ("extra", "photo"))
SETS = {
    "caltech101": ImageSet(
        "caltech101.tar",
        "caltech",
        (("split", "val"),),
        (("split", "test"),),
        ("susx/CuPL_prompts_caltech101.json", "lafter/Caltech101.json"),
    ),
    "eurosat": ImageSet("eurosat.tar", "eurosat", *_TARGET, ("susx/CuPL_prompts_eurosat.json", "lafter/EuroSAT.json")),
    "dtd": ImageSet(
        "dtd_10classes.tar",
        "dtd",
        *_TARGET,
        (
            "susx/CuPL_prompts_dtd.json",
            "lafter/DescribableTextures.json",
            "cupl/texture_prompts_full.json",
            "dclip/descriptors_dtd.json",
        ),
    ),
    "pacs_photo": ImageSet("pacs.tar", "pacs", _PHOTO, _PHOTO, ("captions",)),
    # the development domain: shots and measured images are both of its target-train part
    "pacs_art_painting": ImageSet("pacs.tar", "pacs", _ART, _ART, ("captions",)),
}
"""The last is the development domain; of it and of PACS photographs what is not drawn as shots is measured."""


@dataclass(frozen=True)
class Opened:
    """A set with all its embeddings: the pool of shots with views, the images to measure on, the descriptions."""

    problem: Problem
    pool: CachedShots
    test_rows: np.ndarray
    test_labels: np.ndarray
    descriptions: dict[str, Descriptions]
    shares_images: bool

    def shots(self, classes: np.ndarray, count: int, seed: int) -> np.ndarray:
        """Draw up to `count` images of each class; fewer shots are among more."""
        random = np.random.default_rng(seed)
        order = random.permutation(len(self.pool.labels))
        drawn = [[i for i in order if self.pool.labels[i] == label][:count] for label in classes]
        return np.concatenate(drawn)

    def learn(self, classes: np.ndarray, chosen: np.ndarray) -> CachedShots:
        """Return the embeddings of some shots, with labels that are positions in `classes`."""
        own = self.pool.select(chosen)
        _, labels = self._of_classes(own.plain, own.labels, classes)
        return replace(own, labels=labels, class_weights=np.asarray(self.pool.class_weights)[classes])

    def measured(self, classes: np.ndarray, without: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return embeddings and labels, as positions in `classes`, of what is measured: none of the shots `without`."""
        unseen = np.ones(len(self.test_labels), bool)
        if self.shares_images:
            unseen[without] = False
        return self._of_classes(self.test_rows[unseen], self.test_labels[unseen], classes)

    def left_over(self, classes: np.ndarray, without: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the same of the images of the pool, which choose settings, so that the test images need not.

        Raises:
          DataError: a class has no image besides its shots.
        """
        unseen = np.ones(len(self.pool.labels), bool)
        unseen[without] = False
        rows, labels = self._of_classes(self.pool.plain[unseen], self.pool.labels[unseen], classes)
        absent = np.setdiff1d(np.arange(len(classes)), labels)
        if absent.size:
            name = self.problem.class_names[classes[absent[0]]]
            raise DataError(f"the shots leave no image of {name!r} to choose settings on; give fewer with --shots")
        return rows, labels

    def _of_classes(self, rows: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place = np.full(len(self.problem.class_names), -1, np.int32)
        place[classes] = np.arange(len(classes))
        kept = np.isin(labels, classes)
        return rows[kept], place[labels[kept]]


@lru_cache(maxsize=8)
def open_set(name: str, work: Path) -> Opened:
    """Open a set and embed it, or read the embeddings from WORK."""
    require("testbed")
    chosen = SETS[name]
    model, params = load(DATA / "testbed")
    tokenizer = replace(load_tokenizer(DATA / "testbed"), context_length=32)
    listed = json.loads((DATA / "testbed" / "classes.json").read_text(encoding="utf-8"))[chosen.classes]
    names = tuple(listed["classes"])
    pool, test = images_of(chosen, chosen.pool), images_of(chosen, chosen.test)
    problem = make_problem(model, params, tokenizer, names, pool, templates=(listed["template"],), shots=pool)
    run = Run(folder=work / "embedded" / name)
    plain = Views(0)
    rows = embedded(problem, test, plain, run, 0)[:, 0]
    descriptions = {
        source: embedded_descriptions(
            replace(problem, texts=texts_about(names, source)), Run(folder=work / "embedded" / name / source)
        )
        for source in chosen.descriptions
    }
    shots = cached_shots(problem, VIEWS, run, 0)
    return Opened(problem, shots, rows, test.labels, descriptions, chosen.pool == chosen.test)


def images_of(chosen: ImageSet, where: tuple[tuple[str, str], ...]) -> ImageSource:
    """Select images of a set; their labels are positions in its class list."""
    source = open_source(DATA / "data" / "images" / chosen.tar)
    return source.where(**dict(where))


def texts_about(names: tuple[str, ...], source: str) -> Texts:
    """Return the descriptions of the classes by a published file; for PACS captions of other images that name them."""
    if source == "captions":
        found = {name: captions_naming(name) for name in names}
    else:
        found = read_descriptions(DATA / "data" / "texts" / "descriptions" / source, names)
    return Texts({"class_description": {(name,): texts for name, texts in found.items()}})


def captions_naming(word: str) -> tuple[str, ...]:
    """Return the first captions of Flickr8k and COCO, in a fixed random order, that hold a word."""
    folder = DATA / "data" / "texts" / "captions"
    with (folder / "flickr8k_captions_all40455.csv").open(encoding="utf-8", newline="") as file:
        captions = [row["caption"] for row in csv.DictReader(file)]
    content = json.loads((folder / "coco_captions_val2017_full.json").read_text(encoding="utf-8"))
    captions += [entry["caption"].strip() for entry in content["annotations"]]
    naming = [text for text in captions if re.search(rf"\b{word}\b", text.lower())]
    order = np.random.default_rng(0).permutation(len(naming))[:CAPTIONS_PER_CLASS]
    return tuple(naming[i] for i in order)
