"""How two pictures compare in one thing that can be measured: which is brighter, more vivid, more detailed, bluer.

Short sentences about one aspect each, for text towers with a short context and for rankings that can be checked.
"""

import hashlib
from collections.abc import Sequence

from clipjax.errors import ConfigError
from clipjax.texts.measured import COLOURS, Properties

_WORDS = {
    "light": "The first image is brighter, while the second image is darker.",
    "saturation": "The first image has more vivid colours, the second image paler ones.",
    "detail": "The first image has more edges, while the second image is smoother.",
}
_OPPOSITE = {
    "light": "The first image is darker, while the second image is brighter.",
    "saturation": "The first image has paler colours, the second image more vivid ones.",
    "detail": "The first image is smoother, while the second image has more edges.",
}
_NOTICEABLE = {"light": 0.1, "saturation": 0.1, "detail": 0.02}
_NOTICEABLE_SHARE = 0.15
_ALIKE = 0.01
"""Of what is noticeable: pictures that are less apart than this are alike, as what is left may be rounding."""

ASPECTS = (*_WORDS, *COLOURS)
"""What can be compared: light, saturation, detail (the mean step between neighbours), and each colour's share."""


def amount(picture: Properties, aspect: str) -> float:
    """Return how much of an aspect a picture has.

    Raises:
      ConfigError: an unknown aspect.
    """
    if aspect not in ASPECTS:
        raise ConfigError(f"no aspect {aspect!r}; known are {', '.join(ASPECTS)}")
    return getattr(picture, aspect) if aspect in _WORDS else picture.shares[list(COLOURS).index(aspect)]


def comparison(aspect: str, *, more: bool = True) -> str:
    """Say that the first of two images has more of an aspect than the second, or less."""
    if aspect in _WORDS:
        return (_WORDS if more else _OPPOSITE)[aspect]
    sides = ("more", "less") if more else ("less", "more")
    return f"The first image shows {sides[0]} {aspect}, while the second image shows {sides[1]} of it."


def has_more(first: Properties, second: Properties, aspect: str) -> bool | None:
    """Say whether the first picture has more of an aspect than the second; None where they are alike in it."""
    apart = _apart(first, second, aspect)
    return None if abs(apart) < _ALIKE else apart > 0


def chosen_aspect(first: Properties, second: Properties, aspects: Sequence[str], seed: str) -> str:
    """Choose the aspect to compare two pictures in: one of those in which they plainly differ, drawn by `seed`.

    Where they plainly differ in none, the one in which they differ most, in units of what is plain.
    """
    apart = {aspect: abs(_apart(first, second, aspect)) for aspect in aspects}
    plain = [aspect for aspect in aspects if apart[aspect] >= 1]
    if not plain:
        return max(aspects, key=lambda aspect: apart[aspect])
    return plain[int.from_bytes(hashlib.sha256(seed.encode("utf-8", "backslashreplace")).digest()[:8]) % len(plain)]


def _apart(first: Properties, second: Properties, aspect: str) -> float:
    """Measure how much more the first has, in units of what is noticeable."""
    return (amount(first, aspect) - amount(second, aspect)) / _NOTICEABLE.get(aspect, _NOTICEABLE_SHARE)
