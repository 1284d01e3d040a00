"""What is known of a drawn scene, and the captions that say some of it.

The attributes are the ground truth that texts about the procedural world can be checked against.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from clipjax.data.glyph_dice import Dice

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_TEMPLATES = (
    "the digit {}",
    "the number {}",
    "a photo of the digit {}",
    "a photo of the number {}",
    "a handwritten digit {}",
    "a grayscale image of the digit {}",
    "a low resolution image of the handwritten number {}",
)

# a capital that is its small letter, only larger, shows its case to nobody
_CASE_SHOWS = frozenset("ABDEFGHIJLMNQRTYabdefghijlmnqrty")
_IMAGES = ("a photo of", "an image of", "a picture of", "a drawing of", "a rendering of")


@dataclass(frozen=True)
class Mark:
    """One digit, letter or shape: what it is, and how and where it is drawn."""

    kind: str
    name: str
    colour: str
    size: str
    place: str
    styles: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Scene:
    """A drawn image and everything that a caption may say about it."""

    image: UInt8[np.ndarray, "size size 3"]
    marks: tuple[Mark, ...]
    background: str
    texture: str
    qualities: tuple[str, ...]


def captions(scene: Scene, rng: np.random.Generator) -> str:
    """Write one caption: always what the marks are, and of everything else a random part."""
    dice = Dice(rng)
    wordy = dice.pick((0.0, 0.0, 0.2, 0.45, 0.8))
    first, *others = scene.marks
    if others:
        things = [_thing(mark, dice, wordy * 0.6) for mark in scene.marks]
        text = ", ".join(things[:-1]) + f" and {things[-1]}"
    elif wordy == 0 and dice.chance(0.45):
        text = _name(first, dice)
    else:
        text = _thing(first, dice, wordy)
    framed = dice.chance(0.5)
    if dice.chance(wordy):
        text += f" on {_background(scene, dice)}"
    return _framed(text, scene, dice, wordy) if framed and " " in text else text


def _name(mark: Mark, dice: Dice) -> str:
    if mark.kind == "digit" and dice.chance(0.6):
        return DIGIT_NAMES[int(mark.name)]
    return mark.name


def _noun(mark: Mark, dice: Dice) -> str:
    """Name a mark with its kind, "digit seven", without an article."""
    name = _name(mark, dice)
    if mark.kind == "shape":
        return name
    if mark.kind == "digit":
        return f"{dice.pick(('digit', 'digit', 'number', 'number', 'numeral', 'figure'))} {name}"
    if name in _CASE_SHOWS and dice.chance(0.4):
        case = dice.pick(("capital", "uppercase")) if name.isupper() else "lowercase"  # "small" is a size
        return f"{case} letter {name}"
    return f"{dice.pick(('letter', 'letter', 'character'))} {name}"


def _thing(mark: Mark, dice: Dice, wordy: float) -> str:
    """Describe a mark, "a large red digit seven at the top"."""
    words = [mark.size] if mark.size and dice.chance(wordy) else []
    words += [style for style in mark.styles if dice.chance(max(wordy, 0.25))]
    if dice.chance(wordy):
        words.append(mark.colour)
    words.append(_noun(mark, dice))
    text = " ".join(words)
    if mark.kind == "shape" or (len(words) > 1 and dice.chance(0.7)):
        text = f"{'an' if text[0] in 'aeiou' else 'a'} {text}"
    elif dice.chance(0.7):
        text = f"the {text}"
    if mark.place and dice.chance(wordy * 0.6):
        text += f" {dice.pick(('at', 'in', 'near'))} the {mark.place}"
    return text


def _background(scene: Scene, dice: Dice) -> str:
    texture = f"{scene.texture} " if scene.texture and dice.chance(0.7) else ""
    article = "an" if (texture or scene.background)[0] in "aeiou" else "a"
    ground = dice.pick(("background", "background", "ground"))
    return f"{article} {texture}{scene.background} {ground}"


def _framed(text: str, scene: Scene, dice: Dice, wordy: float) -> str:
    article, image, of = dice.pick(_IMAGES).split()
    words = [quality for quality in scene.qualities if dice.chance(max(wordy, 0.3))]
    article = ("an" if (words or [image])[0][0] in "aeiou" else "a") if words else article
    return " ".join([article, *words, image, of, text])
