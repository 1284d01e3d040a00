"""Closed lists of English words, by which noun phrases are found in captions and take their article.

The words lie in `english.json`. The lists were made by reading the words of published captions and class
descriptions. They say what is most likely there, and no more: `stands` is a verb here, and `building` a noun.
"""

from importlib.resources import files

from clipjax.data.textfile import parse_json

_LISTS = parse_json(files("clipjax.texts").joinpath("english.json").read_text(encoding="utf-8"), "english.json")


def _words(name: str) -> frozenset[str]:
    return frozenset(word for line in _LISTS[name] for word in line.split())


DETERMINERS = _words("determiners")
"""What opens a noun phrase."""

NUMBERS = _words("numbers")
"""How many there are; no part of a phrase."""

BREAKS = _words("breaks")
"""Prepositions, conjunctions, pronouns, auxiliaries, adverbs: part of no noun phrase."""

VERBS = _words("verbs")
"""Forms of verbs that are nouns only now and then; those in -ed and -ing are told by their neighbours."""

ADJECTIVES = _words("adjectives")
"""What ends no noun phrase."""

NOUNS_IN_ING = _words("nouns_in_ing")
"""Words in -ing that are nouns, unless an object follows."""

BEFORE_NOUNS = _words("before_nouns")
"""Words in -ing that are part of a noun phrase where a noun follows: `dining table`."""

NOUNS_IN_ED = _words("nouns_in_ed")
"""Nouns that end like a past tense."""

NO_ADVERBS = _words("no_adverbs")
"""Nouns and adjectives that end like adverbs."""

SECOND_HALVES = _words("second_halves")
"""What begins no phrase, because it belongs to the word before it: a grey haired man is no haired man."""

HOLLOW = _words("hollow")
"""Nouns that name nothing one can see, whatever stands before them."""

VAGUE = _words("vague")
"""Nouns that say what one sees only with a word before them: `aerial view`, `round shape`."""

CONTAINERS = _words("containers")
"""What other things come in: `herd of sheep` is one phrase."""

MASS = _words("mass")
"""Nouns that take neither an article nor a plural."""

PLURALS = _words("plurals")
"""Plurals that do not end in s."""

_PAIRS = frozenset(["glasses", "shorts", "pants", "clothes", "sunglasses", "goggles", "jeans"])


def singular(noun: str) -> str:
    """Take the plural ending of a noun off, by rule: `dogs` and `dog` meet in the same word.

    What comes out need not be a word; irregular plurals and pairs (`shorts`) stay as they are.
    """
    if noun in _PAIRS or not noun.endswith("s") or noun.endswith(("ss", "us", "is")):
        return noun
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    return noun[:-2] if noun.endswith(("sses", "xes", "zes", "ches", "shes")) else noun[:-1]


def with_article(phrase: str) -> str:
    """Put a or an before a noun phrase, unless it is a plural or a mass noun."""
    noun = phrase.partition(" of ")[0].split(" ")[-1]
    if noun in MASS or noun in PLURALS or noun in _PAIRS or singular(noun) != noun:
        return phrase
    # by the letter, apart from the two sounds that captions are full of
    vowel = phrase[0] in "aeiou" and not phrase.startswith(("uni", "use", "one-", "eu"))
    return f"{'an' if vowel else 'a'} {phrase}"
