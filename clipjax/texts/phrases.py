"""A fixed inventory of noun phrases, mined from captions and class descriptions by rule.

No part-of-speech model takes part: a phrase is a run of words between those of closed lists (`english`).
`writers.retrieval` says with phrases of an inventory what an image shows.
"""

import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from clipjax.data.textfile import read_text
from clipjax.errors import ConfigError, DataError
from clipjax.outputs import new_file
from clipjax.texts import english

RULES = 1
"""Counts the changes of the rules below: another number, other phrases of the same sentences."""

_HEADER = re.compile(r"# clipjax phrases (\d+), sources ([0-9a-f]+|unknown)")
_TOKEN = re.compile(r"[^\W\d_]+(?:[-'][^\W\d_]+)*|\d\S*|[^\w\s]")
_PHRASE = re.compile(r"[^\W\d_]+(?:[-' ][^\W\d_]+)*")
_CLOSED = english.DETERMINERS | english.NUMBERS | english.BREAKS | english.VERBS


def mine_phrases(
    sentences: Iterable[str], *, at_least: int = 3, longest: int = 4, most: int | None = 1000
) -> list[str]:
    """Collect the noun phrases of captions and descriptions, the most frequent first, then by the alphabet.

    Phrases are in lower case and without article. Of singular and plural, the more frequent form stands for both.

    Args:
      at_least: in how many different sentences a phrase occurs; rarer ones are often misspelt or misread.
      longest: words of a phrase at most.
      most: phrases at most; None for all.

    Raises:
      ConfigError: a number below one.
      DataError: there are no such phrases.
    """
    for name, value in (("at_least", at_least), ("longest", longest), ("most", most)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; phrases are mined with a number from 1")
    counts = Counter(phrase for sentence in set(sentences) for phrase in set(phrases_of(sentence, longest=longest)))
    counts = _joined(counts)
    kept = [phrase for phrase, count in counts.items() if count >= at_least]
    if not kept:
        raise DataError(f"no phrase occurs in {at_least} different sentences; give more sentences, or lower at_least")
    return sorted(kept, key=lambda phrase: (-counts[phrase], phrase))[:most]


def phrases_of(sentence: str, *, longest: int = 4) -> list[str]:
    """Find the noun phrases of a sentence: `a small brown dog` holds `small brown dog`, `brown dog` and `dog`."""
    words = _TOKEN.findall(sentence.lower().replace("\u2019", "'"))
    found: list[str] = []
    before: tuple[int, list[str]] = (0, [])
    for start, run in _runs(words):
        ends = [end for end in _tails(run) if _names_something(end)]
        wholes = [["of", *end] for end in ends] if _is_contained(words, before, start) else []
        outer = _tails(before[1]) if wholes else []
        phrases = [*ends, *(head + whole for head in outer for whole in wholes)]
        found += [" ".join(phrase) for phrase in phrases if len(phrase) <= longest]
        before = start, run
    return found


def source_digest(sentences: Iterable[str], **settings: int | None) -> str:
    """Digest what an inventory was mined from, and with which settings of `mine_phrases`."""
    content = json.dumps([RULES, sorted(settings.items()), sorted(set(sentences))])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def fingerprint(phrases: Sequence[str]) -> str:
    """Digest the phrases of an inventory and their order."""
    return hashlib.sha256("\n".join(phrases).encode()).hexdigest()[:12]


def write_phrases(
    path: str | os.PathLike, phrases: Sequence[str], *, sources: str = "unknown", overwrite: bool = False
) -> None:
    """Write an inventory as plain text, one phrase on each line below a line that says what it was mined from.

    Args:
      sources: the `source_digest` of the sentences.

    Raises:
      DataError: something is not a phrase, or is one twice.
      OutputError: the file exists already, or cannot be written.
    """
    lines = [f"# clipjax phrases {RULES}, sources {sources}", *phrases]
    _check(lines, str(path))
    with new_file(path, overwrite=overwrite) as staged:
        staged.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_phrases(path: str | os.PathLike) -> list[str]:
    """Read an inventory; phrases may have been removed or added by hand.

    Raises:
      DataError: another kind of file, or a line that is no phrase; the message names the line.
    """
    lines = read_text(path).splitlines()
    _check(lines, str(path))
    return lines[1:]


def _runs(words: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield each longest run of words that may be a noun phrase, and where it begins."""
    inside = [_is_inside(words, place) for place in range(len(words))]
    for place in range(1, len(words) - 2):
        # a black and white dog
        colours = words[place - 1] in english.ADJECTIVES and words[place + 1] in english.ADJECTIVES
        inside[place] |= words[place] == "and" and colours and inside[place - 1] and inside[place + 2]
    start = 0
    while start < len(words):
        end = start
        while end < len(words) and inside[end]:
            end += 1
        run = words[start:end]
        while run and _ends_nothing(run[-1]):
            run.pop()
        if run:
            yield start, run
        start = end + 1


def _is_inside(words: list[str], place: int) -> bool:
    word = words[place]
    before = words[place - 1] if place else ""
    after = words[place + 1] if place + 1 < len(words) else ""
    if not _is_open(word):
        return False
    if word in english.NOUNS_IN_ING:
        return after not in english.DETERMINERS
    if word.endswith("ing"):
        # a sleeping cat, a dining table, but no man riding a horse
        return _is_open(after) and (word in english.BEFORE_NOUNS or before in english.DETERMINERS)
    if word.endswith("ed") and word not in english.NOUNS_IN_ED | english.ADJECTIVES:
        return _is_open(after)
    return True


def _is_open(word: str) -> bool:
    adverb = word.endswith("ly") and word not in english.NO_ADVERBS
    return word[:1].isalpha() and "'" not in word and word not in _CLOSED and not adverb


def _ends_nothing(word: str) -> bool:
    past = word.endswith("ed") and word not in english.NOUNS_IN_ED
    shape = word.endswith(("ous", "-shaped", "-colored", "-like", "-toned"))
    return word == "and" or word in english.ADJECTIVES or word in english.BEFORE_NOUNS or past or shape


def _tails(run: list[str]) -> list[list[str]]:
    """Cut words off the front, but never between two that belong together."""
    tails = [run[place:] for place in range(len(run)) if place == 0 or run[place - 1] != "and"]
    return [tail for tail in tails if tail[0] != "and" and tail[0] not in english.SECOND_HALVES]


def _names_something(phrase: list[str]) -> bool:
    noun = phrase[-1]
    return len(noun) > 1 and noun not in english.HOLLOW and (len(phrase) > 1 or noun not in english.VAGUE)


def _is_contained(words: list[str], before: tuple[int, list[str]], start: int) -> bool:
    """Whether the run from `start` follows `herd of`."""
    begin, run = before
    return bool(run) and run[-1] in english.CONTAINERS and words[begin + len(run) : start] == ["of"]


def _joined(counts: Counter[str]) -> Counter[str]:
    """Count singular and plural together, under the more frequent of the two."""
    forms: dict[str, list[str]] = defaultdict(list)
    for phrase in counts:
        *first, noun = phrase.split(" ")
        forms[" ".join([*first, english.singular(noun)])].append(phrase)
    common = [min(group, key=lambda phrase: (-counts[phrase], phrase)) for group in forms.values()]
    return Counter({name: sum(counts[phrase] for phrase in group) for name, group in zip(common, forms.values())})


def _check(lines: Sequence[str], name: str) -> None:
    header = _HEADER.fullmatch(lines[0]) if lines else None
    if header is None:
        raise DataError(f"{name}: line 1 is not that of a phrase inventory; write one with write_phrases")
    if int(header[1]) > RULES:
        raise DataError(f"{name}: written by a newer clipjax (phrases {header[1]}); update clipjax")
    seen: dict[str, int] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not _PHRASE.fullmatch(line) or line != line.lower():
            raise DataError(f"{name}: line {number} is {line[:60]!r}; write one phrase in lower case, words only")
        if line in seen:
            raise DataError(f"{name}: line {number} repeats {line!r} of line {seen[line]}; keep one of them")
        seen[line] = number
    if not seen:
        raise DataError(f"{name}: holds no phrases; mine some from captions")
