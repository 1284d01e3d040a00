"""Params trees by the names and shapes of their leaves, and how a wrong one is refused."""

from collections.abc import Mapping
from typing import Any

import jax

from clipjax.errors import ConfigError

Params = dict[str, Any]
Shapes = Mapping[str, tuple[int, ...]]


def named_shapes(tree: Params) -> dict[str, tuple[int, ...]]:
    """List the shape of each leaf under its path, keys joined with slashes."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}


def compare_shapes(given: Shapes, expected: Shapes) -> None:
    """Compare paths and shapes.

    Raises:
      ConfigError: one is missing, unexpected or another; the message names it.
    """
    for name in sorted(expected.keys() | given.keys()):
        if name not in given:
            raise ConfigError(f"params lack {name} {expected[name]}")
        if name not in expected:
            raise ConfigError(f"params have {name:.200} {given[name]}, which this model does not know")
        if tuple(given[name]) != tuple(expected[name]):
            raise ConfigError(f"params have {name} {given[name]}; this model needs {expected[name]}")
