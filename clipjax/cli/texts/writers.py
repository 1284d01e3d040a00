"""From settings to a writer."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clipjax.errors import ConfigError

if TYPE_CHECKING:
    from clipjax.cli.texts.clip import TextClip
    from clipjax.progress import Progress
    from clipjax.texts.question import Writer
    from clipjax.texts.writers.retrieval import RetrievalWriter


@dataclasses.dataclass(frozen=True)
class WriterSettings:
    """Which `writer` answers; of the others only its own settings count.

    `chat` holds those of `ChatServer`, `local` those of `LocalModel`, `retrieval` the `weights` of a CLIP and
    a file of `phrases`, `grammar` files of `attributes` of classes and of `images` ({name: [phrases]}), `files`
    a `path`: a store or a published file.
    """

    writer: Literal["grammar", "retrieval", "chat", "local", "files"] = "grammar"
    chat: Any = None
    local: Any = None
    retrieval: Any = None
    grammar: Any = None
    files: Any = None

    @classmethod
    def names(cls) -> frozenset[str]:
        """The names of the settings."""
        return frozenset(field.name for field in dataclasses.fields(cls))


@dataclasses.dataclass(frozen=True)
class RetrievalFiles:
    """A CLIP, a file of the phrases it may use, and how (see `RetrievalWriter`)."""

    weights: str
    phrases: str
    count: int = 3
    commonness: float = 0.5
    batch_size: int = 32


@dataclasses.dataclass(frozen=True)
class GrammarFiles:
    """What is known of the classes, and of the images: {name: [phrases]} each; the `aspects` to compare images in."""

    attributes: str | None = None
    images: str | None = None
    aspects: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class EarlierFile:
    """Texts that were written earlier."""

    path: str


def open_writer(settings: WriterSettings, store: str, progress: "Progress") -> "Writer":
    """Build the writer that the settings name.

    Raises:
      ConfigError: its own settings are missing, unknown or of a wrong type.
      DataError, CheckpointError: its files cannot be read.
    """
    own = getattr(settings, settings.writer)
    if own is None:
        own = {}
    if not isinstance(own, Mapping):
        name = settings.writer
        raise ConfigError(f"the setting {name} is {own!r}; give its parts, as in {name}.NAME=VALUE")
    given = {name: value for name, value in own.items() if value is not None}
    open_ = {"grammar": _grammar, "retrieval": _retrieval, "chat": _chat, "local": _local, "files": _files}[
        settings.writer
    ]
    return open_(given, store, progress)


def _chat(given: Mapping[str, Any], store: str, progress: "Progress") -> "Writer":
    from clipjax.texts.writers.chat_server import ChatServer
    from clipjax.training.settings import from_mapping

    return from_mapping(ChatServer, given, "chat.")


def _local(given: Mapping[str, Any], store: str, progress: "Progress") -> "Writer":
    from clipjax.texts.writers.local import LocalModel
    from clipjax.training.settings import from_mapping

    return from_mapping(LocalModel, given, "local.")


def _grammar(given: Mapping[str, Any], store: str, progress: "Progress") -> "Writer":
    from clipjax.texts.importing import import_texts
    from clipjax.texts.writers.grammar import GrammarWriter
    from clipjax.training.settings import from_mapping

    files = from_mapping(GrammarFiles, given, "grammar.")
    phrases: list[dict[str, list[str]]] = [{}, {}]
    for place, known in zip((files.attributes, files.images), phrases):
        for record in import_texts(place, kind="class_description") if place is not None else ():
            known.setdefault(record.subjects[0], []).append(record.text)
    return GrammarWriter(*phrases, aspects=files.aspects)


def _files(given: Mapping[str, Any], store: str, progress: "Progress") -> "Writer":
    from clipjax.texts.collected import collect, read_texts
    from clipjax.texts.importing import import_texts
    from clipjax.texts.store import is_store
    from clipjax.texts.writers.files import FileWriter
    from clipjax.training.settings import from_mapping

    path = from_mapping(EarlierFile, given, "files.").path
    texts = read_texts(path) if is_store(path) else collect(import_texts(path), name=path)
    return FileWriter(texts, Path(path).name)


def _retrieval(given: Mapping[str, Any], store: str, progress: "Progress") -> "Writer":
    from clipjax.cli.texts.clip import TextClip
    from clipjax.texts.phrases import read_phrases
    from clipjax.training.settings import from_mapping

    files = from_mapping(RetrievalFiles, given, "retrieval.")
    phrases = read_phrases(files.phrases)
    clip = TextClip(files.weights, store, progress, batch_size=files.batch_size)
    options = {"count": files.count, "commonness": files.commonness, "batch_size": files.batch_size}
    return retrieval_writer(clip, phrases, **options)


def retrieval_writer(clip: "TextClip", phrases: Sequence[str], **options: Any) -> "RetrievalWriter":
    """Build a writer of what a CLIP finds in a list of phrases; `options` are those of `RetrievalWriter`."""
    import numpy as np

    from clipjax.texts.english import with_article
    from clipjax.texts.writers.retrieval import RetrievalWriter

    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return RetrievalWriter(
        phrases,
        unit(clip.embed_texts([f"a photo of {with_article(phrase)}" for phrase in phrases])),
        lambda pictures: unit(clip.embed_pictures(pictures)),
        clip.fingerprint[:12],
        float(np.exp(clip.params["logit_scale"])),
        **options,
    )
