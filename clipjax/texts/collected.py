"""The texts of a store as methods read them: by kind, and by what they are about."""

import dataclasses
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from clipjax.data.classes import normalise_name
from clipjax.data.image_names import ImageNames
from clipjax.errors import DataError
from clipjax.texts.record import Kind, TextRecord
from clipjax.texts.store import TextStore

Written = Mapping[tuple[str, ...], tuple[str, ...]]

_HINTS: Mapping[Kind, str] = {
    "caption": "image-caption",
    "group_caption": "group-caption",
    "class_description": "descriptions",
    "template": "templates",
    "difference": "difference-of-captions",
    "rewrite": "rewrite",
}


@dataclasses.dataclass(frozen=True)
class Texts:
    """Texts by kind, and by subject: an image id, a class name, a data set's name, or a pair of image ids.

    A group caption belongs to its anchor, the first of its subjects. Several texts of one subject keep
    the order in which they were written.
    """

    of_kind: Mapping[Kind, Written]

    @property
    def fingerprint(self) -> str:
        """A digest of all texts and what they are about."""
        listed = sorted((kind, sorted(written.items())) for kind, written in self.of_kind.items())
        return hashlib.sha256(json.dumps(listed).encode("utf-8", "surrogatepass")).hexdigest()

    def about(self, kind: Kind, names: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the texts of each of some images, which may be called by their file names alone, or classes.

        Names of classes match whatever their case, underscores, hyphens and spaces, as in files of descriptions.

        Raises:
          DataError: one of them has none; the message says how many, and how to have them written.
        """
        written = self.of_kind.get(kind, {})
        owners, texts = [subjects[0] for subjects in written], list(written.values())
        of_images = kind not in ("class_description", "template")
        place = ImageNames(owners).place if of_images else _names(owners)
        found = [place(name) for name in names]
        without = [name for name, place in zip(names, found) if place is None]
        if without:
            raise DataError(
                f"{len(without):,} of {len(names):,} have no {kind} in the texts, {without[0]!r} among them; "
                f"write them with `clipjax texts generate` (ask {_HINTS[kind]!r}), or import them"
            )
        if of_images and len(set(found)) < len(set(names)):
            raise DataError(
                f"several of the {len(names):,} have the same {kind}, since the texts name them without their folders; "
                "write the texts with the images' ids"
            )
        return [texts[place] for place in found if place is not None]

    def pairs(self) -> Written:
        """Return the differences of pairs of images, first minus second.

        Raises:
          DataError: there are none.
        """
        if not (written := self.of_kind.get("difference")):
            raise DataError(
                "the texts hold no differences; write them with `clipjax texts generate` "
                f"(ask {_HINTS['difference']!r})"
            )
        return written


def _names(owners: Sequence[str]) -> Callable[[str], int | None]:
    exact = {owner: place for place, owner in enumerate(owners)}
    alike = {normalise_name(owner): exact[owner] for owner in reversed(owners)}
    return lambda name: exact.get(name, alike.get(normalise_name(name)))


def read_texts(path: str | os.PathLike, *, models: Sequence[str] = ()) -> Texts:
    """Read all texts of a store, or those that some models wrote.

    Raises:
      DataError: it is no store, is damaged, or holds no such texts.
    """
    return collect(TextStore(path).records(), models=models, name=str(path))


def collect(records: Iterable[TextRecord], *, models: Sequence[str] = (), name: str = "the store") -> Texts:
    """Sort records by kind and subject; `models` keeps those of some writers only, `name` is for messages.

    Raises:
      DataError: there are none.
    """
    found: dict[Kind, dict[tuple[str, ...], list[str]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.text and (not models or record.model in models):
            subjects = record.subjects if record.kind == "difference" else record.subjects[:1]
            texts = record.text.splitlines() if record.kind == "template" else [record.text]
            found[record.kind][subjects] += [text.strip() for text in texts if text.strip()]
    if not found:
        of = f" of {' or '.join(models)}" if models else ""
        raise DataError(f"{name}: holds no texts{of}; generate or import some")
    return Texts({kind: {names: tuple(texts) for names, texts in of.items()} for kind, of in found.items()})
