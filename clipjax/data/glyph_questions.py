"""Questions about the procedural world whose answers are known, for models that look at images and answer.

A question is only asked where the scene has one answer to it: colours of scenes that are not grey, sizes that a
caption would name, the shape of a shape, the number of marks.
"""

from itertools import count as numbers
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8

from clipjax.data.glyph_captions import Scene
from clipjax.data.glyph_dice import Dice, dice_for
from clipjax.data.glyphs import draw
from clipjax.errors import DataError

Kind = Literal["colour", "size", "count", "shape"]
KINDS: tuple[Kind, ...] = ("colour", "size", "count", "shape")

_QUESTIONS = 2  # the stream of draws that wordings come from; captions have another
_MOST_MARKS = 3

_WORDINGS: dict[Kind, tuple[str, ...]] = {
    "colour": ("what color is the {}?", "which color does the {} have?"),
    "size": ("is the {} large or small?", "what size is the {}?"),
    "count": ("how many things are there?", "how many things does the image show?"),
    "shape": ("what shape is it?", "which shape does the image show?"),
}


class Question(NamedTuple):
    """A question about one image of the world, and its answer."""

    position: int
    image: UInt8[np.ndarray, "size size 3"]
    kind: Kind
    text: str
    answer: str


def answer_to(scene: Scene, kind: Kind) -> str | None:
    """Answer a question about a scene, None where it should not be asked."""
    mark = scene.marks[0]
    if kind == "count":
        return str(len(scene.marks))
    if len(scene.marks) > 1:
        return None
    if kind == "colour":
        return None if "grayscale" in scene.qualities else mark.colour
    if kind == "size":
        return mark.size or None
    return mark.name if mark.kind == "shape" else None


def sample_questions(amount: int, seed: int, *, first: int = 0, kinds: tuple[Kind, ...] = KINDS) -> list[Question]:
    """Ask one question about each of `amount` different images of a world, as many of each kind.

    The images are at positions from `first` on: those that a question fits, in their order. Counts of one, two and
    three marks are asked for in turn and both sizes too, so that a guess at the most frequent answer is rarely right.

    Raises:
      DataError: no questions are wanted, or of no kind.
    """
    if amount < 1 or not kinds:
        raise DataError(f"{amount} questions of {len(kinds)} kinds; ask for at least one")
    asked: list[Kind] = [kinds[number % len(kinds)] for number in range(amount)]
    wanted: list[tuple[Kind, str | None]] = [
        (kind, _wanted_answer(kind, number // len(kinds))) for number, kind in enumerate(asked)
    ]
    found: list[Question | None] = [None] * amount
    open_places = dict.fromkeys(range(amount))
    for position in numbers(first):
        scene = draw(position, seed)
        answers = {kind: answer_to(scene, kind) for kind in kinds}
        for place in open_places:
            kind, answer = wanted[place]
            given = answers[kind]
            if given is not None and answer in (None, given):
                found[place] = Question(position, scene.image, kind, _worded(scene, kind, seed, position), given)
                del open_places[place]
                break
        if not open_places:
            break
    return [question for question in found if question is not None]


def _wanted_answer(kind: Kind, turn: int) -> str | None:
    if kind == "count":
        return str(1 + turn % _MOST_MARKS)
    if kind == "size":
        return ("large", "small")[turn % 2]
    return None


def _worded(scene: Scene, kind: Kind, seed: int, position: int) -> str:
    dice: Dice = dice_for(seed, position, _QUESTIONS)
    return dice.pick(_WORDINGS[kind]).format(scene.marks[0].kind)
