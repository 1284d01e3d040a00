"""What a store holds, in numbers: how many texts of which kind, how long, how alike, what failed."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from clipjax.texts.checks import faults
from clipjax.texts.record import KINDS, TextRecord

LENGTHS = (5, 50, 95, 100)
"""The percentiles of the number of words that are told."""

_MOST = 15


@dataclasses.dataclass(frozen=True)
class KindStatistics:
    """The texts of one kind.

    `words` holds the number of words at each percentile of `LENGTHS`, `histogram` how many texts have
    how many words. `repeated` counts the texts that are equal to an earlier one, `often` are the most
    frequent of those. `faulty` texts break a rule of `checks`, `faults` says which. Of the questions
    without a text, `rejected` got an answer of no use and `failed` none; `errors` counts why.
    """

    kind: str
    texts: int
    subjects: int
    rejected: int
    failed: int
    words: Mapping[int, int]
    histogram: Mapping[int, int]
    repeated: int
    often: Sequence[tuple[str, int]]
    frequent_words: Sequence[tuple[str, int]]
    models: Mapping[str, int]
    prompts: Mapping[str, int]
    faulty: int
    faults: Mapping[str, int]
    errors: Mapping[str, int]


class _Counts:
    def __init__(self) -> None:
        self.subjects: set[tuple[str, ...]] = set()
        self.failed = self.rejected = self.faulty = 0
        self.lengths: Counter[int] = Counter()
        self.texts, self.words = Counter[str](), Counter[str]()
        self.models, self.prompts = Counter[str](), Counter[str]()
        self.faults, self.errors = Counter[str](), Counter[str]()

    def add(self, record: TextRecord) -> None:
        if reason := record.error or record.rejected:
            self.failed += record.failed
            self.rejected += not record.failed
            self.errors[reason.replace("_", " ")] += 1
            return
        words = re.findall(r"[\w'-]+", record.text.lower())
        self.subjects.add(record.subjects)
        self.lengths[len(words)] += 1
        self.texts[record.text] += 1
        self.words.update(word for word in words if len(word) > 3)
        self.models[record.model or "unknown"] += 1
        self.prompts[record.prompt or "unknown"] += 1
        found = faults(record)
        self.faulty += bool(found)
        self.faults.update(found)


def statistics(records: Iterable[TextRecord]) -> list[KindStatistics]:
    """Count answered and failed records, kind by kind in the order of `KINDS`."""
    counts: dict[str, _Counts] = {}
    for record in records:
        counts.setdefault(record.kind, _Counts()).add(record)
    return [_finished(kind, counts[kind]) for kind in KINDS if kind in counts]


def _finished(kind: str, c: _Counts) -> KindStatistics:
    total = sum(c.texts.values())
    lengths = np.repeat(*np.array(sorted(c.lengths.items())).T) if total else np.zeros(1, int)
    return KindStatistics(
        kind=kind,
        texts=total,
        subjects=len(c.subjects),
        rejected=c.rejected,
        failed=c.failed,
        words={q: int(np.percentile(lengths, q, method="nearest")) for q in LENGTHS},
        histogram=dict(sorted(c.lengths.items())),
        repeated=total - len(c.texts),
        often=[(text, count) for text, count in c.texts.most_common(_MOST) if count > 1],
        frequent_words=c.words.most_common(_MOST),
        models=dict(c.models.most_common()),
        prompts=dict(c.prompts.most_common()),
        faulty=c.faulty,
        faults=dict(c.faults.most_common()),
        errors=dict(c.errors.most_common(_MOST)),
    )
