"""A checksum for every leaf of a pytree, the same however the leaf lies on however many devices.

Checkpoint libraries notice a truncated file but not a flipped bit; comparing these sums does.
"""

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from clipjax.parallel.rules import path_name

SMALL = 1 << 15
"""Leaves of so many entries or fewer are summed by NumPy: nothing is compiled for them."""

_MIX = (np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B))


def checksums(tree: Any) -> dict[str, int]:
    """Return one 32-bit number for each leaf, by its path.

    The sum over all entries of the entry's bits times an odd number made from its place, modulo
    2^32: a single changed bit always changes it, and any order of summation gives the same.
    """
    return {path_name(path): _checksum(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def digest(tree: Any) -> str:
    """Return one hexadecimal digest of all leaves' names, types, shapes and numbers."""
    shapes = [
        (path_name(path), str(jnp.asarray(leaf).dtype), jnp.shape(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
    return hashlib.sha256(json.dumps([shapes, sorted(checksums(tree).items())]).encode()).hexdigest()[:32]


def _checksum(leaf: Any) -> int:
    # orbax gives back NumPy scalars and arrays alike
    if np.size(leaf) <= SMALL and getattr(leaf, "is_fully_addressable", True):
        return _by_numpy(np.asarray(leaf))
    # waited for: programs in flight together may meet their partners in other processes in different orders
    return int(_compiled(jnp.asarray(leaf)))


def _by_numpy(leaf: np.ndarray) -> int:
    leaf = np.ascontiguousarray(leaf, jax.dtypes.canonicalize_dtype(leaf.dtype))
    words = np.dtype(f"u{min(leaf.dtype.itemsize, 4)}")
    bits = leaf.view(words).ravel().astype(np.uint32)
    place = np.arange(bits.size, dtype=np.uint32) * _MIX[0]
    place = (place ^ (place >> 15)) * _MIX[1]
    return int(np.sum(bits * (place | 1), dtype=np.uint32))


# leaf by leaf: most leaves of a state share a shape with others, and are compiled for once
@jax.jit
def _compiled(leaf: jax.Array) -> jax.Array:
    bits = _bits(leaf)
    place = jnp.zeros(bits.shape, jnp.uint32)
    for axis, size in enumerate(bits.shape):
        place = place * np.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    place = place * _MIX[0]
    place = (place ^ (place >> 15)) * _MIX[1]
    return jnp.sum(bits * (place | 1), dtype=jnp.uint32)


def _bits(leaf: jax.Array) -> jax.Array:
    if leaf.dtype == bool:
        return leaf.astype(jnp.uint32)
    width = leaf.dtype.itemsize
    if width == 8:  # a trailing axis of two words
        return jax.lax.bitcast_convert_type(leaf, jnp.uint32)
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[width]
    return jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)
