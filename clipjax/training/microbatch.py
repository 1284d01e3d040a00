"""Encode a large batch a part at a time, so that one loss can still see all of it.

A contrastive loss needs every embedding of the batch but not the activations that made them.
"""

import math
from collections.abc import Callable
from typing import TypeVar

import jax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from clipjax.errors import ConfigError

Params = TypeVar("Params")
Inputs = TypeVar("Inputs")
Outputs = TypeVar("Outputs")


def in_microbatches(
    encode: Callable[[Params, Inputs], Outputs],
    params: Params,
    inputs: Inputs,
    count: int,
    mesh: Mesh | None = None,
    axes: tuple[str, ...] | None = None,
) -> Outputs:
    """Encode rows in `count` equal parts, one after the other, and forget the activations of each.

    `encode(params, inputs)` maps arrays with one row per example to such arrays, each row on its own;
    the result is that of one call, in the same order. The backward pass encodes each part again, so
    it holds the activations of one part at a time. One part is simply encoded, keeping what it keeps.

    With `mesh`, rows are spread over its `axes` (all of them if None) and each device cuts its own
    rows: none move between devices. `encode` then sees the rows of one device. Parameters are
    gathered once before the first part, and their gradients summed over the devices once after the
    last, so a device holds whole parameters and gradients, however they are stored.

    Raises:
      ConfigError: the number of rows is not a multiple of `count` times the number of devices.
    """
    axes = () if mesh is None else tuple(mesh.axis_names) if axes is None else axes
    devices = 1 if mesh is None else math.prod(mesh.shape[axis] for axis in axes)
    rows = sorted({array.shape[0] for array in jax.tree.leaves(inputs)})
    if len(rows) != 1:
        raise ConfigError(f"the arrays of one batch have the same number of rows, got {rows}")
    if count < 1 or rows[0] % (devices * count):
        raise ConfigError(
            f"a batch of {rows[0]} rows cannot be cut into {count} equal microbatches on each of {devices} devices; "
            f"choose a batch that is a multiple of {devices} times the number of microbatches"
        )
    if count == 1:
        return encode(params, inputs)

    def one_by_one(params: Params, inputs: Inputs) -> Outputs:
        if axes:
            # Without this every part would sum its parameter gradients over the devices, `count` times in all.
            params = jax.tree.map(lambda p: jax.lax.pcast(p, axes, to="varying"), params)
        parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), inputs)
        encoded = jax.lax.map(jax.checkpoint(lambda part: encode(params, part), prevent_cse=False), parts)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), encoded)

    if mesh is None:
        return one_by_one(params, inputs)
    return jax.shard_map(one_by_one, mesh=mesh, in_specs=(P(), P(axes)), out_specs=P(axes))(params, inputs)
