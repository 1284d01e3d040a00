"""From stored tensors to a params tree and back, by the rows of a name table.

Everything that can be checked without reading numbers is checked before the first one is read.
"""

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

    def leaf(row: Row) -> jax.Array:
        return jnp.asarray(_read_leaf(path, row, tensors, shapes[row.path].shape, dtype))

    with ThreadPoolExecutor(2) as pool:
        leaves = list(pool.map(leaf, rows))
    return unflatten(dict(zip((row.path for row in rows), leaves)))


def check_tensors(path: Path, model: CLIP, rows: Sequence[Row], tensors: Mapping[str, StoredTensor]) -> None:
    """Compare names, shapes and types of a file's tensors with the model's; no number is read.

    Raises:
      CheckpointError: a tensor is missing, unexpected, of another shape or not floating point.
    """
    _check_names(path, rows, tensors)
    shapes = flatten(model.param_shapes())
    for row in rows:
        _check_shapes(path, row, tensors, shapes[row.path].shape)


def disassemble(rows: Sequence[Row], params: Params) -> Iterator[tuple[str, np.ndarray]]:
    """Yield a file's tensors by name, the inverse of `assemble`."""
    leaves = flatten(params)
    fused: dict[str, list[Row]] = {}
    for row in rows:
        fused.setdefault(row.name, []).append(row)
    for sources in fused.values():
        arrays = [np.asarray(leaves[row.path]) for row in sources]
        for i, name in enumerate(sources[0].names()):
            parts = [row.layout.to_file(x if row.layers is None else x[i]) for row, x in zip(sources, arrays)]
            yield name, np.asarray(parts[0] if len(parts) == 1 else np.concatenate(parts), order="C")


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


def _read_leaf(
    path: Path, row: Row, tensors: Mapping[str, StoredTensor], shape: tuple[int, ...], dtype: str | None
) -> np.ndarray:
    names = row.names()
    leaf = np.empty(shape, tensors[names[0]].dtype if dtype is None else jnp.dtype(dtype))
    for i, name in enumerate(names):
        values = tensors[name].read()
        if row.third is not None:
            rows = values.shape[0] // 3
            values = values[row.third * rows : (row.third + 1) * rows]
        target = leaf if row.layers is None else leaf[i, ...]
        with np.errstate(over="ignore"):
            target[...] = row.layout.from_file(values)
        if not _all_finite(target):
            if _all_finite(values):
                raise CheckpointError(f"{path}: {name} holds numbers too large for {leaf.dtype}; choose a wider type")
            raise CheckpointError(f"{path}: {name} holds NaN or infinite numbers; the weights are damaged")
    return leaf


def _all_finite(values: np.ndarray) -> bool:
    # One sum is much cheaper than a test of each number, and a NaN or an infinity survives it.
    with np.errstate(all="ignore"):
        total = np.sum(values, dtype=np.float32)
    return bool(np.isfinite(total)) or bool(np.all(np.isfinite(values)))
