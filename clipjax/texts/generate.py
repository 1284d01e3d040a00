"""Ask what has no answer yet, and store each answer as it comes."""

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import cast

from clipjax.progress import Progress, silent
from clipjax.texts.question import Answer, Question, Writer, key_of, record_of
from clipjax.texts.record import Kind, TextRecord
from clipjax.texts.store import TextStore

Clean = Callable[[str], tuple[str | None, str | None]]
"""Turns an answer into (the text to keep, None), or (None, the reason why it is of no use)."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a call may cost at most; None where there is no limit. What is under way is still finished."""

    requests: int | None = None
    tokens: int | None = None

    def spent(self, requests: int, tokens: int) -> str | None:
        """Say which limit is reached, if one is."""
        for name, used in (("requests", requests), ("tokens", tokens)):
            limit = getattr(self, name)
            if limit is not None and used >= limit:
                return f"the budget of {limit:,} {name} is spent"
        return None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a call of `generate` came to. `stopped` says why questions are left, if any are."""

    known: int
    answered: int
    failed: int
    tokens: int
    stopped: str | None = None


def generate(
    store: TextStore,
    writer: Writer,
    questions: Iterable[Question],
    *,
    clean: Mapping[Kind, Clean] = MappingProxyType({}),
    budget: Budget = Budget(),
    progress: Progress = silent,
) -> Outcome:
    """Ask a writer all that the store has no answer to, those that failed before among them.

    Each answer is stored before the next one is awaited: a run that is killed loses what is under
    way, and the same call goes on where it was. `clean` holds what is done with the answers of a kind.

    Raises:
      OutputError: an answer cannot be stored; those before it are.
      ClipjaxError: the writer cannot work at all.
    """
    questions = list(questions)
    pending = [question for question in questions if key_of(question, writer) not in store]
    answered = failed = tokens = asked = 0
    stopped: str | None = None

    def affordable() -> Iterator[Question]:
        nonlocal asked, stopped
        for question in pending:
            stopped = budget.spent(asked, tokens)
            if stopped is not None:
                return
            asked += 1
            yield question

    def so_far() -> str:
        spent = f", {tokens:,} tokens" if tokens else ""
        return f"writing texts{spent}" + (f", {failed:,} failed" if failed else "")

    answers = writer.answers(affordable())
    with contextlib.closing(cast(Generator[Answer, None, None], answers)):
        for answer in progress(answers, total=len(pending), label=so_far, unit="texts"):
            record = _record(answer, writer, clean.get(answer.question.kind))
            store.append([record])
            tokens += answer.tokens
            answered += not record.failed
            failed += record.failed
    return Outcome(len(questions) - len(pending), answered, failed, tokens, stopped)


def _record(answer: Answer, writer: Writer, clean: Clean | None) -> TextRecord:
    if answer.error is None and not answer.text.strip():
        return record_of(answer, writer, error="the answer is empty")
    if answer.error is not None or clean is None:
        return record_of(answer, writer, text=_one_line(answer.text) if answer.question.kind != "template" else None)
    text, reason = clean(answer.text)
    return record_of(answer, writer, text=text, error=reason)


def _one_line(text: str) -> str:
    return " ".join(text.split())
