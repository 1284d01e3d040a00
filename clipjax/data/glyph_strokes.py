"""Digits and letters as a hand writes them: skeletons of strokes whose points move with every drawing.

Skeletons are in a box of 100 by 100, y downwards. A stroke passes smoothly through its points;
`!` makes a point a corner, `/` lifts the pen.
"""

from functools import cache
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from clipjax.data.glyph_dice import Dice

Stroke = Float[np.ndarray, "points 2"]

_STEPS = 5  # points drawn from one skeleton point to the next

_SKELETONS = {
    "0": (
        "50,0 12,22 5,58 40,100 85,80 95,35 50,0",
        "62,4 30,6 6,45 18,88 55,100 92,70 85,20 50,2 38,8",
        "50,0 20,15 10,50 22,88 50,100 78,88 90,50 80,15 50,0",
        "70,10 35,0 8,40 20,90 60,98 94,60 80,15 55,6",
    ),
    "1": (
        "50,0 50,100",
        "55,0 50,50 46,100",
        "20,28 56,0! 56,100",
        "15,22 40,18 58,0! 56,100",
        "22,25 55,0! 55,100 / 15,100 92,100",
        "30,15 55,0! 55,100 / 25,99 85,100",
    ),
    "2": (
        "8,26 40,0 86,20 62,60 5,100! 95,100",
        "12,20 50,0 88,28 50,68 8,98! 60,94 95,98",
        "10,25 45,0 85,25 55,72 18,98 4,86 28,76 62,94 96,92",
        "5,15 50,2 82,22 70,50 10,96! 96,96",
    ),
    "3": (
        "10,12 50,0 85,22 40,47! 90,70 52,100 5,88",
        "10,10 52,0 85,22 46,46 90,72 50,100 5,86",
        "8,0! 86,2! 42,40! 90,68 52,100 5,90",
        "12,14 55,0 82,20 58,44 30,47 62,50 92,74 55,100 6,92",
    ),
    "4": (
        "25,0 5,60! 95,60 / 70,30 66,100",
        "66,100 66,0! 4,66! 96,66",
        "15,0 10,44 44,56 86,44 / 88,0 80,100",
        "20,2 8,52! 90,50 / 80,4 72,100",
        "70,0 4,62! 96,64 / 72,0 70,100",
    ),
    "5": (
        "86,0! 20,0! 12,44! 55,38 92,68 50,100 5,90",
        "20,2 14,44! 55,36 92,66 52,100 6,92 / 20,2 90,0",
        "86,5 42,2 20,28 58,46 88,72 50,100 8,90",
        "90,2! 28,0! 22,42! 70,42 90,72 60,98 5,96",
    ),
    "6": (
        "74,0 30,30 8,70 45,100 88,76 52,50 12,72",
        "60,0 14,56 24,95 72,95 84,66 48,52 15,72",
        "88,12 52,0 14,38 10,80 48,100 88,78 60,50 14,62",
        "40,0 8,60 30,98 80,92 74,60 36,60 14,84",
    ),
    "7": (
        "5,0! 92,0! 36,100",
        "5,0! 90,2! 42,100 / 26,50 82,48",
        "6,18! 6,2! 92,0! 40,100",
        "5,8 48,2 94,4! 56,46 44,100",
        "4,6 94,0! 55,50 45,100 / 28,54 84,46",
    ),
    "8": (
        "50,47 14,24 50,0 86,24 50,47 8,75 50,100 92,75 50,47",
        "86,14 50,0 14,22 50,47 90,76 50,100 8,78 50,47 82,26 86,14",
        "50,0 18,22 50,45 82,22 50,0 / 50,45 8,72 50,100 92,72 50,45",
        "78,8 30,6 24,34 74,62 70,96 22,94 26,62 72,34 78,8",
    ),
    "9": (
        "85,22 46,50 12,26 50,0 86,22! 80,100",
        "86,20 48,50 12,26 50,0 86,22 84,68 52,100 14,90",
        "82,10 40,0 10,26 34,50 84,26! 66,100",
        "84,30 42,48 14,20 55,0 88,26 70,70 40,100",
    ),
    "A": ("4,100 50,0! 96,100 / 22,62 78,62",),
    "B": ("10,0 10,100 / 10,0! 60,2 78,24 56,46 10,47! 66,50 90,74 60,98 10,100",),
    "C": ("92,16 50,0 8,42 26,92 66,100 94,84",),
    "D": ("10,0 10,100 / 10,0! 60,6 94,48 60,96 10,100",),
    "E": ("92,0 10,0! 10,100! 92,100 / 10,50 75,50",),
    "F": ("92,0 10,0! 10,100 / 10,48 72,48",),
    "H": ("8,0 8,100 / 92,0 92,100 / 8,50 92,50",),
    "K": ("8,0 8,100 / 88,0 10,56! 92,100",),
    "L": ("10,0 10,100! 92,100",),
    "M": ("4,100 10,0! 50,62! 90,0! 96,100",),
    "N": ("8,100 8,0! 92,100! 92,0",),
    "P": ("10,100 10,0! 62,0 90,26 62,52 10,54",),
    "R": ("10,100 10,0! 62,0 88,24 60,48 12,50! 92,100",),
    "T": ("4,0 96,0 / 50,0 50,100",),
    "U": ("8,0 8,62 50,100 92,62 92,0",),
    "V": ("4,0 50,100! 96,0",),
    "W": ("2,0 24,100! 50,34! 76,100! 98,0",),
    "X": ("5,0 95,100 / 95,0 5,100",),
    "Y": ("5,0 50,50! 95,0 / 50,50 50,100",),
    "a": ("84,34 42,22 8,62 38,100 84,70! 84,22! 88,100",),
    "d": ("84,60 44,42 8,72 40,100 84,72! 84,0! 86,100",),
    "e": ("10,54 90,50 60,6 14,30 10,72 50,100 92,86",),
    "h": ("12,0 12,100! 14,62 52,44 84,62 86,100",),
    "k": ("12,0 12,100 / 80,40 14,70! 86,100",),
    "m": ("5,100 5,20! 8,44 30,22 48,44 50,100! 52,44 76,22 94,44 95,100",),
    "n": ("10,100 10,10! 12,42 52,10 88,42 90,100",),
    "r": ("20,100 20,10! 24,46 50,14 86,18",),
    "t": ("45,0 42,80 60,100 88,88 / 8,30 84,28",),
    "u": ("8,5 8,66 44,100 84,66! 86,5! 90,100",),
    "w": ("2,5 24,100! 50,34! 76,100! 98,5",),
    "y": ("8,0 10,40 50,56 88,36! 90,0! 84,74 44,100 10,86",),
}
HANDWRITTEN_LETTERS = tuple(name for name in _SKELETONS if not name.isdigit())


def write(name: str, dice: Dice) -> list[Stroke]:
    """Write a character once: one of its skeletons, its points moved, in a box of side 1 or a little more."""
    skeleton = dice.pick(_strokes(name))
    unsteady = dice.between(0.01, 0.06)
    return [
        smooth @ (points + unsteady * dice.generator.standard_normal(points.shape)[order])
        for points, order, smooth in skeleton
    ]


@cache
def _strokes(name: str) -> list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Give each skeleton's strokes as points, the point each copy belongs to, and their interpolation."""
    return [[_stroke(stroke) for stroke in skeleton.split(" / ")] for skeleton in _SKELETONS[name]]


def _stroke(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # a doubled point makes the curve turn there at once
    words = [word for word in text.split() for _ in range(1 + word.endswith("!"))]
    order = np.cumsum([0] + [not (a == b and a.endswith("!")) for a, b in pairwise(words)])
    points = np.array([[float(number) / 100 for number in word.rstrip("!").split(",")] for word in words])
    return points, order, _catmull_rom(len(points))


@cache
def _catmull_rom(count: int) -> Float[np.ndarray, "drawn {count}"]:
    """Build the matrix that turns control points into the points of a Catmull-Rom curve through them."""
    rows = []
    for segment in range(count - 1):
        for t in np.arange(_STEPS) / _STEPS:
            weights = 0.5 * np.array(
                [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3]
            )
            row = np.zeros(count)
            np.add.at(row, np.clip(np.arange(segment - 1, segment + 3), 0, count - 1), weights)
            rows.append(row)
    return np.stack([*rows, np.eye(count)[-1]])
