"""Pages to look at: the numbers of a store, and some of its texts beside their images. Each is one file.

Those of other packages are filled here, too, and look alike.
"""

import base64
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from clipjax.texts.record import TextRecord
from clipjax.texts.statistics import LENGTHS, KindStatistics

_SIDE = 224
_BARS = 60


@dataclasses.dataclass(frozen=True)
class Card:
    """A record as it is shown, its pictures, what `checks` find, and its similarity to its images where measured."""

    record: TextRecord
    pictures: Sequence[Image.Image] = ()
    faults: Sequence[str] = ()
    similarity: float | None = None


def statistics_page(kinds: Sequence[KindStatistics], *, title: str, note: str = "") -> str:
    """Write the numbers of a store as a page."""
    histograms = {s.kind: _bars(s.histogram) for s in kinds}
    faults = {s.kind: [(_words(rule), count) for rule, count in s.faults.items()] for s in kinds}
    shown = {"kinds": kinds, "histograms": histograms, "faults": faults, "lengths": LENGTHS}
    return rendered("statistics.html", **shown, title=title, note=note)


def sample_page(cards: Sequence[Card], *, title: str, note: str = "") -> str:
    """Write some texts with their images as a page; the images are in it, at a small size."""
    return rendered("sample.html", cards=[_shown(card) for card in cards], title=title, note=note)


def rendered(template: str, *folders: Path, **values: Any) -> str:
    """Fill a page of `folders`, or of those here, which it may extend."""
    from jinja2 import Environment, FileSystemLoader

    loader = FileSystemLoader([*folders, Path(__file__).parent / "pages"])
    # what a model wrote is text, whatever it looks like
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(template).render(**values)


def embedded(image: Image.Image) -> str:
    """Write a picture, at a small size, as an address that holds all of it."""
    image = image.convert("RGB")
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _shown(card: Card) -> dict[str, Any]:
    r = card.record
    return {
        "kind": _words(r.kind),
        "subjects": r.images or r.subjects,
        "text": r.text,
        "error": r.error,
        "model": r.model,
        "prompt": r.prompt,
        "raw": r.raw,
        "pictures": [embedded(picture) for picture in card.pictures],
        "faults": [_words(name) for name in card.faults],
        "similarity": card.similarity,
    }


def _words(name: str) -> str:
    return name.replace("_", " ")


def _bars(histogram: Mapping[int, int]) -> list[tuple[str, int]]:
    """Put numbers of words into at most `_BARS` bins of equal width, empty ones among them."""
    if not histogram:
        return []
    least, most = min(histogram), max(histogram)
    width = (most - least) // _BARS + 1
    bins = [0] * ((most - least) // width + 1)
    for words, count in histogram.items():
        bins[(words - least) // width] += count
    starts = [least + i * width for i in range(len(bins))]
    return [(str(a) if width == 1 else f"{a} to {a + width - 1}", count) for a, count in zip(starts, bins)]
