"""Which written differences are fit for training, and what is cut off them: PC-CLIP's rules (its filter script).

A rule is a function of the raw answer that says whether it applies; the answer is dropped then. The
published script lists some forty repeated strings; here one rule finds repetition as such.
"""

import re
from collections.abc import Callable

MINIMUM_LENGTH = 60
"""Characters that a difference has at least, after it was cleaned."""

Rule = Callable[[str], bool]


def starts_with_empty_lines(text: str) -> bool:
    """The model went silent and then wrote something else."""
    return text.startswith("\n\n\n")


def is_code(text: str) -> bool:
    """A program instead of a sentence."""
    return text.startswith(("# 1000", "#include", "# include")) or "#define" in text


def has_runs_of_zeros(text: str) -> bool:
    """A number that never ends."""
    return "0" * 12 in text


def has_escaped_equals(text: str) -> bool:
    r"""Rows of `\=`, left of a table."""
    return r"\=\=\=" in text


def repeats_itself(text: str) -> bool:
    """One to six characters over and over: `t.t.t.t.`, rows of `!`, `?` or `- - -`."""
    return re.search(r"(?=\S)(.{1,6}?)\1{7,}", text) is not None


def has_markup(text: str) -> bool:
    """Remnants of a web page."""
    return re.search(r"<br\s*/?>|</p>", text) is not None


def has_asterisks(text: str) -> bool:
    """Lists and emphasis."""
    return "*" in text


def has_quoted_blocks(text: str) -> bool:
    """Quotations and templates of programs."""
    return '"""' in text or "'''" in text or "{{{" in text


def is_boilerplate(text: str) -> bool:
    """What models recite when they have lost the question."""
    lowered = text.lower()
    return any(phrase in lowered for phrase in ("landing page", "business plan", "https://", "http://", "description:"))


def is_not_ascii(text: str) -> bool:
    """Another script, or signs of a broken encoding."""
    return not text.isascii()


DROPS: tuple[Rule, ...] = (
    starts_with_empty_lines,
    is_code,
    has_runs_of_zeros,
    has_escaped_equals,
    repeats_itself,
    has_markup,
    has_asterisks,
    has_quoted_blocks,
    is_boilerplate,
    is_not_ascii,
)

TAILS = ("Q:", "I hope", "#2:", "Note")
"""Where an answer goes on to something else."""


def cut_tail(text: str, *, as_published: bool = False) -> str:
    """Keep what comes before the first of `TAILS`.

    `as_published` does as the script does: each mark cuts the whole answer anew, so that the last
    mark that occurs wins, though it may keep more.
    """
    if as_published:
        kept = text
        for mark in TAILS:
            if mark in text:
                kept = text[: text.index(mark)]
        return kept
    return text[: min((text.index(mark) for mark in TAILS if mark in text), default=len(text))]


def tidy(text: str, *, as_published: bool = False) -> str:
    """Remove the marks of question and answer, and all white space but single spaces.

    `as_published` joins lines without a space and turns two spaces into one only once.
    """
    text = text.replace("#1:", "").replace("A: ", "").replace("#", "")
    if as_published:
        text = text.replace("\n", "").replace("\t", " ").replace("  ", " ")
    else:
        text = " ".join(text.split())
    return text.removeprefix(". ")


def clean_difference(raw: str, *, as_published: bool = False) -> tuple[str | None, str | None]:
    """Return the cleaned sentence, or None and the name of the rule that dropped it."""
    for rule in DROPS:
        if rule(raw):
            return None, rule.__name__
    text = tidy(cut_tail(raw, as_published=as_published), as_published=as_published)
    return (None, "is_short") if len(text) < MINIMUM_LENGTH else (text, None)
