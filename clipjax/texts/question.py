"""One thing to ask, what answers it, and how an answer becomes a record."""

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from PIL import Image

from clipjax.texts.record import Kind, TextRecord

Pictures = Callable[[], Sequence[Image.Image]]
"""Opens the images of a question when it is asked, not before."""


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked about which subjects. `prompt` and `fingerprint` name the wording (see `prompts.Prompt`).

    `given` are the texts inside the question, such as two captions; `pictures` opens the images that go with it.
    """

    kind: Kind
    subjects: tuple[str, ...]
    text: str
    prompt: str = ""
    fingerprint: str = ""
    sample: int = 0
    seed: int | None = None
    given: tuple[str, ...] = ()
    pictures: Pictures | None = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back: a text, or the reason why there is none.

    `error` says why the question got no answer; `rejected` names the rule by which it has none, whoever asks again.
    `tokens` is what it cost, where that is known, and `requests` how often it was asked.
    """

    question: Question
    text: str = ""
    error: str | None = None
    rejected: str | None = None
    tokens: int = 0
    requests: int = 1


class Writer(Protocol):
    """Whatever writes texts. `model` and `decoding` are recorded, and another of either asks anew."""

    @property
    def model(self) -> str:
        """The name of what writes."""
        ...

    @property
    def decoding(self) -> Mapping[str, Any]:
        """How answers are drawn."""
        ...

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """Yield an answer to each question as it comes, in any order; takes questions as it needs them.

        Closing the iterator abandons what is under way.
        """
        ...


def key_of(question: Question, writer: Writer) -> str:
    """Return the key under which the writer's answer is stored."""
    return _record(question, writer, error="").key


def record_of(answer: Answer, writer: Writer, *, text: str | None = None, rejected: str | None = None) -> TextRecord:
    """Make a record of an answer.

    `text` is the cleaned one, where that differs; `rejected` names the rule that finds it of no use.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    rejected = rejected or answer.rejected
    answered = answer.error is not None or rejected is not None or answer.text.strip()
    error = answer.error if answered else "the answer is empty"
    kept = answer.text if text is None else text
    useless = error is not None or rejected is not None
    raw = answer.text if answer.text.strip() and (useless or kept != answer.text) else None
    reasons = {"error": error, "rejected": rejected}
    return _record(answer.question, writer, text="" if useless else kept, raw=raw, time=now, **reasons)


def _record(question: Question, writer: Writer, **fields: Any) -> TextRecord:
    q = question
    # the wording as it was asked, with the class or captions in it: of other captions it is another question
    wording = hashlib.sha256(json.dumps([q.fingerprint, q.text, q.given]).encode()).hexdigest()[:12]
    asked = {"prompt": q.prompt, "prompt_fingerprint": wording, "sample": q.sample, "seed": q.seed}
    return TextRecord(q.kind, q.subjects, model=writer.model, decoding=dict(writer.decoding), **asked, **fields)
