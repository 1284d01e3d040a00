"""Colours, textures and the ways a camera spoils an image, on arrays of values from 0 to 255."""

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageFilter

from clipjax.data.glyph_dice import Dice

Pixels = Float[np.ndarray, "size size channels"]

COLOURS = {
    "red": (215, 35, 35),
    "orange": (240, 140, 25),
    "yellow": (240, 225, 50),
    "green": (40, 155, 60),
    "cyan": (60, 205, 215),
    "blue": (40, 70, 215),
    "purple": (125, 45, 165),
    "pink": (245, 140, 190),
    "brown": (115, 70, 35),
    "black": (15, 15, 15),
    "white": (245, 245, 245),
    "gray": (128, 128, 128),
}
_GRAYS = {"black": (0, 40), "gray": (95, 165), "white": (215, 255)}
_SPREAD = 18.0  # of a named colour's channels
_BRIGHTNESS = np.array([0.3, 0.59, 0.11])
_LEAST_CONTRAST = 60.0


def _apart(one: str, other: str) -> bool:
    return abs(float(np.subtract(COLOURS[one], COLOURS[other]) @ _BRIGHTNESS)) > _LEAST_CONTRAST


_APART = {name: tuple(other for other in COLOURS if _apart(name, other)) for name in COLOURS}
_GRAY_PAIRS = (
    (("white", "black"), 6.0),
    (("black", "white"), 2.0),
    (("gray", "black"), 1.0),
    (("white", "gray"), 1.0),
    (("black", "gray"), 0.5),
    (("gray", "white"), 0.5),
)
TEXTURES = (("", 6.0), ("noisy", 1.0), ("striped", 1.0), ("shaded", 1.0), ("checkered", 0.8), ("cloudy", 1.0))


def colour_pair(gray: bool, dice: Dice) -> tuple[str, str]:
    """Name colours for marks and background that can be told apart by brightness alone."""
    if gray:
        return dice.weigh(_GRAY_PAIRS)
    background = dice.pick(tuple(COLOURS))
    return dice.pick(_APART[background]), background


def mark_colours(background: str) -> tuple[str, ...]:
    """Name the colours that show on a background."""
    return _APART[background]


def tone(name: str, gray: bool, dice: Dice) -> Float[np.ndarray, " channels"]:
    """Take one of the many tones of a colour: one channel for gray, else three."""
    if gray:
        return np.array([dice.between(*_GRAYS[name])], np.float32)
    around = dice.generator.uniform(-_SPREAD, _SPREAD, 3)
    return np.clip(np.array(COLOURS[name]) + around, 0, 255).astype(np.float32)


def texture(kind: str, colour: Float[np.ndarray, " channels"], size: int, dice: Dice) -> Pixels:
    """Fill a square with a colour that varies in the manner of `kind`, and never far."""
    if not kind:
        return colour
    strength = dice.between(15, 32)
    if kind == "noisy":
        values = dice.generator.standard_normal((size, size), np.float32)
    elif kind == "cloudy":
        cells = dice.generator.standard_normal((4, 4), np.float32)
        values = np.asarray(Image.fromarray(cells).resize((size, size), Image.Resampling.BICUBIC))
    else:
        angle = dice.between(0, np.pi)
        u, v = np.cos(angle), np.sin(angle)
        axis = np.arange(size, dtype=np.float32) / size
        along = u * axis[None, :] + v * axis[:, None]
        if kind == "shaded":
            values = 2 * (along - along.mean())
        else:
            pitch = 2 * np.pi * dice.between(2.5, 7)
            values = np.sign(np.sin(pitch * along))
            if kind == "checkered":
                values = values * np.sign(np.sin(pitch * (u * axis[:, None] - v * axis[None, :])))
    return colour + strength * values[:, :, None]


def blur(pixels: Pixels, dice: Dice) -> Pixels:
    """Take the image out of focus."""
    return _through_bytes(pixels, lambda image: image.filter(ImageFilter.GaussianBlur(dice.between(0.6, 1.4))))


def lower_resolution(pixels: Pixels, cells: int, dice: Dice) -> Pixels:
    """Average the image down to `cells` pixels a side, and enlarge it again; some lose all but 16 levels."""
    enlarge = dice.weigh(
        (
            (Image.Resampling.BICUBIC, 6.0),
            (Image.Resampling.BILINEAR, 2.0),
            (Image.Resampling.NEAREST, 2.0),
        )
    )
    coarse = dice.chance(0.3)
    size = pixels.shape[0]

    def change(image: Image.Image) -> Image.Image:
        small = image.resize((cells, cells), Image.Resampling.BOX)
        if coarse:
            small = small.point(_SIXTEEN_LEVELS * len(small.getbands()))
        return small.resize((size, size), enlarge)

    return _through_bytes(pixels, change)


_SIXTEEN_LEVELS = [round(round(value / 17) * 17) for value in range(256)]


def _through_bytes(pixels: Pixels, change) -> Pixels:
    values = np.clip(pixels, 0, 255).astype(np.uint8)
    image = Image.fromarray(values if values.shape[2] == 3 else values[:, :, 0])
    changed = np.asarray(change(image), np.float32)
    return changed if changed.ndim == 3 else changed[:, :, None]
