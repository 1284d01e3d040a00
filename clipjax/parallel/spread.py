"""Work without gradients on many rows: params on every device of a process, and of each batch its share on each."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from clipjax.parallel.mesh import make_mesh, replicated, rows

P = TypeVar("P")


def spread(function: Callable[[P, Any], Any], params: P, mesh: Mesh) -> Callable[[np.ndarray], Any]:
    """Return `function(params, batch)` as a function of the batch, its rows on the devices of the mesh.

    Of several processes each works on batches of its own with its own devices. A batch that these do not divide is
    worked on by each of them whole.
    """
    here = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
    local = make_mesh(devices=here)
    placed = jax.device_put(params, replicated(local))

    def on_rows(batch: np.ndarray) -> Any:
        layout = rows(local) if len(batch) % local.size == 0 else replicated(local)
        return function(placed, jax.device_put(batch, layout))

    return on_rows
