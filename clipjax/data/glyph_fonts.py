"""Characters of the fonts that matplotlib ships, as masks drawn once and then warped."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from clipjax.data.glyph_dice import Dice

DIGITS = "0123456789"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

_SIDE = 64  # of the largest mask; the character's longer side takes _REACH of it
_REACH = 52
_LEVELS = 3


class Font(NamedTuple):
    """A font file and what one sees of it."""

    file: str
    bold: bool = False
    italic: bool = False

    @property
    def weights(self) -> tuple[int, ...]:
        """The changes of stroke width that leave its characters readable."""
        return _WEIGHTS_BOLD if self.bold else _WEIGHTS


FONTS = (
    Font("DejaVuSans"),
    Font("DejaVuSans-Bold", bold=True),
    Font("DejaVuSans-Oblique", italic=True),
    Font("DejaVuSans-BoldOblique", bold=True, italic=True),
    Font("DejaVuSansMono"),
    Font("DejaVuSansMono-Bold", bold=True),
    Font("DejaVuSansMono-Oblique", italic=True),
    Font("DejaVuSerif"),
    Font("DejaVuSerif-Bold", bold=True),
    Font("DejaVuSerif-Italic", italic=True),
    Font("STIXGeneral"),
    Font("STIXGeneralBol", bold=True),
    Font("STIXGeneralItalic", italic=True),
    Font("STIXGeneralBolIta", bold=True, italic=True),
    Font("cmr10"),
    Font("cmb10", bold=True),
    Font("cmss10"),
    Font("cmti10", italic=True),
    Font("cmtt10"),
)
# pixels that a stroke loses or gains on either side, where the letters are about 100 pixels high
_WEIGHTS, _WEIGHTS_BOLD = (0, 0, 2, 6, 9), (-1, 0, 0, 4)


def print_mask(
    character: str, font: Font, weight: int, size: int, linear: Float[np.ndarray, "2 2"], centre: tuple, dice: Dice
) -> Image.Image:
    """Print a character into a frame of `size` pixels; `linear` takes its box of side 1 into a frame of side 1.

    Half of all prints are bent on a mesh as well.
    """
    inverse = np.linalg.inv(linear)
    # no smoothing happens on the way, so start from a mask that is not much larger than the print
    shrink = _REACH * float(np.sqrt(abs(np.linalg.det(inverse)))) / size
    level = 0 if shrink < 1.5 else 1 if shrink < 3 else 2
    side, reach = _SIDE >> level, _REACH >> level
    mask = _masks(character, font.file, weight)[level]
    grid = _GRID - np.array(centre)
    corners = grid @ inverse.T * reach + side / 2
    if dice.chance(0.5):
        corners = corners + reach * dice.between(0, 0.06) * dice.generator.standard_normal(corners.shape)
        (a, b, c), (d, e, f), (g, h, i) = corners.tolist()
        half = size // 2
        mesh = [
            ((0, 0, half, half), (*a, *d, *e, *b)),
            ((half, 0, size, half), (*b, *e, *f, *c)),
            ((0, half, half, size), (*d, *g, *h, *e)),
            ((half, half, size, size), (*e, *h, *i, *f)),
        ]
        return mask.transform((size, size), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
    (ax, ay), (bx, by), (cx, cy) = corners[0, 0].tolist(), corners[0, 2].tolist(), corners[2, 0].tolist()
    affine = ((bx - ax) / size, (cx - ax) / size, ax, (by - ay) / size, (cy - ay) / size, ay)
    return mask.transform((size, size), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)


_GRID = np.stack(np.meshgrid([0.0, 0.5, 1.0], [0.0, 0.5, 1.0]), -1)


@cache
def _masks(character: str, file: str, weight: int) -> list[Image.Image]:
    """Draw a character once, its longer side `_REACH` long, and that mask at half and a quarter of its size."""
    large = Image.new("L", (4 * _SIDE, 4 * _SIDE))
    ImageDraw.Draw(large).text(
        (2 * _SIDE, 2 * _SIDE), character, 255, _face(file), anchor="mm", stroke_width=max(weight, 0)
    )
    for _ in range(-weight):
        large = large.filter(ImageFilter.MinFilter(3))
    left, top, right, bottom = large.getbbox() or (0, 0, 4 * _SIDE, 4 * _SIDE)
    longer = max(right - left, bottom - top)
    width, height = (max(1, round(_REACH * extent / longer)) for extent in (right - left, bottom - top))
    drawn = large.crop((left, top, right, bottom)).resize((width, height), Image.Resampling.BOX)
    mask = Image.new("L", (_SIDE, _SIDE))
    mask.paste(drawn, ((_SIDE - width) // 2, (_SIDE - height) // 2))
    return [mask.reduce(1 << level) if level else mask for level in range(_LEVELS)]


@cache
def _face(file: str) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{file}.ttf", 2 * _SIDE)
