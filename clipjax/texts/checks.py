"""What is wrong with the words of a text: one named rule for each fault.

Whether a text is too long for a model only its tokenizer knows, and whether it fits its image is
what `faithfulness` measures.
"""

import re
from collections.abc import Callable, Mapping

from clipjax.texts.differences import has_markup, is_boilerplate, repeats_itself
from clipjax.texts.record import Kind, TextRecord

Rule = Callable[[str], bool]


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


_ENGLISH = _words(
    "a an the this that it its his her their they one two three some many who which there",
    "of in on at with by for to from near over under between into behind beside through",
    "and or as while is are was has have can very",
)
_ELSEWHERE = _words(
    "der die das und ein eine einer mit auf ist het een van op met",
    "le la les un une et avec dans sur est el los las y con una il di che",
)
"""Words that are common in other languages and not in English: German, French, Spanish, Italian, Dutch."""

_REFUSALS = re.compile(
    r"\b(as an ai\b|i(?:'m| am) (?:sorry|unable|not able)|i (?:cannot|can't|can not) (?:see|view|provide|help|assist|"
    r"describe|identify|determine)|no image (?:was|is|has been)|please (?:provide|upload|share) (?:the|an|your) image)",
    re.IGNORECASE,
)
_PREAMBLES = re.compile(
    r"^\W*(sure\b|certainly\b|of course\b|here(?: is|'s| are)\b|the answer is\b|(?:answer|caption|description):)",
    re.IGNORECASE,
)


def refuses(text: str) -> bool:
    """The model says that it will not or cannot answer."""
    return _REFUSALS.search(text) is not None


def begins_with_a_preamble(text: str) -> bool:
    """The model talks to whoever asked before it answers: `Sure, here is a caption`."""
    return _PREAMBLES.match(text) is not None


def is_not_english(text: str) -> bool:
    """Mostly other scripts, two common words of another language, or eight words and more with hardly a common one."""
    letters = [letter for letter in text if letter.isalpha()]
    if not letters or sum(letter.isascii() for letter in letters) < 0.8 * len(letters):
        return True
    words = re.findall(r"[^\W\d_]+", text.lower())
    ours, others = (sum(word in known for word in words) for known in (_ENGLISH, _ELSEWHERE))
    return (others >= 2 and others > ours) or (len(words) >= 8 and ours < 0.1 * len(words))


def breaks_off(text: str) -> bool:
    """It ends where no sentence does, as an answer does that was cut at its longest."""
    return re.search(r"(?:[,;:\-]|\b(?:a|an|the|of|and|or|with|to|in|on|is|are|while))\s*$", text) is not None


def has_no_word(text: str) -> bool:
    """Signs and numbers only."""
    return re.search(r"[^\W\d_]{2}", text) is None


def misses_a_placeholder(text: str) -> bool:
    """A template, on one of its lines, without `{}` or with several."""
    return any(line.count("{}") != 1 for line in text.splitlines() if line.strip())


COMMON: tuple[Rule, ...] = (
    refuses,
    begins_with_a_preamble,
    is_not_english,
    breaks_off,
    has_no_word,
    repeats_itself,
    has_markup,
    is_boilerplate,
)

SPECIAL: Mapping[Kind, tuple[Rule, ...]] = {"template": (misses_a_placeholder,)}


def faults(record: TextRecord) -> tuple[str, ...]:
    """Return the names of the rules that apply to a record's text, those of its kind among them."""
    rules = COMMON + SPECIAL.get(record.kind, ())
    return tuple(rule.__name__ for rule in rules if rule(record.text))
