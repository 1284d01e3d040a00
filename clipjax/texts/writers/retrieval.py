"""Sentences from the phrases of a fixed inventory that a CLIP finds nearest to the images: no large model, no label.

What is said is never finer than the inventory and never better than the CLIP; it is the same in every run.
"""

import dataclasses
import functools
import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from clipjax.errors import ClipjaxError, ConfigError
from clipjax.inputs.image import load_pixels
from clipjax.texts.english import singular, with_article
from clipjax.texts.phrases import fingerprint
from clipjax.texts.question import Answer, Question

EncodeImages = Callable[[Sequence[Image.Image]], Float[np.ndarray, "images dim"]]
"""Embeds pictures as the phrases were embedded: unit rows, in order."""

ALIKE = 0.8
"""Phrases closer than this, measured from the mean of all phrases, say the same: `bike` and `bicycle`."""

SHORTLIST = 50
"""How many phrases that fit an image best may name what another one lacks."""

REMEMBERED = 65_536
"""Embeddings that one call keeps: an image is asked about alone, in its group and in groups of others."""

_VIEWS = frozenset(
    ["photo", "photograph", "picture", "image", "view", "shot", "close-up", "drawing", "painting", "scene"]
)


@dataclasses.dataclass(frozen=True, eq=False)
class RetrievalWriter:
    """Writes captions, group captions and differences of pictures.

    A phrase's score for an image is `logit_scale` times their cosine, less `commonness` times the logarithm of the
    phrase's rank: the inventory lists common phrases first, and the n-th of a language is about 1/n as frequent as
    the first (Zipf). So a rare phrase is said where the CLIP is sure of it, not because one of thousands happens to
    lie near. Zero leaves frequency out; one makes the score a log-probability, and says little but `a dog`.

    With `reference`, embeddings of images of any kind, each phrase's mean cosine over them is taken off, so that what
    is near to every image is said less often. It also holds back what most images do show, and is off unless given.

    A group is scored by the mean over its images, one by one and not on a canvas: the minimum would let one odd
    image decide.

    Args:
      phrases: the inventory.
      embeddings: of the phrases, unit rows, by the text tower of the same CLIP.
      clip: names the CLIP; part of what is recorded, so that another one writes anew.
      logit_scale: of the CLIP, as it multiplies cosines: 100 for OpenAI's.
      count: phrases in a caption, and one fewer on each side of a difference.
      batch_size: images that the encoder gets at a time.

    Raises:
      ConfigError: embeddings that do not fit the phrases or are not of unit length, or a number below one.
    """

    phrases: Sequence[str]
    embeddings: Float[np.ndarray, "phrases dim"]
    encode: EncodeImages
    clip: str
    logit_scale: float
    count: int = 3
    commonness: float = 0.5
    batch_size: int = 32
    reference: Float[np.ndarray, "images dim"] | None = None

    def __post_init__(self):
        if not self.phrases or min(self.count, self.batch_size) < 1:
            raise ConfigError("the retrieval writer needs phrases, and a count and a batch_size from 1")
        if not (self.logit_scale > 0 and self.commonness >= 0):
            raise ConfigError("the retrieval writer needs a logit_scale above 0 and a commonness from 0")
        dim = np.shape(self.embeddings)[-1]
        _check_unit(self.embeddings, (len(self.phrases), dim), "the embeddings of the phrases")
        if self.reference is not None:
            _check_unit(self.reference, (len(self.reference), dim), "the embeddings of the reference")

    @property
    def model(self) -> str:
        """The name of the rules and of the CLIP."""
        return f"clipjax/retrieval-1 {self.clip}"

    @property
    def decoding(self) -> Mapping[str, Any]:
        """The inventory, how many phrases are named, and the reference if there is one."""
        return self._decoding

    @functools.cached_property
    def _decoding(self) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "phrases": fingerprint(self.phrases),
            "count": self.count,
            "commonness": self.commonness,
        }
        settings["logit_scale"] = round(float(self.logit_scale), 4)
        if self.reference is None:
            return settings
        content = np.ascontiguousarray(self.reference, "<f4").tobytes()
        return settings | {"reference": hashlib.sha256(content).hexdigest()[:12]}

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """Answer in order; takes `batch_size` questions at a time, and encodes an image of theirs once.

        Images are told apart by the ids among the subjects. The encoder always gets `batch_size` images, the
        last ones repeated, so that an answer does not depend on what else is asked.

        Raises:
          ConfigError: a question that cannot be answered from pictures, or embeddings that do not fit the phrases'.
        """
        known: OrderedDict[Any, np.ndarray] = OrderedDict()
        questions = iter(questions)
        while block := list(itertools.islice(questions, self.batch_size)):
            for question in block:
                _check_kind(question)
            named, failed, new = self._opened(block, known)
            known.update(zip(new, self._encoded(list(new.values()))))
            for place, question in enumerate(block):
                if place in failed:
                    yield Answer(question, error=failed[place])
                    continue
                for name in named[place]:
                    known.move_to_end(name)
                yield self._answer(question, np.stack([known[name] for name in named[place]]))
            while len(known) > REMEMBERED:
                known.popitem(last=False)

    def _opened(
        self, block: Sequence[Question], known: Mapping[Any, np.ndarray]
    ) -> tuple[dict[int, tuple], dict[int, str], dict[Any, Image.Image]]:
        """Return the names of each question's images, why some could not be opened, and the images not yet known."""
        named: dict[int, tuple] = {}
        failed: dict[int, str] = {}
        new: dict[Any, Image.Image] = {}
        for place, question in enumerate(block):
            names: tuple = question.subjects[1:] if question.kind == "group_caption" else question.subjects
            if not names or not all(name in known or name in new for name in names):
                try:
                    pictures = list(question.pictures()) if question.pictures is not None else []
                    for picture in pictures:
                        load_pixels(picture, question.subjects[0])
                except ClipjaxError as error:
                    failed[place] = str(error)
                    continue
                if len(pictures) != len(names):
                    names = tuple(object() for _ in pictures)
                if wrong := _wrong_number(question, len(pictures)):
                    failed[place] = wrong
                    continue
                new |= {name: picture for name, picture in zip(names, pictures) if name not in known}
            named[place] = names
        return named, failed, new

    def _encoded(self, images: list[Image.Image]) -> Iterator[Float[np.ndarray, " dim"]]:
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            padded = batch + batch[-1:] * (self.batch_size - len(batch))
            rows = np.asarray(self.encode(padded), np.float32)
            _check_unit(rows, (len(padded), self.embeddings.shape[1]), "what the encoder makes of the images")
            yield from rows[: len(batch)]

    def _answer(self, question: Question, images: Float[np.ndarray, "images dim"]) -> Answer:
        scores = self._scores(images)
        if question.kind != "difference":
            text = _sentence(self._named(scores.mean(0)), group=question.kind == "group_caption")
            return Answer(question, text)
        sides = [self._lacking(*pair) for pair in (scores, scores[::-1])]
        if not all(sides):
            return Answer(question, error="no phrase tells the two images apart; give other pairs, or more phrases")
        first, second = (_listed([with_article(phrase) for phrase in side]) for side in sides)
        return Answer(question, f"The first image shows {first}, while the second image shows {second}.")

    def _scores(self, images: Float[np.ndarray, "images dim"]) -> Float[np.ndarray, "images phrases"]:
        # one image at a time: the shape of a product decides how it is rounded
        cosines = np.stack([self.embeddings @ image for image in images]) - self._usual
        rarity = np.log1p(np.arange(len(self.phrases)))
        return self.logit_scale * cosines.astype(np.float64) - self.commonness * rarity

    def _lacking(self, here: Float[np.ndarray, " phrases"], there: Float[np.ndarray, " phrases"]) -> list[str]:
        """Name what fits one image, and better than the other."""
        gap = here - there
        gap[np.argsort(-here, kind="stable")[SHORTLIST:]] = -np.inf
        gap[gap <= 1e-4] = -np.inf
        return self._named(gap, max(self.count - 1, 1), views=False)

    def _named(self, scores: Float[np.ndarray, " phrases"], count: int | None = None, views: bool = True) -> list[str]:
        """Choose the best phrases of which no two share a word or say the same; one of them may be a view."""
        count = self.count if count is None else count
        # what is equal up to rounding is decided by the order of the inventory
        order = np.argsort(-np.round(scores, 4), kind="stable")
        chosen: list[int] = []
        for place in map(int, order[np.isfinite(scores[order])]):
            phrase = self.phrases[place]
            if _is_view(phrase) and not (views and not any(_is_view(self.phrases[other]) for other in chosen)):
                continue
            alike = self._centred[chosen] @ self._centred[place] > ALIKE
            shared = any(_content(phrase) & _content(self.phrases[other]) for other in chosen)
            if not shared and not alike.any():
                chosen.append(place)
            if len(chosen) == count:
                break
        return [self.phrases[place] for place in chosen]

    @functools.cached_property
    def _usual(self) -> Float[np.ndarray, " phrases"] | float:
        return 0.0 if self.reference is None else self.embeddings @ np.mean(self.reference, axis=0)

    @functools.cached_property
    def _centred(self) -> Float[np.ndarray, "phrases dim"]:
        # the texts of a CLIP share a direction, and how much of one differs between CLIPs
        centred = self.embeddings - np.mean(self.embeddings, axis=0)
        return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)


def _check_kind(question: Question) -> None:
    if question.kind not in ("caption", "group_caption", "difference") or question.pictures is None:
        raise ConfigError(
            f"the retrieval writer has nothing to make a {question.kind} of {question.subjects[0]!r} from; it writes "
            "captions, group captions and differences of pictures: give pictures, or choose another writer"
        )


def _wrong_number(question: Question, pictures: int) -> str | None:
    wanted = {"caption": 1, "difference": 2}.get(question.kind, max(pictures, 1))
    return None if pictures == wanted else f"{pictures} pictures for a {question.kind}, which is of {wanted}"


def _check_unit(rows: np.ndarray, shape: tuple[int, ...], what: str) -> None:
    if np.shape(rows) != shape:
        raise ConfigError(f"{what} have the shape {np.shape(rows)} and not {shape}; use one CLIP for both")
    if not np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-2):
        raise ConfigError(f"{what} are not of unit length; divide each by its norm")


def _sentence(phrases: Sequence[str], *, group: bool) -> str:
    """Write `A picture of a dog with a ball and green grass.`; a view such as `aerial view` becomes the picture."""
    views = [phrase for phrase in phrases if _is_view(phrase)]
    things = [with_article(phrase) for phrase in phrases if not _is_view(phrase)]
    view = with_article(views[0]) if views else "a picture"
    if group:
        opening = "Pictures that all show"
        things += [view] if views else []
        return f"{opening} {_listed(things)}."
    opening = view[0].upper() + view[1:]
    if not things:
        return f"{opening}."
    rest = f" with {_listed(things[1:])}" if len(things) > 1 else ""
    return f"{opening} of {things[0]}{rest}."


def _listed(things: Sequence[str]) -> str:
    *first, last = things
    return f"{', '.join(first)} and {last}" if first else last


def _is_view(phrase: str) -> bool:
    return singular(phrase.split(" ")[-1]) in _VIEWS


def _content(phrase: str) -> set[str]:
    return {singular(word) for word in phrase.split(" ")} - {"of", "and"}
