"""One text that a model, a program or a person wrote about images or classes, and how it came about."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, get_args

from clipjax.errors import DataError

Kind = Literal["caption", "group_caption", "class_description", "template", "difference", "rewrite"]
KINDS: tuple[Kind, ...] = get_args(Kind)

KEY_LENGTH = 16
"""Hexadecimal digits of a key: 64 bits, enough for a hundred million records."""

_PAIRS = ("difference",)


@dataclasses.dataclass(frozen=True)
class TextRecord:
    """An answer to one question about one subject.

    `subjects` are image ids, or the class name; a difference has two, first minus second, in order.
    `prompt` names the question and `prompt_fingerprint` digests its wording. `sample` counts the answers
    to the same question. `raw` is the answer before it was cleaned, where that changed it. A question
    that got no answer has an `error` and no text; of an answer that is of no use `rejected` names the
    rule, and it has no text either.
    """

    kind: Kind
    subjects: tuple[str, ...]
    text: str = ""
    model: str = ""
    prompt: str = ""
    prompt_fingerprint: str = ""
    decoding: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int | None = None
    sample: int = 0
    time: str = ""
    raw: str | None = None
    error: str | None = None
    rejected: str | None = None

    def __post_init__(self):
        """Refuse what no reader could make sense of.

        Raises:
          DataError: an unknown kind, no subject, no text and no reason for it, or values of other types.
        """
        if self.kind not in KINDS:
            raise DataError(f"the kind {self.kind!r} of a text is not one of {', '.join(KINDS)}")
        if not self.subjects or not all(isinstance(name, str) and name for name in self.subjects):
            raise DataError(f"a {self.kind} has the subjects {self.subjects!r}; name what it is about")
        if self.kind in _PAIRS and len(self.subjects) != 2:
            raise DataError(f"a {self.kind} is about two subjects in order, not {len(self.subjects)}")
        for name in ("text", "model", "prompt", "prompt_fingerprint", "time"):
            if not isinstance(getattr(self, name), str):
                raise DataError(f"a {self.kind} of {self.subjects[0]!r} has the {name} {getattr(self, name)!r}")
        if self.error is None and self.rejected is None and not self.text.strip():
            raise DataError(f"a {self.kind} of {self.subjects[0]!r} is empty; give a text, or an error that says why")

    @property
    def key(self) -> str:
        """Digest the question, not the answer: records of one key answer the same question."""
        question = [self.kind, self.subjects, self.model, self.prompt, self.prompt_fingerprint]
        question += [sorted(self.decoding.items()), self.seed, self.sample]
        return hashlib.sha256(json.dumps(question).encode()).hexdigest()[:KEY_LENGTH]

    @property
    def images(self) -> tuple[str, ...]:
        """The ids of the images it is about; a group's anchor need not be one of its group."""
        if self.kind in ("class_description", "template"):
            return ()
        return self.subjects[1:] if self.kind == "group_caption" and len(self.subjects) > 1 else self.subjects

    @property
    def failed(self) -> bool:
        """Whether the question got no answer."""
        return self.error is not None

    def line(self) -> bytes:
        """Write the record as one line of JSON; the key comes first, then why there is no text, if there is none."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        reasons = {name: fields.pop(name) for name in ("error", "rejected")}
        first = {"key": self.key} | {name: reason for name, reason in reasons.items() if reason is not None}
        given = {
            name: value
            for name, value in fields.items()
            if value not in ("", None, {}) and (name, value) != ("sample", 0)
        }
        return json.dumps(first | given, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def parse_record(line: bytes) -> TextRecord:
    """Read what `TextRecord.line` wrote, perhaps corrected by hand.

    Raises:
      DataError: not such a line, or one whose key belongs to another question.
    """
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise DataError("is not a JSON object")
    key = content.pop("key", None)
    known = {field.name for field in dataclasses.fields(TextRecord)}
    if unknown := sorted(content.keys() - known):
        raise DataError(f"has the unknown field {unknown[0]!r}")
    subjects = content.get("subjects")
    if not isinstance(subjects, list) or not isinstance(content.get("decoding", {}), dict):
        raise DataError(
            "has no list of subjects" if not isinstance(subjects, list) else "has a decoding that is no object"
        )
    try:
        record = TextRecord(**{**content, "subjects": tuple(subjects)})
    except TypeError as error:
        raise DataError(f"lacks a field ({error})") from None
    if key != record.key:
        raise DataError("has a key that belongs to another question; change texts, not what they are about")
    return record
