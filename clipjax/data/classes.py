"""Read class names, prompt templates and class descriptions, and map a source's labels to class names.

Files come as plain lines or JSON; `FILE:KEY` picks one entry of a JSON object of data sets.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from clipjax.data.source import UNKNOWN, ImageSource
from clipjax.data.textfile import examples, looks_like_json, parse_json, read_json, read_text, split_key
from clipjax.errors import DataError


class ClassList(NamedTuple):
    """The classes in order, the template that came with them, and folder names for them if given.

    `names` are distinct, for people to tell the classes apart. `spoken` holds what prompts and data
    call each class, one name or several synonyms; None where that is its name.
    """

    names: tuple[str, ...]
    template: str | None = None
    folders: Mapping[str, str] | None = None
    spoken: tuple[tuple[str, ...], ...] | None = None

    @property
    def prompt_names(self) -> tuple[tuple[str, ...], ...]:
        """Say what prompts call each class."""
        return self.spoken or tuple((name,) for name in self.names)


def read_classes(spec: str | os.PathLike) -> ClassList:
    """Read class names from `FILE` or `FILE:KEY`.

    A file holds one name per line, or JSON: a list of names, an object {folder: name}, an object
    {"template": ..., "classes": ...}, or an object of any of these by data set, which KEY selects.
    In a list, a list of synonyms stands for one class. Classes may share a name, as OpenAI's two
    ImageNet classes "missile" do: they are told apart as "missile (657)" and "missile (744)".

    Raises:
      DataError: another layout, an unknown key, an empty name, an unusable template.
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
        folders = list(content)
        content = list(content.values())
    spoken = _spoken(content, place)
    names = distinct_names([synonyms[0] for synonyms in spoken])
    by_folder = None if folders is None else dict(zip(folders, names))
    plain = tuple((name,) for name in names)
    return ClassList(names, template, by_folder, None if spoken == plain else spoken)


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """Add their position to names that stand for several classes."""
    distinct = tuple(names)
    while shared := {name for name, times in Counter(distinct).items() if times > 1}:
        distinct = tuple(f"{name} ({place})" if name in shared else name for place, name in enumerate(distinct))
    return distinct


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
    place, content = _load(spec, plain_starts=("{}", "{c}"))
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
    list; where classes share a name, the written label says which is meant. By position only when
    the source carries written labels that fit the list, and no name that both sides know says
    otherwise. Folder names that do not match are an error, since their alphabetical order is an
    accident.

    Raises:
      DataError: unlabelled images, or names that do not match; the message shows both sides.
    """
    unlabelled = sum(label == UNKNOWN and not name for label, name in zip(source.labels.tolist(), source.classnames))
    if unlabelled:
        raise DataError(
            f"{source.name}: {unlabelled} of {len(source)} images have no label; "
            "give class folders or a manifest with labels, or select the labelled images"
        )
    positions_of = positions_by_name(class_list)
    pairs = list(zip(source.labels.tolist(), source.classnames))
    known = {name: positions_of(name) for name in dict.fromkeys(source.classnames)}
    meant = {(label, name): _meant(known[name], label, source.explicit_labels) for label, name in dict.fromkeys(pairs)}
    if all(position is not None for position in meant.values()):
        return np.array([meant[pair] for pair in pairs], np.int32), "by name"
    contradicted = [(label, name) for label, name in meant if known[name] and label not in known[name]]
    fits = all(UNKNOWN < label < len(class_list.names) for label, _ in meant)
    if source.explicit_labels and fits and not contradicted:
        return source.labels.astype(np.int32), "by position"
    raise DataError(_mismatch(source, class_list, known, contradicted, fits))


def normalise_name(name: str) -> str:
    """Reduce a class name to what its spellings have in common."""
    return " ".join(re.sub(r"[_\-]", " ", name.lower()).split())


def _load(spec: str | os.PathLike, plain_starts: tuple[str, ...] = ()) -> tuple[str, Any]:
    """Return what `FILE` or `FILE:KEY` holds, lines of text as a list, and what messages call it.

    Text that begins with one of `plain_starts` is lines, though it might pass for JSON.
    """
    path, key = split_key(spec)
    text = read_text(path)
    if not looks_like_json(text) or text.lstrip().startswith(plain_starts):
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


def _spoken(content: Any, place: str) -> tuple[tuple[str, ...], ...]:
    if not isinstance(content, list) or not content:
        raise DataError(f"{place}: holds no class names; write a JSON list, or one name per line")
    spoken = []
    for position, entry in enumerate(content):
        synonyms: list[Any] = entry if isinstance(entry, list) and entry else [entry]
        if not all(isinstance(name, str) and name.strip() for name in synonyms):
            raise DataError(f"{place}: class {position} is {entry!r}; write a name")
        spoken.append(tuple(name.strip() for name in synonyms))
    return tuple(spoken)


def _template(template: Any, place: str) -> str:
    if not isinstance(template, str) or not template.strip():
        raise DataError(f"{place}: {template!r} is not a template; write one such as 'a photo of a {{}}.'")
    filled = template.replace("{c}", "{}")
    if "{}" not in filled:
        raise DataError(f"{place}: the template {template!r} has no place for the class name; write {{}} there")
    if re.search(r"[{}]", filled.replace("{}", "")):
        raise DataError(f"{place}: the template {template!r} holds other braces than {{}}; remove them")
    return filled


def positions_by_name(class_list: ClassList) -> Callable[[str], set[int]]:
    """Index the classes by what people may call them; several classes may go by one name."""
    exact: dict[str, set[int]] = {}
    for position, (name, synonyms) in enumerate(zip(class_list.names, class_list.prompt_names)):
        for called in (name, *synonyms):
            exact.setdefault(called, set()).add(position)
    position_of = {name: position for position, name in enumerate(class_list.names)}
    for folder, name in (class_list.folders or {}).items():
        exact[folder] = {position_of[name]}
    loose: dict[str, set[int]] = {}
    for name, positions in exact.items():
        loose.setdefault(normalise_name(name), set()).update(positions)
    return lambda name: exact.get(name) or loose.get(normalise_name(name), set())


def _meant(positions: set[int], label: int, explicit: bool) -> int | None:
    """Choose among the classes that a name may mean; only a label that somebody wrote can decide."""
    if len(positions) == 1:
        return next(iter(positions))
    return label if explicit and label in positions else None


def _mismatch(
    source: ImageSource,
    class_list: ClassList,
    known: dict[str, set[int]],
    contradicted: list[tuple[int, str]],
    fits: bool,
) -> str:
    unmatched = [name for name, positions in known.items() if not positions]
    shared = [name for name, positions in known.items() if len(positions) > 1]
    fault = "are not in the class list" if unmatched else "stand for several classes of the list"
    message = f"{source.name}: class names {examples(unmatched or shared)} {fault} ({examples(class_list.names)})"
    if source.explicit_labels and not fits:
        message += f", and label {int(source.labels.max())} is beyond its {len(class_list.names)} classes"
    elif source.explicit_labels and contradicted:
        label, name = contradicted[0]
        position = " and ".join(map(str, sorted(known[name])))
        message += f", and its order is another ({name!r} has label {label}, but position {position})"
    return message + '; write the class file as a JSON object {"name in the data": "name in the prompt"}'
