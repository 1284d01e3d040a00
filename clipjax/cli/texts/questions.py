"""From settings to questions: which prompts are asked about which images, classes and captions."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

from clipjax.cli.options import conditions
from clipjax.cli.problem_files import usable
from clipjax.errors import ConfigError, DataError

if TYPE_CHECKING:
    from clipjax.data.classes import ClassList
    from clipjax.data.source import ImageSource
    from clipjax.progress import Progress
    from clipjax.texts.prompts import Prompt, Prompts
    from clipjax.texts.question import Question

DESCRIPTIONS = "descriptions"


@dataclasses.dataclass(frozen=True)
class TextFiles:
    """What is asked about what.

    `ask` names prompts; "descriptions" stands for all those that describe classes of `dataset`, whose words the
    prompts use. `prompts` is a file of own ones. `captions` is a caption file or another store; without it
    differences and rewrites take the captions of the store itself, the first of each image.

    Group captions, and prompts that name a class, need to know which image is of which class. Nobody's
    labels are used: `weights` label the `images` with the `classes` and templates, zero-shot. Without `classes` the
    names, also those that are described, are the images' own: of their folders, manifest or split file. A group has
    `group_size` images. With `skip_bad` images that cannot be decoded are left out, and listed, instead of ending the
    run.

    Differences are asked of so many `pairs`, of at most `pair_images` images; of random ones, or with `hard_pairs` of
    those that are most alike to `weights`.
    """

    ask: tuple[str, ...] | str = ("image-caption",)
    dataset: str = "default"
    prompts: str | None = None
    images: str | None = None
    split: str | None = None
    where: tuple[str, ...] = ()
    splits_file: str | None = None
    captions: str | None = None
    classes: str | None = None
    template: tuple[str, ...] = ()
    weights: str | None = None
    samples: int = 10
    group_size: int = 4
    pairs: int = 1000
    pair_images: int | None = None
    hard_pairs: bool = False
    seed: int = 0
    skip_bad: bool = False

    def __post_init__(self):
        from clipjax.training.settings import check_range

        check_range(self, 1, math.inf, "samples", "pairs")
        check_range(self, 2, math.inf, "pair_images")
        check_range(self, 0, math.inf, "seed")
        check_range(self, 1, 100, "group_size")


def questions_of(files: TextFiles, store: str, progress: "Progress") -> "list[Question]":
    """Put the questions of every prompt that is asked for together.

    Raises:
      ConfigError, DataError: a prompt needs what the settings do not say, or files do not fit together.
    """
    from clipjax.texts.prompts import read_prompts

    return _Asking(files, read_prompts(files.prompts), store, progress).all()


class _Asking:
    """Opens images, classes and captions when the first prompt needs them."""

    def __init__(self, files: TextFiles, prompts: "Prompts", store: str, progress: "Progress"):
        self._files, self._prompts, self._store, self._progress = files, prompts, store, progress
        self._source: ImageSource | None = None
        self._labels = None
        self._named: ClassList | None = None

    def all(self) -> "list[Question]":
        files = self._files
        names = [files.ask] if isinstance(files.ask, str) else list(files.ask)
        if not names:
            raise ConfigError(f"`ask` is empty; known prompts are {DESCRIPTIONS}, {', '.join(self._prompts.questions)}")
        descriptions = [prompt for name in names if name == DESCRIPTIONS for prompt in self._described()]
        asked = [self._prompts.ask(name, files.dataset) for name in names if name != DESCRIPTIONS]
        return [question for prompt in (*descriptions, *asked) for question in self._about(prompt)]

    def _described(self) -> "tuple[Prompt, ...]":
        return self._prompts.descriptions(self._files.dataset)

    def _about(self, prompt: "Prompt") -> "list[Question]":
        from clipjax.texts import tasks
        from clipjax.texts.pairs import choose_images

        files, kind = self._files, prompt.kind
        if kind == "caption":
            named = "class" in prompt.placeholders
            names, labels = (self._classes().names, self._zero_shot()) if named else ((), None)
            return tasks.caption_questions(self._images(prompt), prompt, class_names=names, labels=labels)
        if kind == "group_caption":
            labels, size = self._zero_shot(), files.group_size
            return tasks.group_questions(self._images(prompt), prompt, labels, size=size, seed=files.seed)
        if kind == "class_description":
            return tasks.description_questions(self._classes(prompt).names, [prompt], samples=files.samples)
        if kind == "template":
            return tasks.template_questions(files.dataset, prompt, samples=files.samples)
        if kind == "rewrite":
            return tasks.rewrite_questions(self._captions(), prompt)
        source = None if prompt.placeholders else self._images(prompt)
        captions = self._captions() if source is None else dict.fromkeys(source.ids, "")
        ids = list(captions)
        captions = {ids[i]: captions[ids[i]] for i in choose_images(len(ids), files.pair_images, seed=files.seed)}
        pairs = self._most_alike(list(captions)) if files.hard_pairs else None
        return tasks.difference_questions(captions, prompt, files.pairs, seed=files.seed, source=source, pairs=pairs)

    def _most_alike(self, ids: list[str]):
        from clipjax.data.image_names import ImageNames
        from clipjax.texts.pairs import hard_pairs

        source = self._images()
        place = ImageNames(source.ids).place
        rows = [row for row in map(place, ids) if row is not None]
        return hard_pairs(self._clip("hard pairs").embed_source(source.select(rows)), self._files.pairs)

    def _images(self, prompt: "Prompt | None" = None) -> "ImageSource":
        from clipjax.data.opening import open_source

        f = self._files
        if f.images is None:
            what = f"the prompt {prompt.id!r}" if prompt else "labelling"
            raise ConfigError(f"{what} is about images; say which with images=DIR")
        if self._source is None:
            where = conditions(f.where, "where")
            source = open_source(f.images, f.split, where, f.splits_file, progress=self._progress)
            self._source = usable(source, self._progress) if f.skip_bad else source
        return self._source

    def _classes(self, prompt: "Prompt | None" = None) -> "ClassList":
        if self._named is None:
            self._named = self._class_list(prompt)
        return self._named

    def _class_list(self, prompt: "Prompt | None") -> "ClassList":
        from clipjax.classify.class_texts import class_list_of
        from clipjax.cli.console import note
        from clipjax.data.classes import read_classes
        from clipjax.data.textfile import examples

        if self._files.classes is not None:
            return read_classes(self._files.classes)
        if self._files.images is None:
            what = f"the prompt {prompt.id!r}" if prompt else "labelling images"
            raise ConfigError(f"{what} needs class names; say which with classes=FILE")
        found = class_list_of(self._images(), "say which with classes=FILE")
        note(f"{len(found.names)} classes, named by {self._files.images}: {examples(found.names)}")
        return found

    def _zero_shot(self):
        if self._labels is None:
            clip = self._clip("groups and prompts that name a class")
            self._labels = clip.zero_shot(self._images(), self._classes(), self._files.template)
        return self._labels

    def _clip(self, what: str):
        from clipjax.cli.texts.clip import TextClip

        if self._files.weights is None:
            raise ConfigError(f"{what} need a CLIP to look at the images; give weights=PATH")
        return TextClip(self._files.weights, self._store, self._progress)

    def _captions(self) -> dict[str, str]:
        from clipjax.data.image_names import ImageNames

        place = self._files.captions or self._store
        captions = first_captions(place)
        if self._files.images is not None:
            ids = ImageNames(self._images().ids)
            captions = {name: text for name, text in captions.items() if ids.place(name) is not None}
        if not captions:
            raise DataError(f"{place}: holds no captions of these images; import some, or ask for image-caption first")
        return captions


def first_captions(place: str) -> dict[str, str]:
    """Read the first caption of each image from a store or a caption file.

    Raises:
      DataError: it is neither, or is not there.
    """
    from clipjax.texts.importing import import_texts
    from clipjax.texts.store import TextStore, is_store

    if not Path(place).exists():
        raise DataError(f"{place}: no such file of captions; say which with captions=FILE, or import them first")
    records = TextStore(place).records("caption") if is_store(place) else import_texts(place, kind="caption")
    first: dict[str, str] = {}
    for record in records:
        first.setdefault(record.subjects[0], record.text)
    return first
