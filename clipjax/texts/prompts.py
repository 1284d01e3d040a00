"""What is asked of a model: questions with placeholders, and what each data set puts in their place.

The words lie in `prompts.json`; a file of the same layout adds to them or replaces them. Image and
group captions follow LatteCLIP (arXiv 2410.08211), class descriptions CuPL (arXiv 2209.03320),
differences PC-CLIP (arXiv 2409.09721), in words of our own.
"""

import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from clipjax.data.textfile import parse_json, read_text
from clipjax.errors import ConfigError
from clipjax.texts.record import KINDS, Kind

_PLACEHOLDER = re.compile(r"\{([a-z_][a-z_ ]*)\}")  # not {}, which templates keep
_VALUES = ("subject", "subjects", "photo", "photos")
_VOWELS = "aeiou"


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A question. `{class}` in its text stands for a class's name, `{a class}` for it with its article."""

    id: str
    kind: Kind
    text: str

    @property
    def fingerprint(self) -> str:
        """A digest of the wording."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]

    @property
    def placeholders(self) -> frozenset[str]:
        """What has to be filled in before it can be asked."""
        return frozenset("class" if name == "a class" else name for name in _PLACEHOLDER.findall(self.text))

    def fill(self, **values: str) -> str:
        """Write the question out.

        Raises:
          ConfigError: a value is missing, or has no place in the text.
        """
        wrong = sorted(self.placeholders ^ values.keys())
        if wrong:
            what = "has no place for" if wrong[0] in values else "needs a value for"
            raise ConfigError(f"the prompt {self.id!r} {what} {{{wrong[0]}}}; its text is {self.text!r}")
        return _replace(self.text, values)


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Questions by id, and for each data set the values and the questions of its class descriptions."""

    questions: Mapping[str, Prompt]
    datasets: Mapping[str, Mapping[str, Any]]

    def ask(self, question: str, dataset: str = "default") -> Prompt:
        """Return a question in the words of a data set; what differs from subject to subject stays open.

        Raises:
          ConfigError: no such question or data set.
        """
        if question not in self.questions:
            raise ConfigError(f"no question {question!r}; known are {', '.join(self.questions)}")
        values = {name: text for name, text in self._of(dataset).items() if name in _VALUES}
        prompt = self.questions[question]
        return dataclasses.replace(prompt, text=_replace(prompt.text, values))

    def descriptions(self, dataset: str = "default") -> tuple[Prompt, ...]:
        """Return all questions about the classes of a data set.

        Raises:
          ConfigError: no such data set.
        """
        return tuple(self.ask(name, dataset) for name in self._of(dataset)["descriptions"])

    def _of(self, dataset: str) -> dict[str, Any]:
        if dataset not in self.datasets:
            raise ConfigError(f"no data set {dataset!r} in the prompts; known are {', '.join(self.datasets)}")
        return {**self.datasets["default"], **self.datasets[dataset]}


def read_prompts(path: str | os.PathLike | None = None) -> Prompts:
    """Read the prompts that ship with clipjax, with those of a file of the same layout on top.

    Raises:
      ConfigError: another layout; the message says where.
    """
    own = files("clipjax.texts").joinpath("prompts.json")
    content = _checked(parse_json(own.read_text(encoding="utf-8"), "prompts.json"), "prompts.json")
    if path is not None:
        more = _checked(parse_json(read_text(path), str(path)), str(path))
        content = {
            "questions": content["questions"] | more["questions"],
            "datasets": content["datasets"]
            | {name: content["datasets"].get(name, {}) | values for name, values in more["datasets"].items()},
        }
    questions = {name: Prompt(name, **fields) for name, fields in content["questions"].items()}
    for name, values in content["datasets"].items():
        if unknown := [question for question in values.get("descriptions", ()) if question not in questions]:
            raise ConfigError(f"{path}: the data set {name!r} asks {unknown[0]!r}, which is none of the questions")
    return Prompts(questions, content["datasets"])


def _replace(text: str, values: Mapping[str, str]) -> str:
    def value(match: re.Match) -> str:
        name = match.group(1)
        if name == "a class" and "class" in values:
            article = "an" if values["class"][:1].lower() in _VOWELS else "a"
            return f"{article} {values['class']}"
        return values.get(name, match.group(0))

    return _PLACEHOLDER.sub(value, text)


def _checked(content: Any, name: str) -> dict[str, dict[str, dict[str, Any]]]:
    if not isinstance(content, dict) or not content.keys() <= {"questions", "datasets"}:
        raise ConfigError(f'{name}: not a file of prompts; write {{"questions": {{...}}, "datasets": {{...}}}}')
    content = {"questions": {}, "datasets": {}} | content
    for part in ("questions", "datasets"):
        if not isinstance(content[part], dict):
            raise ConfigError(f"{name}: its {part} are no JSON object of names")
    for id, fields in content["questions"].items():
        if not isinstance(fields, dict) or fields.keys() != {"kind", "text"} or fields["kind"] not in KINDS:
            raise ConfigError(f"{name}: the question {id!r} needs a kind ({', '.join(KINDS)}) and a text")
        if not isinstance(fields["text"], str) or not fields["text"].strip():
            raise ConfigError(f"{name}: the question {id!r} has no text")
        if stray := re.search(r"\{(?!\})[^{}]*\}?|(?<!\{)\}", _PLACEHOLDER.sub("", fields["text"])):
            raise ConfigError(
                f"{name}: the question {id!r} holds {stray.group()!r}, which is no placeholder; write them as {{class}}"
            )
    for dataset, values in content["datasets"].items():
        if not isinstance(values, dict) or not values.keys() <= {*_VALUES, "descriptions"}:
            raise ConfigError(
                f"{name}: the data set {dataset!r} holds other values than {', '.join(_VALUES)}, descriptions"
            )
        if not all(isinstance(values[key], str) for key in values.keys() - {"descriptions"}):
            raise ConfigError(f"{name}: the data set {dataset!r} has a value that is no text")
        listed = values.get("descriptions", [])
        if not isinstance(listed, list) or not all(isinstance(question, str) for question in listed):
            raise ConfigError(f"{name}: the descriptions of the data set {dataset!r} are no list of questions")
    return content
