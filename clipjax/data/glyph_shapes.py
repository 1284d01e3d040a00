"""Simple shapes as outlines around the origin, in a box of side 1."""

import numpy as np
from jaxtyping import Float

Outline = Float[np.ndarray, "points 2"]


def _polygon(corners: int, inner: float = 1.0, turn: float = -90.0) -> Outline:
    """Place corners on a circle, every second one at `inner` times its radius where that is not 1."""
    count = corners if inner == 1.0 else 2 * corners
    angles = np.radians(turn + 360 / count * np.arange(count))
    radius = np.where(np.arange(count) % 2, inner, 1.0)[:, None] / 2
    return radius * np.stack([np.cos(angles), np.sin(angles)], 1)


def _curve(x, y) -> Outline:
    points = np.stack([x, y], 1)
    points = points - (points.max(0) + points.min(0)) / 2
    return points / np.ptp(points, 0).max()


def _box(*corners: tuple[float, float]) -> Outline:
    return np.array(corners, float) / 100 - 0.5


_T = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_RISE, _FALL = np.linspace(np.pi / 2, 3 * np.pi / 2, 14), np.linspace(3 * np.pi / 2, np.pi / 2, 14)

OUTLINES: dict[str, Outline] = {
    "circle": _polygon(28),
    "square": _box((6, 6), (94, 6), (94, 94), (6, 94)),
    "rectangle": _box((0, 25), (100, 25), (100, 75), (0, 75)),
    "oval": _polygon(28) * np.array([1.0, 0.58]),
    "triangle": _polygon(3),
    "diamond": _polygon(4) * np.array([0.75, 1.0]),
    "pentagon": _polygon(5),
    "hexagon": _polygon(6),
    "star": _polygon(5, inner=0.42),
    "cross": _box(
        (35, 0), (65, 0), (65, 35), (100, 35), (100, 65), (65, 65),
        (65, 100), (35, 100), (35, 65), (0, 65), (0, 35), (35, 35),
    ),
    "arrow": _box((0, 36), (55, 36), (55, 8), (100, 50), (55, 92), (55, 64), (0, 64)),
    "heart": _curve(
        16 * np.sin(_T) ** 3, -(13 * np.cos(_T) - 5 * np.cos(2 * _T) - 2 * np.cos(3 * _T) - np.cos(4 * _T))
    ),
    "moon": _curve(
        np.concatenate([np.cos(_RISE), 0.45 * np.cos(_FALL)]), np.concatenate([np.sin(_RISE), np.sin(_FALL)])
    ),
    "line": _box((0, 44), (100, 44), (100, 56), (0, 56)),
}  # fmt: skip
RING = "ring"  # the one shape that is an outline and nothing else
SHAPES = (*OUTLINES, RING)
