"""Which classes there are when nobody says, and which texts stand for a class: templates, descriptions, or both."""

from collections import Counter
from collections.abc import Mapping, Sequence

from clipjax.data.classes import ClassList, distinct_names
from clipjax.data.source import ImageSource
from clipjax.errors import DataError


def class_list_of(source: ImageSource, remedy: str = "pass the class names with --classes") -> ClassList:
    """Take the classes from the images: their class folders, or the names in their manifest.

    Underscores become spaces, as a text would have them. Classes of which a selection has no
    image are in the list all the same, and two labels of one name are two classes. `remedy` ends a message.

    Raises:
      DataError: fewer than two classes are named, or two names differ by underscores alone.
    """
    given = [name for _, name in sorted(source.label_names.items())]
    if len(given) < 2:
        raise DataError(f"{source.name}: names {len(given)} classes, too few to tell apart; {remedy}")
    spoken = [" ".join(name.replace("_", " ").split()) for name in given]
    if len(set(spoken)) < len(set(given)):
        raise DataError(f"{source.name}: two class names differ by underscores alone; {remedy}")
    names = distinct_names(spoken)
    times = Counter(given)
    folders = {folder: name for folder, name in zip(given, names) if times[folder] == 1}
    return ClassList(names, folders=folders, spoken=tuple((name,) for name in spoken))


def class_texts(
    names: Sequence[str | Sequence[str]],
    templates: Sequence[str] = (),
    descriptions: Mapping[str, Sequence[str]] | None = None,
) -> list[list[str]]:
    """List the texts of each class, templates first.

    `names` says what texts call each class, by one name or by synonyms, each of which fills the
    templates. Descriptions, which belong to the first of them, are used as they are when they are
    sentences (the CuPL format); phrases such as "long, slender legs" (the DCLIP format) are joined
    to the name.

    Raises:
      DataError: neither templates nor descriptions, or a class that is left without a text.
    """
    if not templates and not descriptions:
        raise DataError("no text for the classes; give a template such as 'a photo of a {}.' or descriptions")
    described = descriptions or {}
    called = [(name,) if isinstance(name, str) else tuple(name) for name in names]
    phrases = are_phrases([text for name, *_ in called for text in described.get(name, ())])
    texts = []
    for name, *others in called:
        own = [template.replace("{}", synonym) for synonym in (name, *others) for template in templates]
        own += [join_phrase(name, text) if phrases else text for text in described.get(name, ())]
        if not own:
            raise DataError(f"no text for the class {name!r}; describe it, or give a template")
        texts.append(own)
    return texts


def extended_texts(
    names: Sequence[str], template: str, descriptions: Mapping[str, Sequence[str]], *, place: int = 0
) -> list[list[str]]:
    """Put one description of each class behind its prompt: one text for each class (PC-CLIP's extended prompts).

    A text tower reads as much of it as its context holds.

    Raises:
      DataError: a class that has no such description.
    """
    texts = []
    for name in names:
        own = descriptions.get(name, ())
        if len(own) <= place:
            raise DataError(f"the class {name!r} has {len(own)} descriptions, not {place + 1}; describe it")
        texts.append([f"{template.replace('{}', name).rstrip('. ')}. {own[place]}"])
    return texts


def are_phrases(descriptions: Sequence[str]) -> bool:
    """Tell phrases from sentences: most of them do not end like a sentence."""
    ended = sum(text.rstrip().endswith((".", "!", "?")) for text in descriptions)
    return 2 * ended < len(descriptions)


def join_phrase(name: str, phrase: str) -> str:
    """Make a text of a class name and a descriptor as DCLIP does (arXiv 2210.07183, `modify_descriptor`).

    Its beginnings are letters, not words: "alternating bands" becomes "which is alternating bands".
    """
    if phrase.startswith(("a", "used")):
        return f"{name}, which is {phrase}"
    if phrase.startswith(("has", "often", "typically", "may", "can")):
        return f"{name}, which {phrase}"
    return f"{name}, which has {phrase}"
