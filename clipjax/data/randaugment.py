"""RandAugment (Cubuk et al., arXiv 1909.13719): a few operations drawn from a list of fourteen.

The list and the ranges are torchvision's (`transforms.RandAugment`), whose operations are also the
fourteen of FixMatch (arXiv 2001.07685, table 12). Unlike there, geometry is bilinear.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from clipjax.errors import DataError

STRONGEST = 30
"""The magnitude at the end of every operation's range."""

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class RandAugment:
    """Applies `operations` random operations, one after the other.

    `magnitude`, from 0 to 30, is the strength of each; without one it is drawn anew each time, as
    FixMatch does. Operations that can go both ways go either way. What geometry uncovers becomes `fill`.
    """

    operations: int = 2
    magnitude: float | None = 9
    fill: Colour = (128, 128, 128)

    def __post_init__(self):
        if self.operations < 0:
            raise DataError(f"{self.operations} operations cannot be applied; ask for 0 or more")
        if self.magnitude is not None and not 0 <= self.magnitude <= STRONGEST:
            raise DataError(f"magnitude {self.magnitude} is not between 0 and {STRONGEST}; 9 is usual")

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return the changed image, of the same size."""
        for _ in range(self.operations):
            name = NAMES[int(rng.integers(len(NAMES)))]
            strength = rng.random() if self.magnitude is None else self.magnitude / STRONGEST
            sign = 1 if rng.random() < 0.5 else -1
            image = apply(name, image, strength, sign, self.fill)
        return image


def apply(name: str, image: Image.Image, strength: float, sign: int = 1, fill: Colour = (128, 128, 128)) -> Image.Image:
    """Apply one operation with a strength from 0 to 1, to an RGB image; `sign` is the way it goes.

    Raises:
      DataError: there is no such operation.
    """
    if name in _BY_COLOUR:
        return _BY_COLOUR[name](image, strength, sign)
    if name in _BY_PLACE:
        return image.transform(
            image.size,
            Image.Transform.AFFINE,
            _BY_PLACE[name](image.size, sign * strength),
            Image.Resampling.BILINEAR,
            fillcolor=fill,
        )
    if name == "rotate":
        return image.rotate(30 * sign * strength, Image.Resampling.BILINEAR, fillcolor=fill)
    raise DataError(f"no operation is called {name!r}; there are {', '.join(NAMES)}")


def _enhanced(enhancer: Callable[[Image.Image], ImageEnhance._Enhance]):
    return lambda image, strength, sign: enhancer(image).enhance(1 + 0.9 * sign * strength)


def _posterized(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return ImageOps.posterize(image, 8 - round(4 * strength))


def _solarized(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return ImageOps.solarize(image, round(256 * (1 - strength)))


_BY_COLOUR: dict[str, Callable[[Image.Image, float, int], Image.Image]] = {
    "identity": lambda image, strength, sign: image,
    "brightness": _enhanced(ImageEnhance.Brightness),
    "color": _enhanced(ImageEnhance.Color),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "posterize": _posterized,
    "solarize": _solarized,
    "autocontrast": lambda image, strength, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, strength, sign: ImageOps.equalize(image),
}

# From the place in the result to the place in the image: x' = a x + b y + c, y' = d x + e y + f.
# Shears leave the centre where it is; 150/331 of the side is the paper's range of translation.
_BY_PLACE: dict[str, Callable[[tuple[int, int], float], tuple[float, ...]]] = {
    "shear_x": lambda size, amount: (1, 0.3 * amount, -0.15 * amount * size[1], 0, 1, 0),
    "shear_y": lambda size, amount: (1, 0, 0, 0.3 * amount, 1, -0.15 * amount * size[0]),
    "translate_x": lambda size, amount: (1, 0, 150 / 331 * amount * size[0], 0, 1, 0),
    "translate_y": lambda size, amount: (1, 0, 0, 0, 1, 150 / 331 * amount * size[1]),
}

NAMES = tuple(sorted([*_BY_COLOUR, *_BY_PLACE, "rotate"]))
"""The fourteen operations."""
