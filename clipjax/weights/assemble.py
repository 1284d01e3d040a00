"""From stored tensors to a params tree and back, by the rows of a name table.

Everything that can be checked without reading numbers is checked before the first one is read.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from clipjax.errors import CheckpointError
from clipjax.models.clip import CLIP, Params
from clipjax.weights.names import Row
from clipjax.weights.stored import StoredTensor

# Buffers that several exporters leave in the file; none of them holds a weight.
IGNORED_SUFFIXES = ("position_ids", "attn_mask", "num_batches_tracked")
IGNORED_NAMES = frozenset({"input_resolution", "context_length", "vocab_size"})

_ALIGNMENT = 64
_TILE_ROWS, _TILE_COLUMNS = 256, 64


def is_buffer(name: str) -> bool:
    """Tell whether a tensor is one of the known buffers that hold no weight."""
    return name in IGNORED_NAMES or name.rsplit(".", 1)[-1] in IGNORED_SUFFIXES


def assemble(
    path: Path, model: CLIP, rows: Sequence[Row], tensors: Mapping[str, StoredTensor], dtype: str | None
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

    def read(group: Sequence[Row]) -> dict[str, jax.Array]:
        leaves = _read_group(path, group, tensors, shapes, dtype)
        # not jnp.asarray, which copies: this takes over aligned memory where the device is the CPU
        return {name: jax.device_put(leaf) for name, leaf in leaves.items()}

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        leaves = {name: leaf for group in pool.map(read, _by_name(rows)) for name, leaf in group.items()}
    return unflatten(leaves)


def check_tensors(path: Path, model: CLIP, rows: Sequence[Row], tensors: Mapping[str, StoredTensor]) -> None:
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
        return np.asarray(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def all_finite(values: np.ndarray) -> bool:
    """Tell whether no number is NaN or infinite."""
    # One sum is much cheaper than a test of each number, and a NaN or an infinity survives it.
    with np.errstate(all="ignore"):
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
        raise CheckpointError(f"{path}: {' and '.join(faults)}; the file is not a whole CLIP of this configuration")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _check_shapes(path: Path, row: Row, tensors: Mapping[str, StoredTensor], shape: tuple[int, ...]) -> None:
    expected = row.layout.file_shape(shape if row.layers is None else shape[1:])
    if row.third is not None:
        expected = (3 * expected[0], *expected[1:])
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


def _read_group(
    path: Path, group: Sequence[Row], tensors: Mapping[str, StoredTensor], shapes: Params, dtype: str | None
) -> dict[str, np.ndarray]:
    names = group[0].names()
    wanted = jnp.result_type(*(tensors[name].dtype for name in names)) if dtype is None else jnp.dtype(dtype)
    leaves = {row.path: _aligned_empty(shapes[row.path].shape, wanted) for row in group}
    for i, name in enumerate(names):
        values = tensors[name].read()
        for row in group:
            leaf = leaves[row.path]
            target = leaf if row.layers is None else leaf[i, ...]
            part = values if row.third is None else np.split(values, 3)[row.third]
            _copy(row.layout.from_file(part), target)
            if not all_finite(target):
                if all_finite(values):
                    raise CheckpointError(f"{path}: {name} holds numbers too large for {wanted}; choose a wider type")
                raise CheckpointError(f"{path}: {name} holds NaN or infinite numbers; the weights are damaged")
    return leaves


def _aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Allocate memory as JAX on a CPU wants it, which then uses it as it is; never write to it afterwards."""
    size = math.prod(shape) * dtype.itemsize
    buffer = np.empty(size + _ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)


def _copy(source: np.ndarray, target: np.ndarray) -> None:
    """Copy in tiles that fit the processor's cache: four times faster where `source` is transposed."""
    with np.errstate(over="ignore"):
        if source.ndim < 2 or source.flags.c_contiguous:
            target[...] = source
            return
        rows, columns = source.shape[-2:]
        for row in range(0, rows, _TILE_ROWS):
            for column in range(0, columns, _TILE_COLUMNS):
                tile = ..., slice(row, row + _TILE_ROWS), slice(column, column + _TILE_COLUMNS)
                target[tile] = source[tile]
