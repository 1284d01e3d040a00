"""A ranking as a contact sheet: one HTML file with the pictures in it."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from clipjax.texts.html import embedded, rendered

_PAGES = Path(__file__).parent / "pages"


@dataclasses.dataclass(frozen=True)
class Place:
    """An image in a ranking, counted from 1; `truth` is the measured attribute where it is known."""

    rank: int
    id: str
    score: float
    truth: float | None = None


def ranking_page(
    places: Sequence[Place],
    picture: Callable[[Place], Image.Image],
    *,
    title: str,
    note: str = "",
    shown: int = 60,
    truth_name: str = "",
    query: Image.Image | None = None,
) -> str:
    """Write a ranking as a page; of more than `shown` images the first and the last half of so many.

    `query` is the image that the others are compared with, where there is one; it stands above them.
    """
    head = places if len(places) <= shown else places[: shown - shown // 2]
    tail = places[len(places) - shown // 2 :] if len(places) > shown and shown > 1 else ()
    parts = [_part(head, picture, 0)]
    if tail:
        parts.append(_part(tail, picture, len(places) - len(head) - len(tail)))
    asked = None if query is None else embedded(query)
    return rendered("ranking.html", _PAGES, parts=parts, title=title, note=note, truth_name=truth_name, query=asked)


def _part(places: Sequence[Place], picture: Callable[[Place], Image.Image], left_out: int) -> dict[str, Any]:
    shown = [{**dataclasses.asdict(place), "picture": embedded(picture(place))} for place in places]
    return {"places": shown, "left_out": left_out}
