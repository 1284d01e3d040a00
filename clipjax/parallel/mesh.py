"""The grid of devices: axes `data` (copies of the params) and `fsdp` (pieces of them); batches are split over both."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

from clipjax.errors import ConfigError

AXES = ("data", "fsdp")
BATCH = PartitionSpec(AXES)
"""How the rows of a batch lie on the devices."""


def make_mesh(*, data: int | None = None, fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """Arrange devices (all of them by default) as `data` times `fsdp`; `data=None` takes what is left.

    Raises:
      ConfigError: the product is not the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    if fsdp < 1 or len(devices) % fsdp:
        raise ConfigError(f"fsdp={fsdp} does not divide {len(devices)} devices; choose a divisor")
    data = len(devices) // fsdp if data is None else data
    if data * fsdp != len(devices):
        raise ConfigError(f"data={data} times fsdp={fsdp} are not {len(devices)} devices; leave data unset")
    axis_types = (AxisType.Auto,) * len(AXES)
    if len(devices) < jax.device_count() or devices[0].platform == "cpu":
        return Mesh(np.array(devices).reshape(data, fsdp), AXES, axis_types=axis_types)
    # on TPUs the order of devices matters: neighbours in the mesh should be neighbours on the board
    return jax.make_mesh((data, fsdp), AXES, devices=devices, axis_types=axis_types)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds all of it."""
    return NamedSharding(mesh, PartitionSpec())


def rows(mesh: Mesh) -> NamedSharding:
    """Each device holds its share of the rows."""
    return NamedSharding(mesh, BATCH)


def check_batch(mesh: Mesh, batch_size: int) -> None:
    """Refuse a batch that the devices do not divide.

    Raises:
      ConfigError: they do not; the message names a batch size that they do.
    """
    if batch_size % mesh.size:
        near = max(mesh.size, round(batch_size / mesh.size) * mesh.size)
        raise ConfigError(f"a batch of {batch_size} does not divide over {mesh.size} devices; use {near}")


def put_rows(mesh: Mesh, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Make global arrays of this process's rows of a batch."""
    sharding = rows(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


def fitting_batch(batch_size: int, rows: int, mesh: Mesh) -> int:
    """Return `batch_size` or, where there are fewer `rows`, the largest batch that they fill and the devices divide."""
    return batch_size if rows >= batch_size else max(mesh.size, rows // mesh.size * mesh.size)


def enough_rows(rows: Int[np.ndarray, " rows"], mesh: Mesh) -> Int[np.ndarray, " rows_or_more"]:
    """Repeat all rows equally often where they are fewer than the devices, each of which needs one in a batch."""
    return np.tile(rows, -(-mesh.size // max(1, len(rows))))
