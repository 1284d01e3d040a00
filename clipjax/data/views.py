"""From one image to one array for the vision tower: a cut, some changes, normalisation.

The pipelines that training and self-training use, and inference's own as a view without randomness.
A view's `repr` says all that its result depends on besides image and generator.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float
from PIL import Image

from clipjax.data.augment import (
    REDUCING_GAP,
    ColourJitter,
    Cut,
    Cutout,
    GaussianBlur,
    HorizontalFlip,
    RandomGrayscale,
    RandomResizedCrop,
    RandomShift,
    Step,
)
from clipjax.data.randaugment import RandAugment
from clipjax.errors import DataError
from clipjax.inputs.image import OPENAI_MEAN, OPENAI_STD, Preprocessing, crop_uint8, load_pixels, normalise, open_image

Colour = tuple[float, float, float]


class Transform(Protocol):
    """Turns an image, perhaps opened and not yet decoded, into the array that the model sees."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of every result."""
        ...

    def __call__(
        self, image: Image.Image, rng: np.random.Generator, out: Float[np.ndarray, "..."] | None = None
    ) -> Float[np.ndarray, "..."]:
        """Return the array, written into `out` where that is given."""
        ...


@dataclass(frozen=True)
class View:
    """A random cut, then changes in order, then float32 with the model's mean and deviation."""

    cut: Cut
    steps: tuple[Step, ...] = ()
    mean: Colour = OPENAI_MEAN
    std: Colour = OPENAI_STD

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and colours of the result."""
        return self.cut.size, self.cut.size, 3

    def __call__(
        self, image: Image.Image, rng: np.random.Generator, out: Float[np.ndarray, "size size 3"] | None = None
    ) -> Float[np.ndarray, "size size 3"]:
        """Return the view that `rng` draws, written into `out` where that is given.

        Raises:
          DataError: the image cannot be decoded.
        """
        image = self.cut(image, rng)
        for step in self.steps:
            image = step(image, rng)
        pixels = np.empty(self.shape, np.float32) if out is None else out
        self._standardise(np.asarray(image), pixels)
        return pixels

    def _standardise(self, pixels: np.ndarray, out: np.ndarray) -> None:
        # `normalise` up to rounding, and twenty times as fast: NumPy's loops run over whole rows and
        # not over three colours
        rows, (scale, offset) = out.reshape(len(out), -1), self._row
        rows[...] = pixels.reshape(len(pixels), -1)
        rows *= scale
        rows += offset

    @functools.cached_property
    def _row(self) -> tuple[np.ndarray, np.ndarray]:
        std = 255 * np.asarray(self.std)
        scale, offset = 1 / std, -255 * np.asarray(self.mean) / std
        return np.tile(scale.astype(np.float32), self.cut.size), np.tile(offset.astype(np.float32), self.cut.size)


@dataclass(frozen=True)
class EvalView:
    """What inference does, pixel for pixel, whatever the generator."""

    size: int
    mean: Colour = OPENAI_MEAN
    std: Colour = OPENAI_STD
    rule: Preprocessing = "openai"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and colours of the result."""
        return self.size, self.size, 3

    def __call__(
        self,
        image: Image.Image,
        rng: np.random.Generator | None = None,
        out: Float[np.ndarray, "size size 3"] | None = None,
    ) -> Float[np.ndarray, "size size 3"]:
        """Return the prepared image, written into `out` where that is given.

        Raises:
          DataError: the image cannot be decoded.
        """
        pixels = normalise(crop_uint8(image, self.size, self.rule), self.mean, self.std)
        if out is None:
            return pixels
        out[...] = pixels
        return out


class WantedView(NamedTuple):
    """A view of an image that somebody wants, its random numbers, and where it goes."""

    transform: Transform
    rng: np.random.Generator
    out: Float[np.ndarray, "..."]


def write_views(encoded: bytes, title: str, wanted: Sequence[WantedView]) -> None:
    """Decode an image and write views of it; `title` is what messages call it.

    Raises:
      DataError: the image cannot be decoded.
    """
    image = open_image(encoded, title)
    largest = max(max(view.transform.shape) for view in wanted)
    # several views share one decoding, unless it is cheaper to decode at reduced size for each
    shared = len(wanted) > 1 and min(image.size) < 2 * REDUCING_GAP * largest
    if shared:
        load_pixels(image, title)
    for number, view in enumerate(wanted):
        if number and not shared:
            image = open_image(encoded, title)
        try:
            view.transform(image, view.rng, view.out)
        except DataError as error:
            raise DataError(f"{title}: {str(error).removeprefix('image: ')}") from error


def train_transform(
    size: int,
    mean: Colour = OPENAI_MEAN,
    std: Colour = OPENAI_STD,
    *,
    scale: tuple[float, float] = (0.9, 1.0),
    flip: float = 0.0,
    jitter: ColourJitter | None = None,
    grayscale: float = 0.0,
    blur: float = 0.0,
    rand_augment: RandAugment | None = None,
) -> View:
    """Prepare images for training with captions or labels.

    Without options it is OpenCLIP's: a crop of at least 90 % and nothing else, since captions name
    colours and sides. `flip`, `grayscale` and `blur` are probabilities.

    Raises:
      DataError: an option outside its range.
    """
    for name, p in (("flip", flip), ("grayscale", grayscale), ("blur", blur)):
        if not 0 <= p <= 1:
            raise DataError(f"{name} {p} is not a probability; give a number from 0 to 1")
    steps: list[Step | None] = [
        HorizontalFlip(flip) if flip else None,
        rand_augment,
        jitter,
        RandomGrayscale(grayscale) if grayscale else None,
        GaussianBlur(blur) if blur else None,
    ]
    return View(RandomResizedCrop(size, scale), tuple(step for step in steps if step is not None), mean, std)


def augmented_view(
    size: int,
    mean: Colour,
    std: Colour,
    *,
    crop: float,
    flip: float = 0.0,
    jitter: float = 0.0,
    grayscale: float = 0.0,
    rand_augment: int = 0,
) -> View:
    """Prepare images for training as settings say it in plain numbers.

    `crop` is the smallest share of an image that is shown; `flip`, `jitter` (of colours, as strong as
    LatteCLIP's) and `grayscale` are probabilities, and `rand_augment` random operations follow.

    Raises:
      DataError: a number outside its range.
    """
    return train_transform(
        size,
        mean,
        std,
        scale=(crop, 1.0),
        flip=flip,
        jitter=ColourJitter(0.5, 0.5, 0.5, 0.1, jitter) if jitter else None,
        grayscale=grayscale,
        rand_augment=RandAugment(rand_augment) if rand_augment else None,
    )


def weak_view(
    size: int, mean: Colour = OPENAI_MEAN, std: Colour = OPENAI_STD, *, shift: float = 0.125, flip: float = 0.5
) -> View:
    """Give the view that pseudo-labels are made from: shifted and flipped, as FixMatch (arXiv 2001.07685) does."""
    return View(RandomShift(size, shift), _flipped(flip), mean, std)


def strong_view(
    size: int,
    mean: Colour = OPENAI_MEAN,
    std: Colour = OPENAI_STD,
    *,
    shift: float = 0.125,
    flip: float = 0.5,
    operations: int = 2,
    magnitude: float | None = None,
    cutout: float = 0.5,
) -> View:
    """Give the view that must agree with the weak one's pseudo-label: as weak, then RandAugment and Cutout.

    With the defaults it is FixMatch's: two operations of random magnitude. What is uncovered or
    covered gets the mean colour, 0 after normalisation.
    """
    red, green, blue = (round(255 * colour) for colour in mean)
    augment = RandAugment(operations, magnitude, (red, green, blue))
    covered = (Cutout(cutout, (red, green, blue)),) if cutout else ()
    return View(RandomShift(size, shift), (*_flipped(flip), augment, *covered), mean, std)


def eval_view(
    size: int, mean: Colour = OPENAI_MEAN, std: Colour = OPENAI_STD, rule: Preprocessing = "openai"
) -> EvalView:
    """Give the model's own preprocessing."""
    return EvalView(size, mean, std, rule)


def _flipped(p: float) -> tuple[Step, ...]:
    return (HorizontalFlip(p),) if p else ()
