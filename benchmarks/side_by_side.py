"""The measurements that compare clipjax with PyTorch in one run, and how each is told in a table.

Not here: those that compare clipjax with itself, those of methods on data, and those for accelerators, which nobody
has run; `docs/benchmarks.md` has their commands.
"""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SLOWER = "PyTorch's time / clipjax's"
LONGER = "clipjax's time / PyTorch's"


@dataclass(frozen=True)
class Measurement:
    """A command and what is read in the JSON lines that it prints.

    `figures` has a path into a line ("transformers.largest_difference") and what is found there; of several numbers
    the largest. `title` is the line's own name for what it is about, where there is more than one line.
    """

    name: str
    module: str
    options: str
    minutes: int
    needs: tuple[str, ...]
    figures: Mapping[str, str]
    title: str | None = None

    @property
    def command(self) -> str:
        """The command as one types it."""
        return f"python -m {self.module} {self.options}".strip()

    @property
    def arguments(self) -> list[str]:
        """The command's words behind `python`."""
        return ["-m", self.module, *shlex.split(self.options)]

    def numbers(self, lines: Iterable[Mapping[str, Any]]) -> dict[str, float]:
        """Return what is found in printed lines, by its description."""
        found = {}
        for line in lines:
            prefix = f"{line[self.title]}: " if self.title and self.title in line else ""
            for path, description in self.figures.items():
                values = _leaves(_at(line, path))
                if values:
                    found[prefix + description] = max(values)
        return found


def _at(line: Any, path: str) -> Any:
    for name in path.split("."):
        line = line.get(name) if isinstance(line, Mapping) else None
    return line


def _leaves(value: Any) -> list[float]:
    if isinstance(value, Mapping):
        return [leaf for inner in value.values() for leaf in _leaves(inner)]
    return [float(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


_LATTECLIP = {
    "overhead": "overhead over the necessary passes",
    "ratio_published": f"{SLOWER}, as published",
    "ratio_deduplicated": f"{SLOWER}, deduplicated and trimmed",
}

MEASUREMENTS = (
    Measurement(
        "encode",
        "benchmarks.encode",
        "--model ViT-B/32 --batch 32 --rounds 3",
        4,
        ("torch",),
        {"ratio": SLOWER, "share_of_matmul": "share of XLA's matmul rate", "relative_difference": "largest difference"},
        title="benchmark",
    ),
    Measurement(
        "load",
        "benchmarks.load",
        "",
        3,
        ("torch",),
        {
            "ratio": LONGER,
            "ratio_copied": f"{LONGER} with one copy",
            "clipjax_memory": "clipjax's peak memory / params",
            "transformers_copied_memory": "PyTorch's peak memory with one copy / params",
        },
    ),
    Measurement(
        "full_size",
        "benchmarks.full_size",
        "",
        10,
        ("torch",),
        {"errors": "largest relative difference"},
        title="model",
    ),
    Measurement("train", "benchmarks.train", "", 4, ("torch",), {"ratio": SLOWER}),
    Measurement(
        "coft",
        "benchmarks.coft",
        "--batch 32 --rounds 2 --phases prompts tune contrast",
        6,
        ("torch",),
        {"ratio": SLOWER, "first_loss_difference": "difference of the first loss"},
        title="benchmark",
    ),
    Measurement(
        "pcclip",
        "benchmarks.pcclip",
        "--only step",
        5,
        ("torch",),
        {
            "ratio": SLOWER,
            "over_text_tower": "overhead over a text tower's step",
            "first_loss_difference": "difference of the first loss",
        },
    ),
    Measurement("latteclip-10", "benchmarks.latteclip", "--classes 10", 14, ("torch",), _LATTECLIP),
    Measurement("latteclip-100", "benchmarks.latteclip", "--classes 100 --rounds 2", 12, ("torch",), _LATTECLIP),
    Measurement(
        "exported",
        "benchmarks.exported",
        "",
        3,
        ("torch", "flatbuffers", "testbed"),
        {
            "transformers.largest_difference": "transformers: largest difference of a cosine",
            "transformers.other_best_class": "transformers: images with another best class",
            "stablehlo.largest_difference": "StableHLO: largest difference of a cosine",
            "stablehlo.other_best_class": "StableHLO: images with another best class",
        },
    ),
)
