"""Random changes to an image that leave its meaning alone: crops, flips, colours, blur, a hole.

Each is a frozen dataclass that takes a PIL image and a NumPy generator and returns a PIL image.
A cut comes first and gives RGB of the size wanted; everything else keeps size and mode. RandAugment
is in `randaugment`, whole pipelines are in `views`.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image, ImageFilter

from clipjax.errors import DataError
from clipjax.inputs.image import load_pixels

Box = tuple[float, float, float, float]

REDUCING_GAP = 2.0
"""JPEGs are decoded at 1/2, 1/4 or 1/8 of their size where the cut keeps this many times the pixels needed."""


class Cut(Protocol):
    """Chooses a part of an image and brings it to the size wanted."""

    @property
    def size(self) -> int:
        """The side of the result."""
        ...

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return an RGB image of `size` by `size`; the argument may be opened and not yet decoded."""
        ...


class Step(Protocol):
    """Changes an RGB image and keeps its size."""

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return the changed image."""
        ...


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of the image, `scale` its share of the area and `ratio` its width over height.

    Drawn as in Inception (Szegedy et al., arXiv 1409.4842): the area evenly, the ratio evenly on a
    logarithmic scale. After ten parts that do not fit, the largest one of a permitted ratio in the centre.
    """

    size: int
    scale: tuple[float, float] = (0.9, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self):
        _check_range("scale", self.scale, 1.0)
        _check_range("ratio", self.ratio, math.inf)

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return the part as an RGB image of `size` by `size`."""
        return cut_out(image, self.box(image.width, image.height, rng), self.size)

    def box(self, width: int, height: int, rng: np.random.Generator) -> Box:
        """Draw left, top, right and bottom."""
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area = width * height * _between(rng, *self.scale)
            ratio = math.exp(_between(rng, low, high))
            across, down = math.sqrt(area * ratio), math.sqrt(area / ratio)
            if across <= width and down <= height:
                return _placed(width, height, across, down, rng.random(), rng.random())
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        return _placed(width, height, min(width, height * ratio), min(height, width / ratio), 0.5, 0.5)


@dataclass(frozen=True)
class RandomShift:
    """A square of `1 - shift` of the short side, somewhere in the image.

    The shift of FixMatch's weak augmentation (arXiv 2001.07685), there 12.5 % of CIFAR's padded
    images; photographs are cut instead, and nothing is padded.
    """

    size: int
    shift: float = 0.125

    def __post_init__(self):
        if not 0 <= self.shift < 1:
            raise DataError(f"shift {self.shift} is not from 0 to below 1; 0.125 is usual")

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return the square as an RGB image of `size` by `size`."""
        side = (1 - self.shift) * min(image.size)
        box = _placed(image.width, image.height, side, side, rng.random(), rng.random())
        return cut_out(image, box, self.size)


def cut_out(image: Image.Image, box: Box, size: int) -> Image.Image:
    """Cut out a part and resize it to `size` by `size`, bicubic and in RGB, at the cost of one resize.

    A JPEG that is not decoded yet is decoded at reduced size where the part stays large enough.

    Raises:
      DataError: the image cannot be decoded, or is of a mode that has no RGB form.
    """
    width, height = image.size
    surplus = min(box[2] - box[0], box[3] - box[1]) / (REDUCING_GAP * size)
    if surplus >= 2:
        image.draft(None, (math.ceil(width / surplus), math.ceil(height / surplus)))
    load_pixels(image, "image")
    if image.size != (width, height):
        across, down = image.width / width, image.height / height
        box = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
        box = (box[0], box[1], min(box[2], image.width), min(box[3], image.height))
    try:
        if image.mode not in ("RGB", "L"):
            image = image.convert("RGB")
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
        return image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:
        raise DataError(f"image: mode {image.mode} is not supported ({error}); convert it to RGB") from error


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirrors left and right with probability `p`."""

    p: float = 0.5

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return the image or its mirror image."""
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < self.p else image


@dataclass(frozen=True)
class ColourJitter:
    """Changes brightness, contrast, saturation and hue at random, with probability `p`.

    The first three are factors drawn from 1 plus or minus the value given; `hue` is the largest
    turn of the colour circle, as a fraction of it, and turns the chroma of YIQ. All are linear in the
    colour, so one matrix does them in one pass: unlike with one change after the other, nothing is
    rounded or clipped in between.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    p: float = 1.0

    def __post_init__(self):
        for name in ("brightness", "contrast", "saturation"):
            if not getattr(self, name) >= 0:
                raise DataError(f"{name} {getattr(self, name)} is negative; 0 leaves it alone")
        if not 0 <= self.hue <= 0.5:
            raise DataError(f"hue {self.hue} is not between 0 and 0.5, half the colour circle")

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return the image in other colours."""
        if rng.random() >= self.p:
            return image
        brightness, contrast, saturation = (
            _between(rng, max(0.0, 1 - spread), 1 + spread)
            for spread in (self.brightness, self.contrast, self.saturation)
        )
        colours = _chroma(saturation, 2 * math.pi * _between(rng, -self.hue, self.hue)) * (brightness * contrast)
        grey = 0.0
        if contrast != 1:
            grey = (1 - contrast) * brightness * float(_LUMA @ np.array(_mean_colour(image)))
        rows = np.concatenate([colours, np.full((3, 1), grey)], axis=1)
        return image.convert("RGB", tuple(rows.ravel().tolist()))


@dataclass(frozen=True)
class RandomGrayscale:
    """Takes the colour away with probability `p`."""

    p: float = 0.2

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return the image, or its luminance in all three channels."""
        return image.convert("L").convert("RGB") if rng.random() < self.p else image


@dataclass(frozen=True)
class GaussianBlur:
    """Blurs with probability `p`; the radius is a fraction of the image's side.

    SimCLR (arXiv 2002.05709) draws it from 0.1 to 2 pixels at 224.
    """

    p: float = 0.5
    radius: tuple[float, float] = (0.1 / 224, 2 / 224)

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return the image, blurred or not."""
        if rng.random() >= self.p:
            return image
        return image.filter(ImageFilter.GaussianBlur(image.width * _between(rng, *self.radius)))


@dataclass(frozen=True)
class Cutout:
    """Covers a square at a random place, of up to `fraction` of the side (DeVries and Taylor, arXiv 1708.04552)."""

    fraction: float = 0.5
    fill: tuple[int, int, int] = (128, 128, 128)

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return a copy with the square painted over; at the border it is cut off."""
        half = 0.5 * image.width * self.fraction * rng.random()
        across, down = image.width * rng.random(), image.height * rng.random()
        box = (round(across - half), round(down - half), round(across + half), round(down + half))
        covered = image.copy()
        covered.paste(self.fill, box)
        return covered


_LUMA = np.array([0.299, 0.587, 0.114])
_YIQ = np.array([_LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_RGB = np.linalg.inv(_YIQ)


def _chroma(saturation: float, angle: float) -> np.ndarray:
    """Give the matrix that scales and turns colours and leaves the luminance as it is."""
    if angle == 0:
        return saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
    turn = saturation * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = np.eye(3)
    middle[1:, 1:] = turn
    return _RGB @ middle @ _YIQ


def _mean_colour(image: Image.Image) -> tuple[int, ...]:
    return image.reduce(max(image.size)).getpixel((0, 0))  # pyright: ignore[reportReturnType]


def _placed(width: int, height: int, across: float, down: float, right: float, low: float) -> Box:
    left, top = (width - across) * right, (height - down) * low
    # Pillow refuses a box that rounding has pushed over the edge
    return left, top, min(left + across, width), min(top + down, height)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    # a fifth of the time of rng.uniform
    return low + (high - low) * rng.random()


def _check_range(name: str, values: tuple[float, float], most: float) -> None:
    low, high = values
    if not 0 < low <= high <= most:
        raise DataError(f"{name} {values} is not a range of positive numbers up to {most:g}, the smaller first")
