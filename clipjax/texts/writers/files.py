"""Texts that were written earlier, as a writer: questions are answered from a store or a published file."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from clipjax.errors import DataError
from clipjax.texts.collected import Texts
from clipjax.texts.question import Answer, Question


@dataclasses.dataclass(frozen=True, eq=False)
class FileWriter:
    """Answers what `texts` hold: the n-th text of a subject to its n-th sample. `name` says where they come from."""

    texts: Texts
    name: str

    @property
    def model(self) -> str:
        """The name of the file, as it is recorded."""
        return f"clipjax/files {self.name}"

    @property
    def decoding(self) -> Mapping[str, Any]:
        """Which texts these are: others answer anew."""
        return self._decoding

    @functools.cached_property
    def _decoding(self) -> dict[str, Any]:
        return {"texts": self.texts.fingerprint[:12]}

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """Answer one question after the other; what the texts lack is an answer that says so."""
        for question in questions:
            try:
                if question.kind == "difference":
                    found = self.texts.pairs().get((question.subjects[0], question.subjects[1]), ())
                else:
                    (found,) = self.texts.about(question.kind, question.subjects[:1])
            except DataError:
                found = ()
            if question.sample < len(found):
                yield Answer(question, found[question.sample])
            else:
                yield Answer(question, error=f"{self.name} holds no such {question.kind}")
