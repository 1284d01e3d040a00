"""All questions of one kind: about each image, each group of images, each class, or pairs of images."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from clipjax.data.source import ImageSource
from clipjax.errors import ConfigError, DataError
from clipjax.texts.groups import GROUP, draw_groups, draw_pairs
from clipjax.texts.prompts import Prompt
from clipjax.texts.question import Question
from clipjax.texts.record import Kind

Labels = Int[np.ndarray, " images"]


def caption_questions(
    source: ImageSource, prompt: Prompt, *, class_names: Sequence[str] = (), labels: Labels | None = None
) -> list[Question]:
    """Ask for a caption of each image. A prompt with a class in it needs a (pseudo-)label of each image.

    Raises:
      ConfigError: it has one and there are no labels.
    """
    named = _named(prompt, class_names, labels, len(source))
    return [
        _question(prompt, "caption", (source.ids[i],), named[i], pictures=_pictures(source, [i]))
        for i in range(len(source))
    ]


def group_questions(
    source: ImageSource, prompt: Prompt, labels: Labels, *, size: int = GROUP, seed: int = 0
) -> list[Question]:
    """Ask, for each image, what a random group of `size` images of its (pseudo-)label has in common (LatteCLIP).

    The anchor's id comes first among the subjects, then the group's, so that a group is asked for once.
    """
    groups = draw_groups(labels, size=size, seed=seed)
    return [
        _question(
            prompt,
            "group_caption",
            tuple(source.ids[i] for i in (anchor, *group)),
            {},
            seed=seed,
            pictures=_pictures(source, group),
        )
        for anchor, group in enumerate(groups.tolist())
    ]


def description_questions(
    class_names: Sequence[str], prompts: Sequence[Prompt], *, samples: int = 10
) -> list[Question]:
    """Ask each question about each class `samples` times (CuPL); answers only differ where decoding is random."""
    return [
        _question(prompt, "class_description", (name,), {"class": name}, sample=sample, seed=sample)
        for name in class_names
        for prompt in prompts
        for sample in range(samples)
    ]


def difference_questions(
    captions: Mapping[str, str],
    prompt: Prompt,
    count: int,
    *,
    seed: int = 0,
    source: ImageSource | None = None,
    pairs: Int[np.ndarray, "pairs 2"] | None = None,
) -> list[Question]:
    """Ask how `count` random pairs of images differ, from one caption of each, or from the images of a source.

    `pairs`, positions among the captioned images, are asked about in place of random ones.

    Raises:
      DataError: fewer than two images, or a caption whose image the source lacks.
    """
    ids = list(captions)
    if len(ids) < 2:
        raise DataError(f"{len(ids)} captioned images make no pair; import the captions of more")
    where = {} if source is None else {image: place for place, image in enumerate(source.ids)}
    questions = []
    pairs = draw_pairs(len(ids), count, seed=seed) if pairs is None else pairs
    for first, second in pairs.tolist():
        pair = (ids[first], ids[second])
        given = (captions[pair[0]], captions[pair[1]])
        values = {"first": given[0], "second": given[1]} if prompt.placeholders else {}
        pictures = None
        if source is not None:
            absent = [name for name in pair if name not in where]
            if absent:
                raise DataError(f"{source.name}: has no image {absent[0]!r}, which has a caption")
            pictures, given = _pictures(source, [where[name] for name in pair]), ()
        questions.append(_question(prompt, "difference", pair, values, given=given, pictures=pictures))
    return questions


def rewrite_questions(captions: Mapping[str, str], prompt: Prompt) -> list[Question]:
    """Ask for each caption in other words (PC-CLIP's baseline)."""
    return [
        _question(prompt, "rewrite", (image,), {"caption": text}, given=(text,)) for image, text in captions.items()
    ]


def template_questions(dataset: str, prompt: Prompt, *, samples: int = 1) -> list[Question]:
    """Ask for templates; each answer holds one on each line."""
    return [_question(prompt, "template", (dataset,), {}, sample=sample, seed=sample) for sample in range(samples)]


def _question(prompt: Prompt, kind: Kind, subjects: tuple[str, ...], values: Mapping[str, str], **more) -> Question:
    if prompt.kind != kind:
        raise ConfigError(f"the prompt {prompt.id!r} asks for a {prompt.kind}, not for a {kind}")
    return Question(kind, subjects, prompt.fill(**values), prompt.id, prompt.fingerprint, **more)


def _pictures(source: ImageSource, indices: Sequence[int]):
    return lambda: [source.image(index) for index in indices]


def _named(prompt: Prompt, names: Sequence[str], labels: Labels | None, images: int) -> list[dict[str, str]]:
    if "class" not in prompt.placeholders:
        return [{}] * images
    if labels is None:
        raise ConfigError(f"the prompt {prompt.id!r} names a class; give the zero-shot labels of the images")
    return [{"class": names[int(label)]} for label in labels]
