"""From stored tensors to a params tree and back, by the rows of a name table.

Everything that can be checked without reading numbers is checked before the first one is read.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from clipjax.errors import CheckpointError
from clipjax.models.shapes import Params
from clipjax.weights.names import Row
from clipjax.weights.stored import StoredTensor

# Buffers that several exporters leave in the file; none of them holds a weight.
IGNORED_SUFFIXES = ("position_ids", "attn_mask", "num_batches_tracked")
IGNORED_NAMES = frozenset({"input_resolution", "context_length", "vocab_size"})

_ALIGNMENT = 64
_STRIP = 96


class Model(Protocol):
    """What is asked of a model here: a CLIP or a language model."""

    def param_shapes(self) -> Params:
        """The params tree with a shape at each leaf."""
        ...


def is_buffer(name: str) -> bool:
    """Tell whether a tensor is one of the known buffers that hold no weight."""
    return name in IGNORED_NAMES or name.rsplit(".", 1)[-1] in IGNORED_SUFFIXES


def assemble(
    path: Path, model: Model, rows: Sequence[Row], tensors: Mapping[str, StoredTensor], dtype: str | None
) -> Params:
    """Read a params tree.

    Args:
      dtype: type of the params; None keeps each tensor's own.

    Raises:
      CheckpointError: a tensor is missing, unexpected, of another shape than the configuration
        says, not floating point, or holds NaN or infinity.
    """
    check_tensors(path, model, rows, tensors)
    shapes = flatten(model.param_shapes())
    groups = _by_name(rows)
    leaves = {}
    for group in groups:
        kind = jnp.result_type(*(tensors[name].dtype for name in group[0].names())) if dtype is None else dtype
        leaves |= {row.path: _aligned_empty(shapes[row.path].shape, jnp.dtype(kind)) for row in group}
    parts = [(group, layer, tensors[name]) for group in groups for layer, name in enumerate(group[0].names())]
    # the largest first, so that no thread is left with one at the end
    parts.sort(key=lambda part: -math.prod(part[2].shape))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for _ in pool.map(lambda part: _fill(path, part[0], part[1], part[2], leaves), parts):
            pass  # an error of a thread is raised here
    # not jnp.asarray, which copies: this takes over aligned memory where the device is the CPU
    return unflatten({name: jax.device_put(leaf) for name, leaf in leaves.items()})


def check_tensors(path: Path, model: Model, rows: Sequence[Row], tensors: Mapping[str, StoredTensor]) -> None:
    """Compare names, shapes and types of a file's tensors with the model's; no number is read.

    Raises:
      CheckpointError: a tensor is missing, unexpected, of another shape or not floating point.
    """
    _check_names(path, rows, tensors)
    shapes = flatten(model.param_shapes())
    for row in rows:
        _check_shapes(path, row, tensors, shapes[row.path].shape)


class Disassembled(Mapping[str, np.ndarray]):
    """A file's tensors by name, the inverse of `assemble`.

    Nothing is computed before a tensor is asked for, and nothing kept: most are views of the
    params, transposed where the file's layout says so.
    """

    def __init__(self, rows: Sequence[Row], params: Params):
        self._leaves = flatten(params)
        self._sources = {
            name: (sources, layer) for sources in _by_name(rows) for layer, name in enumerate(sources[0].names())
        }

    def __getitem__(self, name: str) -> np.ndarray:
        sources, layer = self._sources[name]
        arrays = [np.asarray(self._leaves[row.path]) for row in sources]
        parts = [row.layout.to_file(x if row.layers is None else x[layer]) for row, x in zip(sources, arrays)]
        return np.asarray(parts[0] if len(parts) == 1 else np.concatenate(parts, sources[0].layout.out_axis))

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def all_finite(values: np.ndarray) -> bool:
    """Tell whether no number is NaN or infinite."""
    # One number is much cheaper than a test of each, and a NaN or an infinity survives in it.
    with np.errstate(all="ignore"):
        if values.dtype == np.float32 and values.flags.c_contiguous:
            total = np.dot(values.reshape(-1), values.reshape(-1))
        else:
            total = np.sum(values, dtype=np.float32)
    return bool(np.isfinite(total)) or bool(np.all(np.isfinite(values)))


def flatten(tree: Params) -> dict[str, jax.Array]:
    """Name each leaf of a nested dict by its path, keys joined with slashes."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def unflatten(leaves: Mapping[str, jax.Array]) -> Params:
    """Rebuild the nested dict that `flatten` took apart."""
    tree: Params = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = leaf
    return tree


def _check_names(path: Path, rows: Sequence[Row], tensors: Mapping[str, StoredTensor]) -> None:
    wanted = {name for row in rows for name in row.names()}
    missing = sorted(wanted - tensors.keys())
    unexpected = sorted(name for name in tensors.keys() - wanted if not is_buffer(name))
    faults = [f"{what} {_some(names)}" for what, names in (("missing", missing), ("unexpected", unexpected)) if names]
    if faults:
        raise CheckpointError(f"{path}: {' and '.join(faults)}; the file is not a whole model of this configuration")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _check_shapes(path: Path, row: Row, tensors: Mapping[str, StoredTensor], shape: tuple[int, ...]) -> None:
    expected = row.layout.file_shape(shape if row.layers is None else shape[1:])
    if row.third is not None:
        fused = list(expected)
        fused[row.layout.out_axis] *= 3
        expected = tuple(fused)
    for name in row.names():
        tensor = tensors[name]
        if tensor.shape != expected:
            raise CheckpointError(
                f"{path}: {name} has shape {list(tensor.shape)}, the configuration asks for {list(expected)}"
            )
        if not jnp.issubdtype(tensor.dtype, jnp.floating):
            raise CheckpointError(f"{path}: {name} is stored as {tensor.dtype}; weights are floating point")


def _by_name(rows: Sequence[Row]) -> list[list[Row]]:
    """Group the rows that share tensors: query, key and value where a file fuses them."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.name, []).append(row)
    return list(groups.values())


def _fill(path: Path, group: Sequence[Row], layer: int, tensor: StoredTensor, leaves: Mapping[str, np.ndarray]) -> None:
    """Write one tensor of the file to where it belongs in each of the group's leaves."""
    values = tensor.read()
    for row in group:
        leaf = leaves[row.path]
        target = leaf if row.layers is None else leaf[layer, ...]
        part = values if row.third is None else np.split(values, 3, row.layout.out_axis)[row.third]
        _copy(row.layout.from_file(part), target)
        if not all_finite(target):
            name = group[0].names()[layer]
            if all_finite(values):
                raise CheckpointError(f"{path}: {name} holds numbers too large for {leaf.dtype}; choose a wider type")
            raise CheckpointError(f"{path}: {name} holds NaN or infinite numbers; the weights are damaged")


def _aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Allocate memory as JAX on a CPU wants it, which then uses it as it is; never write to it afterwards."""
    size = math.prod(shape) * dtype.itemsize
    buffer = np.empty(size + _ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)


def _copy(source: np.ndarray, target: np.ndarray) -> None:
    """Copy in strips whose cache lines are used up while they are at hand: several times faster if transposed."""
    with np.errstate(over="ignore"):
        if source.ndim < 2 or source.flags.c_contiguous:
            target[...] = source
            return
        for column in range(0, source.shape[-1], _STRIP):
            strip = ..., slice(column, column + _STRIP)
            target[strip] = source[strip]
