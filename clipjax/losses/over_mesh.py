"""The contrastive losses of a batch that is spread over a mesh, for use inside `jax.jit`.

Frozen values with a `__call__`, so that equal ones share one compilation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Bool, Float, Int

from clipjax.losses.contrastive import sharded_clip_loss
from clipjax.losses.pairing import EqualIds
from clipjax.losses.sigmoid import sharded_siglip_loss


@dataclass(frozen=True)
class ClipLossOverMesh:
    """`clip_loss` whose rows are spread over the axes of a mesh; called with the arrays of the whole batch.

    Attributes:
      mesh: the devices.
      axes: the mesh axes over which the batch is spread, first axis slowest; all of them if None.
      equal_ids: what equal ids mean, as in `clip_loss`.
      chunk: how many texts a device compares with its images at a time; all if None.
      normalize: whether rows are scaled to length one first.
    """

    mesh: Mesh
    axes: tuple[str, ...] | None = None
    equal_ids: EqualIds = "ignore"
    chunk: int | None = None
    normalize: bool = True

    def __call__(
        self,
        image: Float[jax.Array, "images dim"],
        text: Float[jax.Array, "texts dim"],
        logit_scale: Float[jax.Array, ""] | float,
        *,
        targets: tuple[Float[jax.Array, "images texts"], Float[jax.Array, "texts images"]] | None = None,
        mask: Bool[jax.Array, "images texts"] | None = None,
        ids: Int[jax.Array, " images"] | None = None,
    ) -> Float[jax.Array, ""]:
        """Compute the loss of the whole batch, each device from its rows of the logits.

        Raises:
          ValueError: as `clip_loss`, or a number of rows that the devices do not divide.
        """
        axes = _axes(self.mesh, self.axes, image.shape[0], text.shape[0])
        arrays = {
            "targets": (targets, (P(axes), P(None, axes))),
            "mask": (mask, P(axes)),
            "ids": (ids, P(axes)),
        }
        loss = partial(
            sharded_clip_loss, axis_name=axes, equal_ids=self.equal_ids, chunk=self.chunk, normalize=self.normalize
        )
        return _spread(loss, self.mesh, axes, (image, text), (logit_scale,), arrays)


@dataclass(frozen=True)
class SiglipLossOverMesh:
    """`siglip_loss` whose pairs are spread over the axes of a mesh; called with the arrays of the whole batch.

    Attributes:
      mesh: the devices.
      axes: the mesh axes over which the batch is spread, first axis slowest; all of them if None.
      equal_ids: what equal ids mean, as in `siglip_loss`.
      chunk: how many texts a device compares with its images at a time; all that it holds if None.
      normalize: whether rows are scaled to length one first.
    """

    mesh: Mesh
    axes: tuple[str, ...] | None = None
    equal_ids: EqualIds = "ignore"
    chunk: int | None = None
    normalize: bool = True

    def __call__(
        self,
        image: Float[jax.Array, "batch dim"],
        text: Float[jax.Array, "batch dim"],
        logit_scale: Float[jax.Array, ""] | float,
        bias: Float[jax.Array, ""] | float,
        *,
        ids: Int[jax.Array, " batch"] | None = None,
    ) -> Float[jax.Array, ""]:
        """Compute the loss of the whole batch, each device from its images and the texts that pass by.

        Raises:
          ValueError: as `siglip_loss`, or a number of pairs that the devices do not divide.
        """
        axes = _axes(self.mesh, self.axes, image.shape[0], text.shape[0])
        loss = partial(
            sharded_siglip_loss, axis_name=axes, equal_ids=self.equal_ids, chunk=self.chunk, normalize=self.normalize
        )
        return _spread(loss, self.mesh, axes, (image, text), (logit_scale, bias), {"ids": (ids, P(axes))})


def _axes(mesh: Mesh, axes: tuple[str, ...] | None, *rows: int) -> tuple[str, ...]:
    axes = tuple(mesh.axis_names) if axes is None else axes
    devices = math.prod(mesh.shape[axis] for axis in axes)
    for count in rows:
        if count % devices:
            raise ValueError(f"a batch of {count} rows cannot be spread evenly over {devices} devices {axes}")
    return axes


def _spread(
    loss: Callable[..., jax.Array],
    mesh: Mesh,
    axes: tuple[str, ...],
    embeddings: tuple[jax.Array, ...],
    scalars: tuple[jax.Array | float, ...],
    options: dict,
) -> Float[jax.Array, ""]:
    given = {name: option for name, option in options.items() if option[0] is not None}

    def on_each_device(embeddings, scalars, arrays):
        return loss(*embeddings, *scalars, **arrays)

    specs = (P(axes), P(), {name: spec for name, (_, spec) in given.items()})
    spread = jax.shard_map(on_each_device, mesh=mesh, in_specs=specs, out_specs=P())
    scalars = tuple(jnp.asarray(s, jnp.float32) for s in scalars)
    return spread(embeddings, scalars, {name: array for name, (array, _) in given.items()})
