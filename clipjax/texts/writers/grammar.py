"""Sentences by rule, from what is measured in pictures and from texts at hand: no model, no label, always the same.

Good enough to run every method's whole chain on a laptop, and a baseline that a language model has to beat.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from PIL import Image

from clipjax.errors import ClipjaxError, ConfigError
from clipjax.texts.compared import ASPECTS, chosen_aspect, comparison, has_more
from clipjax.texts.measured import Properties, common, measure
from clipjax.texts.question import Answer, Question

_TEMPLATES = (
    "a photo of a {}.",
    "a picture of a {}.",
    "a close view of a {}.",
    "a {} seen from some distance.",
    "a bright photo of a {}.",
    "a dark photo of a {}.",
    "a small {}.",
    "a large {}.",
    "part of a {}.",
    "a {} among other things.",
)


@dataclasses.dataclass(frozen=True)
class GrammarWriter:
    """Writes captions, group captions and differences of pictures or captions, rewrites and templates.

    `attributes` are phrases for each class, of which class descriptions are made. `images` are phrases for
    images of which more is known than their pixels, by id: what a procedural world drew, or the attributes
    that a data set lists. The pixels of others are measured. With `aspects` (see `compared.ASPECTS`) a difference of
    two pictures is one short sentence about one of them. A pair that is alike in all that would be compared has no
    difference, and the question is rejected.
    """

    attributes: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    images: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    aspects: tuple[str, ...] = ()

    model = "clipjax/grammar-1"

    def __post_init__(self):
        """Check the aspects.

        Raises:
          ConfigError: an unknown one.
        """
        for aspect in self.aspects:
            if aspect not in ASPECTS:
                raise ConfigError(f"no aspect {aspect!r}; known are {', '.join(ASPECTS)}")

    @property
    def decoding(self) -> Mapping[str, Any]:
        """What besides the question decides the answer."""
        return self._decoding

    @functools.cached_property
    def _decoding(self) -> dict[str, Any]:
        known = {
            name: hashlib.sha256(json.dumps(sorted((k, list(v)) for k, v in given.items())).encode()).hexdigest()[:16]
            for name, given in (("attributes", self.attributes), ("images", self.images))
            if given
        }
        return known | ({"aspects": list(self.aspects)} if self.aspects else {})

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """Answer one question after the other.

        Raises:
          ConfigError: a question of a kind that cannot be answered from what there is.
        """
        for question in questions:
            try:
                pictures = [] if question.pictures is None else list(question.pictures())
            except ClipjaxError as error:
                yield Answer(question, error=str(error))
                continue
            text = self._text(question, pictures)
            yield Answer(question, rejected="are_alike") if text is None else Answer(question, text)

    def _text(self, question: Question, pictures: Sequence[Image.Image]) -> str | None:
        """Write the text; None where two subjects have no difference to write about."""
        kind, given = question.kind, question.given
        if kind == "template":
            return "\n".join(_TEMPLATES)
        if kind == "rewrite" and given:
            return f"This picture shows the following: {_inside(given[0])}."
        if kind == "class_description" and question.subjects[0] in self.attributes:
            phrases = list(self.attributes[question.subjects[0]])
            return f"{question.subjects[0]}, which has {phrases[question.sample % len(phrases)]}."
        if kind == "difference" and len(given) == 2:
            first, second = map(_inside, given)
            if first == second:
                return None
            return f"The first image shows {first}, while the second image shows {second}."
        if question.pictures is not None and (text := self._known(question)):
            return text
        if pictures:
            measured = [measure(picture) for picture in pictures]
            if kind == "caption":
                return f"A picture {_described(measured[0])}."
            if kind == "group_caption":
                return f"Pictures {_described(common(measured))}."
            if kind == "difference" and len(measured) == 2:
                return self._compared(question, *measured) if self.aspects else _contrast(*measured)
        raise ConfigError(
            f"the grammar writer has nothing to make a {kind} of {question.subjects[0]!r} from; give pictures, "
            "texts or attributes of the classes, or another writer"
        )

    def _compared(self, question: Question, first: Properties, second: Properties) -> str | None:
        aspect = chosen_aspect(first, second, self.aspects, "\n".join(question.subjects))
        more = has_more(first, second, aspect)
        return None if more is None else comparison(aspect, more=more)

    def _known(self, question: Question) -> str | None:
        """Write from what is known of all the images, where something is."""
        kind = question.kind
        names = question.subjects[1:] if kind == "group_caption" and len(question.subjects) > 1 else question.subjects
        phrases = [list(self.images.get(name, ())) for name in names]
        if not all(phrases):
            return None
        if kind == "difference":
            first, second = phrases
            sides = [[p for p in first if p not in second], [p for p in second if p not in first]]
            if not all(sides):
                return None
            return f"The first image shows {_listed(sides[0])}, while the second image shows {_listed(sides[1])}."
        shared = [phrase for phrase in phrases[0] if all(phrase in others for others in phrases)]
        if not shared:
            return None
        return f"{'A picture' if kind == 'caption' else 'Pictures'} of {_listed(shared)}."


def _listed(phrases: Sequence[str]) -> str:
    *first, last = phrases
    return f"{', '.join(first)} and {last}" if first else last


def _described(p: Properties) -> str:
    edges = f" and mostly {p.edges} edges" if p.edges else ""
    return f"that is {p.brightness}, in {p.vividness} colours, {_coloured(p)}, with {p.texture}{edges}"


def _coloured(p: Properties) -> str:
    return f"mainly {' and '.join(p.colours)}" if p.colours else "none of them much more than others"


def _contrast(first: Properties, second: Properties) -> str | None:
    sides = [f"{_coloured(p)} with {p.texture}" for p in (first, second)]
    lighter, busier = (has_more(first, second, aspect) for aspect in ("light", "detail"))
    if lighter is None and busier is None and sides[0] == sides[1]:
        return None
    light = "" if lighter is None else "brighter, " if lighter else "darker, "
    detail = "" if busier is None else f", and shows {'more' if busier else 'less'} detail than the other"
    return f"The first image is {light}{sides[0]}{detail}, while the second image is {sides[1]}."


def _inside(sentence: str) -> str:
    """Make a caption a part of a sentence."""
    text = sentence.strip().rstrip(".!").strip()
    # names and abbreviations keep their capitals
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[:2] in ("A ", "I ") else text
