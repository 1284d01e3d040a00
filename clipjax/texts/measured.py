"""What can be measured in a picture and said in words: colours, light, detail, the direction of edges.

No model and no label takes part. The words are coarse on purpose: two people would choose the same.
"""

import dataclasses

import numpy as np
from jaxtyping import Float
from PIL import Image

COLOURS = {
    "black": (20, 20, 20),
    "grey": (128, 128, 128),
    "white": (240, 240, 240),
    "red": (200, 30, 30),
    "orange": (235, 140, 30),
    "yellow": (235, 220, 60),
    "green": (60, 150, 60),
    "blue": (50, 90, 190),
    "purple": (130, 60, 160),
    "pink": (240, 150, 180),
    "brown": (120, 80, 50),
}
"""Berlin and Kay's eleven basic colours, each with a typical sRGB value."""

_SIDE = 64
_DARK, _BRIGHT = 0.30, 0.62
_MUTED, _VIVID = 0.20, 0.50
_SMOOTH, _DETAILED = 0.035, 0.085
_DIRECTED = 1.8
_LEAST_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class Properties:
    """Measurements of one picture, or their means over several.

    `shares` are the parts of the pixels that each colour of `COLOURS` is nearest to. `light`,
    `saturation` and `detail` (the mean step between neighbours) lie in [0, 1]; `direction` is the ratio
    of changes across columns to changes across rows.
    """

    shares: tuple[float, ...]
    light: float
    saturation: float
    detail: float
    direction: float

    @property
    def colours(self) -> tuple[str, ...]:
        """One or two colours that fill most of the picture, the larger share first; none where there are many."""
        order = np.argsort(self.shares)[::-1]
        names = list(COLOURS)
        first, second = names[order[0]], names[order[1]]
        if self.shares[order[0]] < _LEAST_SHARE:
            return ()
        return (first, second) if self.shares[order[1]] >= 0.2 else (first,)

    @property
    def brightness(self) -> str:
        """How light it is, in a word."""
        return _level(self.light, _DARK, _BRIGHT, ("dark", "evenly lit", "bright"))

    @property
    def vividness(self) -> str:
        """How strong the colours are, in a word."""
        return _level(self.saturation, _MUTED, _VIVID, ("muted", "natural", "vivid"))

    @property
    def texture(self) -> str:
        """How much there is to see, in a phrase."""
        return _level(self.detail, _SMOOTH, _DETAILED, ("smooth areas", "some detail", "fine detail everywhere"))

    @property
    def edges(self) -> str | None:
        """Which way the edges run, where they agree on one."""
        if self.detail < _SMOOTH:
            return None
        if self.direction > _DIRECTED:
            return "vertical"
        return "horizontal" if self.direction < 1 / _DIRECTED else None


def measure(image: Image.Image) -> Properties:
    """Measure a picture; its size does not matter."""
    small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    pixels = np.asarray(small, np.float32)
    typical = np.array(list(COLOURS.values()), np.float32)
    nearest = np.square(pixels.reshape(-1, 1, 3) - typical).sum(-1).argmin(1)
    shares = np.bincount(nearest, minlength=len(COLOURS)) / nearest.size
    grey = _grey(pixels)
    across_columns, across_rows = np.abs(np.diff(grey, axis=1)).mean(), np.abs(np.diff(grey, axis=0)).mean()
    largest, smallest = pixels.max(-1), pixels.min(-1)
    saturation = np.where(largest > 0, (largest - smallest) / np.maximum(largest, 1), 0).mean()
    return Properties(
        shares=tuple(shares.tolist()),
        light=float(grey.mean()),
        saturation=float(saturation),
        detail=float((across_columns + across_rows) / 2),
        direction=float((across_columns + 1e-3) / (across_rows + 1e-3)),
    )


def common(group: list[Properties]) -> Properties:
    """Average over a group; of each colour the smallest share counts, so that one picture alone names none."""
    shares = np.min([one.shares for one in group], axis=0)
    mean = lambda name: float(np.mean([getattr(one, name) for one in group]))
    direction = float(np.exp(np.mean(np.log([one.direction for one in group]))))
    return Properties(tuple(shares.tolist()), mean("light"), mean("saturation"), mean("detail"), direction)


def _grey(pixels: Float[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width"]:
    return pixels @ np.array([0.299, 0.587, 0.114], np.float32) / 255


def _level(value: float, low: float, high: float, words: tuple[str, str, str]) -> str:
    return words[0] if value < low else words[2] if value > high else words[1]
