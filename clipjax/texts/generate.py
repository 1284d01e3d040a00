"""Ask what has no answer yet, and store each answer as it comes."""

import collections
import contextlib
import dataclasses
import random
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import cast

from clipjax.errors import ConfigError
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

    def __post_init__(self):
        for name in ("requests", "tokens"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise ConfigError(f"budget.{name} is {limit}; it must be at least 1, or left out")

    def spent(self, requests: int, tokens: int) -> str | None:
        """Say which limit is reached, if one is."""
        for name, used in (("requests", requests), ("tokens", tokens)):
            limit = getattr(self, name)
            if limit is not None and used >= limit:
                return f"the budget of {limit:,} {name} is spent"
        return None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a call of `generate` came to.

    `known` questions had an answer; `rejected` answers are of no use; `failed` questions got none. `stopped`
    says why questions are left, if any are.
    """

    known: int
    answered: int
    rejected: int
    failed: int
    requests: int
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
    asked = {key_of(question, writer): question for question in questions}
    # those that failed before come last: they are the likeliest to fail again
    pending = collections.deque(sorted((key for key in asked if key not in store), key=store.asked))
    known, open_questions = len(asked) - len(pending), len(pending)
    counts: collections.Counter[str] = collections.Counter()
    taken = 0
    stopped: str | None = None

    def move_on() -> None:
        # another run writes here, and has answered this: go on elsewhere, or both ask the same all along
        pending.rotate(random.randrange(len(pending) + 1))

    def affordable() -> Iterator[Question]:
        nonlocal stopped, taken
        while pending:
            stopped = budget.spent(taken + counts["repeated"], counts["tokens"])
            if stopped is not None:
                return
            key = pending.popleft()
            if key in store:
                move_on()
                continue
            taken += 1
            yield asked[key]

    def so_far() -> str:
        spent = f", {counts['tokens']:,} tokens" if counts["tokens"] else ""
        return f"writing texts{spent}" + (f", {counts['failed']:,} failed" if counts["failed"] else "")

    answers = writer.answers(affordable())
    with contextlib.closing(cast(Generator[Answer, None, None], answers)):
        for answer in progress(answers, total=open_questions, label=so_far, unit="texts"):
            record = _record(answer, writer, clean.get(answer.question.kind))
            if not store.append([record]):
                move_on()
            state = "failed" if record.failed else "rejected" if record.rejected else "answered"
            counts.update({state: 1, "tokens": answer.tokens, "repeated": answer.requests - 1})
    states = {name: counts[name] for name in ("answered", "rejected", "failed", "tokens")}
    return Outcome(known, **states, requests=taken + counts["repeated"], stopped=stopped)


def _record(answer: Answer, writer: Writer, clean: Clean | None) -> TextRecord:
    if answer.error is not None or clean is None or not answer.text.strip():
        return record_of(answer, writer, text=_one_line(answer.text) if answer.question.kind != "template" else None)
    text, rule = clean(answer.text)
    return record_of(answer, writer, text=text, rejected=rule)


def _one_line(text: str) -> str:
    return " ".join(text.split())
