"""Which piece of which array lies on which device: patterns on the path of a leaf, first match wins.

FSDP = ((r"/kernel$", P(None, "fsdp")), (r"", P()))
"""

import re
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clipjax.errors import ConfigError

Rules = tuple[tuple[str, P], ...]

REPLICATED: Rules = ((r"", P()),)

FSDP: Rules = (
    (r"blocks/.*(query|key|value|fc1)/kernel$", P(None, "fsdp", None)),
    (r"blocks/.*(out|fc2)/kernel$", P(None, None, "fsdp")),
    (r"(^|/)token_embedding$", P(None, "fsdp")),
    (r"patch_embedding/kernel$", P(None, None, None, "fsdp")),
    (r"(image|text)_projection/kernel$", P("fsdp", None)),
    (r"stage.*conv\d/kernel$", P(None, None, None, "fsdp")),
    (r"", P()),
)
"""Split the large matrices of CLIP over `fsdp`; norms, biases and scalars are on every device.

The optimiser's moments have the paths of their params as suffixes, hence the same rules.
"""


def path_name(path: tuple[Any, ...]) -> str:
    """Write a pytree path as `vision/blocks/mlp/fc1/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def shardings(mesh: Mesh, tree: Any, rules: Rules) -> Any:
    """Return the sharding of each leaf of a tree of arrays or shapes.

    Raises:
      ConfigError: no rule fits a leaf, or an axis of the mesh does not divide a dimension.
    """
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _sharding(mesh, path_name(path), leaf, rules), tree)


def _sharding(mesh: Mesh, name: str, leaf: Any, rules: Rules) -> NamedSharding:
    for pattern, spec in rules:
        if re.search(pattern, name):
            _check(mesh, name, leaf.shape, spec, pattern)
            return NamedSharding(mesh, spec)
    raise ConfigError(f"no sharding rule fits {name} {leaf.shape}; end the rules with ('', P())")


def _check(mesh: Mesh, name: str, shape: tuple[int, ...], spec: P, pattern: str) -> None:
    if len(spec) > len(shape):
        raise ConfigError(f"{name} has shape {shape}, too few dimensions for the rule {pattern!r} -> {spec}")
    for size, axes in zip(shape, spec):
        for axis in (axes,) if isinstance(axes, str) else axes or ():
            if axis not in mesh.shape:
                raise ConfigError(f"the rule {pattern!r} names the axis {axis!r}; the mesh has {', '.join(mesh.shape)}")
        parts = _parts(mesh, axes)
        if size % parts:
            raise ConfigError(
                f"{name} {shape}: {axes}={parts} does not divide {size}; choose another mesh or another rule"
            )


def _parts(mesh: Mesh, axes: Any) -> int:
    parts = 1
    for axis in (axes,) if isinstance(axes, str) else axes or ():
        parts *= mesh.shape[axis]
    return parts
