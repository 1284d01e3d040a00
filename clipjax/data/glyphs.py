"""The procedural world: an endless row of small images of digits, letters and shapes, each fully described.

Image number `position` of world `seed` is always the same one. Half of the images show digits.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from clipjax.data.glyph_captions import Mark, Scene
from clipjax.data.glyph_dice import Dice, dice_for
from clipjax.data.glyph_fonts import DIGITS, FONTS, LETTERS, print_mask
from clipjax.data.glyph_paint import TEXTURES, blur, colour_pair, lower_resolution, mark_colours, texture, tone
from clipjax.data.glyph_shapes import OUTLINES, RING, SHAPES
from clipjax.data.glyph_strokes import HANDWRITTEN_LETTERS, write

IMAGE_SIZE = 32

_FINE = 2  # strokes and outlines have hard edges: they are drawn larger, then averaged
_SEVERAL = 0.06
_PLACES = (("top left", "top", "top right"), ("left", "", "right"), ("bottom left", "bottom", "bottom right"))


class _Pose(NamedTuple):
    """Where a mark goes in a frame of side 1, and how large it is there."""

    height: float
    centre: tuple[float, float]


def draw(position: int, seed: int, size: int = IMAGE_SIZE) -> Scene:
    """Draw the image at one position of a world, with its attributes."""
    dice = dice_for(seed, position)
    kinds = [_kind(dice)]
    if dice.chance(_SEVERAL):
        kinds += [_kind(dice) for _ in range(1 + dice.chance(0.3))]
    handwritten = dice.chance({"digit": 0.4, "letter": 0.3, "shape": 0.0}[kinds[0]])
    gray = dice.chance(0.65 if handwritten else 0.45)
    colour, background = colour_pair(gray, dice)
    textured = dice.weigh(TEXTURES) if not handwritten or dice.chance(0.5) else ""
    pixels = texture(textured, tone(background, gray, dice), size, dice)
    filling = len(kinds) == 1 and dice.chance(0.6 if handwritten else 0.4)
    poses = _poses(len(kinds), filling, dice)
    small = filling and dice.chance(0.5 if handwritten else 0.3)
    marks = []
    for kind, pose in zip(kinds, poses):
        mask, name, styles = _mask(kind, handwritten, pose, size, dice)
        if marks and not gray:
            colour = dice.pick(mark_colours(background))
        surface = dice.weigh(TEXTURES) if dice.chance(0.3) else ""
        ink = texture(surface, tone(colour, gray, dice), size, dice)
        share = np.asarray(mask, np.float32)[:, :, None] * np.float32(1 / 255)
        pixels = pixels + share * (ink - pixels)
        marks.append(Mark(kind, name, colour, _size_word(pose.height), _place_word(pose.centre), styles))
    pixels, qualities = _spoil(pixels, gray, small, dice)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    image = np.clip(pixels + 0.5, 0, 255).astype(np.uint8)
    return Scene(image, tuple(marks), background, textured, qualities)


def _kind(dice: Dice) -> str:
    return dice.weigh((("digit", 0.55), ("letter", 0.27), ("shape", 0.18)))


def _poses(count: int, filling: bool, dice: Dice) -> list[_Pose]:
    if filling:
        near = lambda: dice.between(0.47, 0.53)
        return [_Pose(dice.between(0.82, 1.02), (near(), near()))]
    if count == 1:
        height = dice.between(0.34, 0.85)
        free = lambda: 0.5 + (1 - height) * dice.between(-0.5, 0.5)
        return [_Pose(height, (free(), free()))]
    # side by side, or one above the other
    upright = dice.chance(0.3)
    poses = []
    for index in range(count):
        along, across = (index + 0.5) / count + dice.between(-0.03, 0.03), dice.between(0.35, 0.65)
        height = dice.between(0.65, 0.95) / count * (1.0 if upright else 1.2)
        poses.append(_Pose(height, (across, along) if upright else (along, across)))
    return poses


def _mask(kind: str, handwritten: bool, pose: _Pose, size: int, dice: Dice) -> tuple[Image.Image, str, tuple[str, ...]]:
    """Draw one mark as a mask; give its name and styles too."""
    turned = dice.chance(0.35 if kind == "shape" else 0.08)
    angle = dice.between(22, 40) * (1 if dice.chance(0.5) else -1) if turned else dice.between(-12, 12)
    styles = ("rotated",) if turned else ()
    slant = dice.between(-0.3, 0.35) if handwritten else dice.between(-0.15, 0.2)
    if kind == "shape":
        name = dice.pick(SHAPES)
        outlined = name != RING and name != "line" and dice.chance(0.3)
        linear = _linear(angle, slant / 2, dice.between(0.85, 1.15)) * pose.height
        mask = _shape_mask(name, outlined, linear, pose, size, dice)
        return mask, name, (*styles, "outlined") if outlined else styles
    if handwritten:
        name = dice.pick(DIGITS if kind == "digit" else HANDWRITTEN_LETTERS)
        aspect = dice.between(0.45, 1.3 if dice.chance(0.2) else 0.95)
        mask = _written_mask(name, _linear(angle, slant, aspect), pose, size, dice)
        return mask, name, (*styles, "handwritten")
    name = dice.pick(DIGITS if kind == "digit" else LETTERS)
    font = dice.pick(FONTS)
    weight = dice.pick(font.weights)
    linear = _linear(angle, slant, dice.between(0.8, 1.35)) * pose.height
    mask = print_mask(name, font, weight, size, linear, pose.centre, dice)
    if font.bold or weight == max(font.weights):
        styles = (*styles, "bold")
    return mask, name, (*styles, "italic") if font.italic else styles


def _linear(angle: float, slant: float, aspect: float) -> np.ndarray:
    """Stretch in width, then slant, then turn clockwise by degrees."""
    turn = np.radians(angle)
    cos, sin = np.cos(turn), np.sin(turn)
    return np.array([[cos, -sin], [sin, cos]]) @ np.array([[aspect, -slant], [0.0, 1.0]])


def _written_mask(name: str, linear: np.ndarray, pose: _Pose, size: int, dice: Dice) -> Image.Image:
    """Write with a round pen, fitted into the pose from one end of the ink to the other."""
    strokes = [stroke @ linear.T for stroke in write(name, dice)]
    everything = np.concatenate(strokes)
    low, high = everything.min(0), everything.max(0)
    pen = pose.height * dice.between(0.07, 0.19)
    width, height = np.maximum(high - low, 0.05)
    scale = min((pose.height - pen) / height, (1.02 - pen) / width)
    side = _FINE * size
    offset = np.array(pose.centre) * side - (low + high) / 2 * scale * side
    canvas = Image.new("L", (side, side))
    pencil = ImageDraw.Draw(canvas)
    radius = pen * side / 2
    for stroke in strokes:
        points = stroke * (scale * side) + offset
        pencil.line(points.ravel().tolist(), fill=255, width=max(1, round(2 * radius)))
        for left, top, right, bottom in np.concatenate([points - radius, points + radius], 1).tolist():
            pencil.ellipse((left, top, right, bottom), fill=255)
    return canvas.reduce(_FINE)


def _shape_mask(name: str, outlined: bool, linear: np.ndarray, pose: _Pose, size: int, dice: Dice) -> Image.Image:
    side = _FINE * size
    outline = OUTLINES["circle" if name == RING else name]
    points = (outline @ linear.T + np.array(pose.centre)) * side
    canvas = Image.new("L", (side, side))
    pencil = ImageDraw.Draw(canvas)
    if not outlined and name != RING:
        pencil.polygon(points.ravel().tolist(), fill=255)
    else:
        closed = np.concatenate([points, points[:2]]).ravel().tolist()
        pencil.line(closed, fill=255, width=max(2, round(pose.height * side * dice.between(0.07, 0.16))))
    return canvas.reduce(_FINE)


def _spoil(pixels: np.ndarray, gray: bool, small: bool, dice: Dice) -> tuple[np.ndarray, tuple[str, ...]]:
    qualities = ["grayscale"] if gray else []
    if small:
        pixels = lower_resolution(pixels, int(dice.between(7, 13)), dice)
        qualities.append("low resolution")
    elif dice.chance(0.12):
        pixels = blur(pixels, dice)
        qualities.append("blurry")
    if dice.chance(0.3):
        strength = dice.between(2, 28)
        pixels = pixels + np.float32(strength) * dice.generator.standard_normal(pixels.shape, np.float32)
        if strength > 16:
            qualities.append("noisy")
    return pixels, tuple(qualities)


def _size_word(height: float) -> str:
    return "large" if height > 0.75 else "small" if height < 0.48 else ""


def _place_word(centre: tuple[float, float]) -> str:
    column, row = (0 if value < 0.4 else 2 if value > 0.6 else 1 for value in centre)
    return _PLACES[row][column]
