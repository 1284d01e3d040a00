"""A difference told the other way round: what was said of the first image is said of the second, and back."""

import re

_OTHER = {
    "first": "second",
    "second": "first",
    "former": "latter",
    "latter": "former",
    "image 1": "image 2",
    "image 2": "image 1",
}
_WORDS = re.compile(r"\b(first|second|former|latter|image [12])\b", re.IGNORECASE)


def swapped(sentence: str) -> str | None:
    """Exchange first and second, former and latter, image 1 and image 2; None where a sentence names neither.

    "The first image is brighter, the second darker" becomes "The second image is brighter, the first darker": true of
    the same two images in the other order.
    """
    found, count = _WORDS.subn(_exchange, sentence)
    return found if count else None


def _exchange(match: re.Match) -> str:
    word = match.group()
    other = _OTHER[word.lower()]
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other
