"""Read class names, prompt templates and class descriptions, and map a source's labels to class names.

Files come as plain lines or JSON; `FILE:KEY` picks one entry of a JSON object of data sets.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from clipjax.data.source import UNKNOWN, ImageSource
from clipjax.data.textfile import examples, looks_like_json, parse_json, read_json, read_text, split_key
from clipjax.errors import DataError


class ClassList(NamedTuple):
    """The classes in order, the template that came with them, and folder names for them if given."""

    names: tuple[str, ...]
    template: str | None = None
    folders: Mapping[str, str] | None = None


def read_classes(spec: str | os.PathLike) -> ClassList:
    """Read class names from `FILE` or `FILE:KEY`.

    A file holds one name per line, or JSON: a list of names, an object {folder: name}, an object
    {"template": ..., "classes": ...}, or an object of any of these by data set, which KEY selects.

    Raises:
      DataError: another layout, an unknown key, an empty or repeated name, an unusable template.
    """
    place, content = _load(spec)
    template = None
    if isinstance(content, dict) and "classes" in content and set(content) <= {"classes", "template"}:
        if content.get("template") is not None:
            template = _template(content["template"], place)
        content = content["classes"]
    folders = None
    if isinstance(content, dict):
        if not all(isinstance(name, str) for name in content.values()):
            raise DataError(
                f"{place}: holds several lists; choose one with FILE:KEY, the keys are {examples(list(content), 40)}"
            )
        folders = {folder: name.strip() for folder, name in content.items()}
        content = list(content.values())
    return ClassList(_names(content, place), template, folders)


def read_templates(spec: str | os.PathLike) -> tuple[str, ...]:
    """Read prompt templates: a literal one, or those of `FILE` or `FILE:KEY`, one per line or as JSON.

    The place of the class name is `{}`; `{c}`, as some published files write it, is replaced by it.

    Raises:
      DataError: neither a file nor a template, an unknown key, or a template without that place.
    """
    if "{}" in str(spec) or "{c}" in str(spec):
        return (_template(str(spec), "template"),)
    try:
        split_key(spec)
    except DataError as error:
        raise DataError(
            f"{str(spec)!r} is neither a template nor a file of templates; "
            "write {} where the class name goes, as in 'a photo of a {}.'"
        ) from error
    place, content = _load(spec)
    if isinstance(content, dict):
        raise DataError(
            f"{place}: holds several entries; choose one with FILE:KEY, the keys are {examples(list(content), 40)}"
        )
    if not isinstance(content, list) or not content:
        raise DataError(f"{place}: holds no list of templates; write a JSON list, or one template per line")
    return tuple(_template(template, place) for template in content)


def read_descriptions(
    path: str | os.PathLike, names: Sequence[str], *, allow_missing: bool = False
) -> dict[str, tuple[str, ...]]:
    """Read the descriptions of the classes `names` from a JSON object {class: [sentences]}.

    Class names match whatever their case, underscores, hyphens and spaces. With `allow_missing`
    a class that the file does not describe has no descriptions.

    Raises:
      DataError: another layout, or classes without a description.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f'{path}: not a file of descriptions; write {{"class": ["a sentence", ...], ...}}')
    described: dict[str, tuple[str, ...]] = {}
    for name, sentences in content.items():
        sentences = [sentences] if isinstance(sentences, str) else sentences
        if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
            raise DataError(f"{path}: the entry {name!r} is not a list of sentences; write one")
        kept = tuple(sentence.strip() for sentence in sentences if sentence.strip())
        described[normalise_name(name)] = described.get(normalise_name(name), ()) + kept
    found = {name: described.get(normalise_name(name), ()) for name in names}
    missing = [name for name, sentences in found.items() if not sentences]
    if missing and not allow_missing:
        raise DataError(
            f"{path}: describes {len(names) - len(missing)} of {len(names)} classes; missing are "
            f"{examples(missing, 10)}; the file has {examples(list(content))}"
        )
    return found


def labels_for(
    source: ImageSource, class_list: ClassList
) -> tuple[Int[np.ndarray, " images"], Literal["by name", "by position"]]:
    """Give each image the position of its class in `class_list`, and say how it was found.

    By name when every class name of the source (or folder, through `class_list.folders`) is in the
    list. By position only when the source carries written labels that fit the list, and no
    name that both sides know says otherwise. Folder names that do not match are an error, since
    their alphabetical order is an accident.

    Raises:
      DataError: unlabelled images, or names that do not match; the message shows both sides.
    """
    unlabelled = sum(label == UNKNOWN and not name for label, name in zip(source.labels.tolist(), source.classnames))
    if unlabelled:
        raise DataError(
            f"{source.name}: {unlabelled} of {len(source)} images have no label; "
            "give class folders or a manifest with labels, or select the labelled images"
        )
    position_of = _positions(class_list)
    known = {name: position_of(name) for name in dict.fromkeys(source.classnames)}
    if all(position is not None for position in known.values()):
        return np.array([known[name] for name in source.classnames], np.int32), "by name"
    pairs = list(dict.fromkeys(zip(source.labels.tolist(), source.classnames)))
    contradicted = [(label, name) for label, name in pairs if known[name] is not None and known[name] != label]
    fits = all(UNKNOWN < label < len(class_list.names) for label, _ in pairs)
    if source.explicit_labels and fits and not contradicted:
        return source.labels.astype(np.int32), "by position"
    raise DataError(_mismatch(source, class_list, known, contradicted, fits))


def normalise_name(name: str) -> str:
    """Reduce a class name to what its spellings have in common."""
    return " ".join(re.sub(r"[_\-]", " ", name.lower()).split())


def _load(spec: str | os.PathLike) -> tuple[str, Any]:
    """Return what `FILE` or `FILE:KEY` holds, lines of text as a list, and what messages call it."""
    path, key = split_key(spec)
    text = read_text(path)
    if not looks_like_json(text):
        if key is not None:
            raise DataError(f"{path}: plain text, so there is no entry {key!r}; leave out :{key}")
        return str(path), [line.strip() for line in text.rstrip().splitlines()]
    content = parse_json(text, str(path))
    if key is None:
        return str(path), content
    if not isinstance(content, dict) or key not in content:
        keys = list(content) if isinstance(content, dict) else []
        raise DataError(
            f"{path}: no entry {key!r}; "
            + (f"the keys are {examples(keys, 40)}" if keys else f"it is a list, leave out :{key}")
        )
    return f"{path}:{key}", content[key]


def _names(content: Any, place: str) -> tuple[str, ...]:
    if not isinstance(content, list) or not content:
        raise DataError(f"{place}: holds no class names; write a JSON list, or one name per line")
    for position, name in enumerate(content):
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{place}: class {position} is {name!r}; write a name")
    names = tuple(name.strip() for name in content)
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise DataError(f"{place}: the class name {repeated[0]!r} stands for several classes; give each its own name")
    return names


def _template(template: Any, place: str) -> str:
    if not isinstance(template, str) or not template.strip():
        raise DataError(f"{place}: {template!r} is not a template; write one such as 'a photo of a {{}}.'")
    filled = template.replace("{c}", "{}")
    if "{}" not in filled:
        raise DataError(f"{place}: the template {template!r} has no place for the class name; write {{}} there")
    if re.search(r"[{}]", filled.replace("{}", "")):
        raise DataError(f"{place}: the template {template!r} holds other braces than {{}}; remove them")
    return filled


def _positions(class_list: ClassList) -> Any:
    exact = {name: position for position, name in enumerate(class_list.names)}
    if class_list.folders:
        exact |= {folder: exact[name] for folder, name in class_list.folders.items()}
    loose: dict[str, int | None] = {}
    for name, position in exact.items():
        # two classes that differ only in spelling are told apart by exact names alone
        spelled = normalise_name(name)
        loose[spelled] = position if loose.setdefault(spelled, position) == position else None
    return lambda name: exact.get(name, loose.get(normalise_name(name)))


def _mismatch(
    source: ImageSource,
    class_list: ClassList,
    known: dict[str, int | None],
    contradicted: list[tuple[int, str]],
    fits: bool,
) -> str:
    unmatched = [name for name, position in known.items() if position is None]
    message = (
        f"{source.name}: class names {examples(unmatched)} are not in the class list ({examples(class_list.names)})"
    )
    if source.explicit_labels and not fits:
        message += f", and label {int(source.labels.max())} is beyond its {len(class_list.names)} classes"
    elif source.explicit_labels and contradicted:
        label, name = contradicted[0]
        message += f", and its order is another ({name!r} has label {label}, but position {known[name]})"
    return message + '; write the class file as a JSON object {"name in the data": "name in the prompt"}'
