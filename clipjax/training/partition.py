"""Split a params tree into what is trained and what is not, by patterns on the paths, and join it again."""

import re
from collections.abc import Sequence
from typing import Any

import jax

from clipjax.errors import ConfigError
from clipjax.parallel.rules import path_name

STATISTICS = r"bn\d?/(mean|var)$|downsample_bn/(mean|var)$"
"""The running statistics of batch norm, which no gradient should move."""


def split(params: dict[str, Any], patterns: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the leaves whose path some pattern matches, and the others.

    Statistics of batch norm are never among the first.

    Raises:
      ConfigError: a pattern matches nothing or is no regular expression, or no leaf is left to train.
    """
    for pattern in patterns:
        check_pattern("trainable", pattern)
    trainable: dict[str, Any] = {}
    frozen: dict[str, Any] = {}
    used: set[str] = set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = path_name(path)
        matching = [pattern for pattern in patterns if re.search(pattern, name)]
        used.update(matching)
        _put(trainable if matching and not re.search(STATISTICS, name) else frozen, name, leaf)
    unused = [pattern for pattern in patterns if pattern not in used]
    if unused:
        raise ConfigError(f"the pattern {unused[0]!r} matches no parameter; `clipjax inspect` lists their paths")
    if not trainable:
        raise ConfigError("no parameter is left to train; give a pattern such as 'vision/'")
    return trainable, frozen


def check_pattern(setting: str, pattern: str) -> None:
    """Refuse what is no regular expression.

    Raises:
      ConfigError: it is none; the message names the setting.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{setting}: the pattern {pattern!r} is no regular expression ({error})") from None


def join(trainable: dict[str, Any], frozen: dict[str, Any]) -> dict[str, Any]:
    """Put back together what `split` took apart."""
    joined = dict(frozen)
    for name, value in trainable.items():
        joined[name] = join(value, frozen[name]) if isinstance(value, dict) and name in frozen else value
    return joined


def _put(tree: dict[str, Any], name: str, leaf: Any) -> None:
    *folders, last = name.split("/")
    for folder in folders:
        tree = tree.setdefault(folder, {})
    tree[last] = leaf
