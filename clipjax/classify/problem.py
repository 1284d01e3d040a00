"""What a user has: a model, class names, and images without labels. Every method starts from it."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from clipjax.classify.class_texts import class_texts
from clipjax.classify.classifier import Classifier
from clipjax.classify.zero_shot import zero_shot_classifier
from clipjax.data.source import UNKNOWN, ImageSource
from clipjax.errors import DataError
from clipjax.inputs.tokenizer import Tokenizer
from clipjax.models.clip import CLIP, Params
from clipjax.progress import Progress, silent
from clipjax.texts.collected import Texts
from clipjax.weights.fingerprint import fingerprint

DEFAULT_TEMPLATES = ("a photo of a {}.",)


class Student(NamedTuple):
    """Another model, to be trained by what the first one says, and the tokenizer that its text tower was made for."""

    model: CLIP
    params: Params
    tokenizer: Tokenizer | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A model to adapt, and what to adapt it to.

    `prompts` holds for each class the texts that stand for it. `images` are without labels: where
    their source knows some, methods do not look. `shots` are labelled images whose labels are
    positions in `class_names`. `texts` are texts written about the images or classes. A method that trains one
    model by another takes a `student`, where there is one.
    """

    model: CLIP
    params: Params
    tokenizer: Tokenizer
    class_names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    images: ImageSource
    shots: ImageSource | None = None
    texts: Texts | None = None
    student: Student | None = None

    def __post_init__(self):
        """Check that the parts fit together.

        Raises:
          DataError: fewer than two classes, a class without a text, or shots without valid labels.
        """
        count = len(self.class_names)
        if count < 2:
            raise DataError(f"{count} class; a classifier needs at least two")
        if len(self.prompts) != count or not all(self.prompts):
            raise DataError(f"{count} classes but texts for {sum(map(bool, self.prompts))}; give each class a text")
        if self.shots is not None:
            labels = self.shots.labels
            if len(labels) and not (labels.min() >= 0 and labels.max() < count):
                wrong = labels[(labels < 0) | (labels >= count)][0]
                raise DataError(f"{self.shots.name}: label {wrong} is none of the {count} classes; label every shot")

    @functools.cached_property
    def zero_shot(self) -> Classifier:
        """The classifier that every method starts from."""
        return self.text_classifier(self.params)

    def text_classifier(self, params: Params, progress: Progress = silent) -> Classifier:
        """Build the classifier of the prompts, as these params read them."""
        return zero_shot_classifier(
            self.model, params, self.tokenizer, self.class_names, self.prompts, progress=progress
        )

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """Plain values that name every part: what a run on this problem depends on."""
        student = {}
        if self.student is not None:
            student = {"student_model": repr(self.student.model), "student": fingerprint(self.student.params)}
        return {
            **student,
            "model": repr(self.model),
            "weights": fingerprint(self.params),
            "tokenizer": self.tokenizer.fingerprint,
            "classes": list(self.class_names),
            "prompts": hashlib.sha256(json.dumps(self.prompts).encode()).hexdigest(),
            "images": self.unlabelled.fingerprint,
            "shots": None if self.shots is None else self.shots.fingerprint,
            "texts": None if self.texts is None else self.texts.fingerprint,
        }

    def shots_of_every_class(self) -> ImageSource:
        """Return the shots, for methods that need them.

        Raises:
          DataError: there are none, or a class has none.
        """
        if self.shots is None:
            raise DataError("this method learns from labelled images; pass some as shots (--labels, --shots K)")
        absent = sorted(set(range(len(self.class_names))) - set(self.shots.labels.tolist()))
        if absent:
            raise DataError(f"{self.shots.name}: the class {self.class_names[absent[0]]!r} has no image; add one")
        return self.shots

    def restricted_to(self, classes: Int[np.ndarray, " some"]) -> "Problem":
        """Return the problem of some of the classes, in the order given, with their shots alone."""
        kept = [int(place) for place in classes]
        shots = self.shots
        if shots is not None:
            place_of = {label: place for place, label in enumerate(kept)}
            labels = np.array([place_of.get(label, UNKNOWN) for label in shots.labels.tolist()], np.int32)
            shots = dataclasses.replace(shots, labels=labels).select(labels != UNKNOWN)
        names, prompts = (tuple(own[place] for place in kept) for own in (self.class_names, self.prompts))
        return dataclasses.replace(self, class_names=names, prompts=prompts, shots=shots)

    @functools.cached_property
    def unlabelled(self) -> ImageSource:
        """The images with every label erased, so that no method can see one."""
        return unlabelled(self.images)


def make_problem(
    model: CLIP,
    params: Params,
    tokenizer: Tokenizer,
    class_names: Sequence[str],
    images: ImageSource,
    *,
    templates: Sequence[str] = DEFAULT_TEMPLATES,
    descriptions: Mapping[str, Sequence[str]] | None = None,
    shots: ImageSource | None = None,
    texts: Any = None,
) -> Problem:
    """Put a problem together from class names and templates or descriptions.

    Raises:
      DataError: see `Problem` and `class_texts`.
    """
    prompts = tuple(map(tuple, class_texts(class_names, templates, descriptions)))
    return Problem(model, params, tokenizer, tuple(class_names), prompts, images, shots, texts)


def unlabelled(images: ImageSource) -> ImageSource:
    """Return the same images, all of unknown class."""
    nameless = ("",) * len(images)
    labels = images.labels * 0 + UNKNOWN
    return dataclasses.replace(images, labels=labels, classnames=nameless, label_names={}, columns={}, notes=())
