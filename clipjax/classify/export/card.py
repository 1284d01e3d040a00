"""The model card: what the export is, from which data, with which numbers, and a few lines that use it."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PAGES = Path(__file__).parent / "pages"
_NAMES_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a card says beside how to use the model; what is None or empty it calls unknown.

    `before` and `after` are the documents of an accuracy report; `settings` are the method's. `data` says in words
    which images were learnt from, `labels` which labels of them.
    """

    method: str = ""
    base: str = ""
    data: str = ""
    labels: str = ""
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    command: str = ""
    license: str | None = None
    data_license: str | None = None


def model_card(
    facts: Facts,
    class_names: Sequence[str],
    *,
    format: str,
    features: str = "embedding",
    members: int = 1,
    remark: str = "",
) -> str:
    """Write the card of an export in Markdown.

    Args:
      features: what the head reads, see `Classifier`.
      members: how many models vote; each then has a directory of its own.
      remark: a sentence about what is not the same there.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_PAGES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters |= {"code": _code, "block": _block, "scalar": json.dumps}
    shown = [_code(name) for name in class_names[:_NAMES_SHOWN]]
    more = len(class_names) - len(shown)
    return environment.get_template("card.md").render(
        facts=facts,
        classes=len(class_names),
        names=", ".join(shown) + (f" and {more} more" if more else ""),
        settings=json.dumps(dict(facts.settings), indent=1, default=str),
        measures=(("top-1 %", "top1"), ("top-5 %", "top5"), ("mean per class %", "mean_per_class"), ("ECE %", "ece")),
        format=format,
        features=features,
        members=members,
        remark=remark,
    )


def crop_remark(preprocessing: str, format: str) -> str:
    """Say where a library cuts images otherwise than the model was measured with; empty where it does not."""
    if (preprocessing, format) == ("openai", "huggingface"):
        return "transformers cuts out the middle of an image by another rule than OpenAI's, half a pixel apart at most."
    if (preprocessing, format) == ("transformers", "openclip"):
        return (
            "OpenCLIP cuts out the middle of an image by another rule than transformers', half a pixel apart at most."
        )
    return ""


def _block(text: str) -> str:
    """Write lines that anybody may have chosen so that Markdown shows them as they are."""
    fence = "`" * max(3, 1 + _longest_ticks(text))
    return f"{fence}text\n{text}\n{fence}"


def _longest_ticks(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _code(text: object) -> str:
    """Write text that anybody may have chosen so that Markdown shows it as it is, on one line."""
    line = " ".join(str(text).split())
    ticks = "`" * (1 + _longest_ticks(line))
    pad = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"
