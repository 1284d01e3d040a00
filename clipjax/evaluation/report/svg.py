"""Small plots as SVG inside a page: no scripts, colours from the page's style, a text alternative in each.

All text is escaped. Sizes are those of a phone's width, so that letters are not shrunk there.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

WIDTH, HEIGHT = 340, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 18, 10, 34
_SMALLEST, _LARGEST = 1e-100, 1e100
COLOURS = 6
"""So many colours there are, `--c0` to `--c5` in the page's style; further series are dashed."""


@dataclass(frozen=True)
class Series:
    """A named line: x and y of each point; y is None where there is no number, and the line has a gap."""

    name: str
    points: Sequence[tuple[float, float | None]]


@dataclass(frozen=True)
class Frame:
    """The part of the plane that a plot shows, with its ticks."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Place a point on the paper."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)


def line_plot(
    series: Sequence[Series],
    *,
    title: str,
    description: str,
    x_label: str = "",
    y_range: tuple[float, float] | None = None,
    x_range: tuple[float, float] | None = None,
    diagonal: bool = False,
) -> Markup:
    """Draw lines; a point without neighbours is a dot. Points without a finite number are left out."""
    known = [(x, y) for one in series for x, y in one.points if y is not None and _shown(y)]
    frame = _frame([x for x, _ in known], [y for _, y in known], x_range, y_range)
    parts = [_axes(frame, x_label)]
    if diagonal:
        parts.append(_path([frame.at(frame.x[0], frame.y[0]), frame.at(frame.x[1], frame.y[1])], "guide"))
    for number, one in enumerate(series):
        style = f"line c{number % COLOURS}" + (" dashed" if number >= COLOURS else "")
        for run in _runs(one.points):
            placed = [frame.at(x, y) for x, y in run]
            parts.append(_path(placed, style) if len(placed) > 1 else "")
            if len(placed) <= 12:
                parts += [
                    f'<circle class="dot c{number % COLOURS}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in placed
                ]
    return _svg(parts, title, description)


def bar_plot(
    heights: Sequence[float], edges: Sequence[float], *, title: str, description: str, x_label: str = ""
) -> Markup:
    """Draw a histogram: one bar between each two edges."""
    frame = _frame([edges[0], edges[-1]], [0.0, *heights], (edges[0], edges[-1]), None)
    parts = [_axes(frame, x_label)]
    for left, right, height in zip(edges, edges[1:], heights):
        (x0, y0), (x1, y1) = frame.at(left, 0.0), frame.at(right, height)
        place = f'x="{x0 + 0.5:.1f}" y="{y1:.1f}" width="{max(x1 - x0 - 1, 0.5):.1f}" height="{y0 - y1:.1f}"'
        parts.append(f'<rect class="bar" {place}/>')
    return _svg(parts, title, description)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Choose round numbers that span a range, and a little more than it."""
    if not high - low > max(1e-9 * max(abs(low), abs(high)), _SMALLEST):
        spread = abs(low) if abs(low) > _SMALLEST else 1.0
        low, high = low - spread / 2, high + spread / 2
    rough = (high - low) / max(most - 1, 1)
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def short(value: float) -> str:
    """Write a number in as few letters as will do for an axis or a sentence."""
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"


def _frame(
    xs: Sequence[float],
    ys: Sequence[float],
    x_range: tuple[float, float] | None,
    y_range: tuple[float, float] | None,
) -> Frame:
    x_ticks = ticks(*(x_range or (min(xs, default=0.0), max(xs, default=1.0))))
    y_ticks = ticks(*(y_range or (min(ys, default=0.0), max(ys, default=1.0))))
    # data may end between ticks; along x nothing is gained by room beyond it
    low, high = x_range or (min(xs, default=0.0), max(xs, default=1.0))
    x = (low, high) if high > low else (x_ticks[0], x_ticks[-1])
    inside = [tick for tick in x_ticks if x[0] - 1e-9 * abs(x[0]) <= tick <= x[1] * (1 + 1e-9)]
    return Frame(x, (y_ticks[0], y_ticks[-1]), inside, y_ticks)


def _axes(frame: Frame, x_label: str) -> str:
    parts = []
    named_x, named_y = _named(frame.x_ticks), _named(frame.y_ticks)
    for tick in frame.y_ticks:
        (x0, y), (x1, _) = frame.at(frame.x[0], tick), frame.at(frame.x[1], tick)
        parts.append(f'<path class="grid" d="M{x0:.1f} {y:.1f}H{x1:.1f}"/>')
        parts.append(f'<text class="tick" x="{x0 - 5:.1f}" y="{y + 3.5:.1f}" text-anchor="end">{named_y(tick)}</text>')
    for tick in frame.x_ticks:
        x, y = frame.at(tick, frame.y[0])
        parts.append(f'<path class="grid" d="M{x:.1f} {y:.1f}v4"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{y + 15:.1f}" text-anchor="middle">{named_x(tick)}</text>')
    if x_label:
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        parts.append(
            f'<text class="tick" x="{middle:.0f}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>'
        )
    return "".join(parts)


def _named(placed: Sequence[float]) -> Callable[[float], str]:
    """Write ticks with as many digits as they have."""
    if len(placed) < 2 or not all(tick == 0 or 1e-3 <= abs(tick) < 1e5 for tick in placed):
        return short
    step = min(b - a for a, b in itertools.pairwise(placed))
    digits = next((n for n in range(6) if all(abs(round(tick, n) - tick) < 1e-3 * step for tick in placed)), 6)
    return lambda tick: f"{tick:.{digits}f}"


def _shown(value: float) -> bool:
    return abs(value) < _LARGEST


def _runs(points: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """Cut a line where a number is missing."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None or not _shown(y):
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _path(points: Sequence[tuple[float, float]], style: str) -> str:
    steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{style}" points="{steps}"/>'


def _svg(parts: Sequence[str], title: str, description: str) -> Markup:
    return Markup(
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{title}. {description}")}">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{''.join(parts)}</svg>"
    )
