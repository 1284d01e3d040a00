"""What changes from step to step, as one pytree: all that a checkpoint needs to hold."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt32


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state between two steps.

    `step` counts finished steps and is also the loader's position. `skipped` counts steps whose
    loss or gradient was not finite, `skipped_in_row` those since the last good one. `average` is
    the moving average of `trainable`, or None. `key` is the data of a `jax.random` key, which each
    step folds its number into.
    """

    step: Int[Array, ""]
    trainable: Any
    optimizer: Any
    carry: Any
    average: Any
    key: UInt32[Array, "words"]
    skipped: Int[Array, ""]
    skipped_in_row: Int[Array, ""]


def initial_state(trainable: Any, optimizer: Any, carry: Any, *, averaged: bool, seed: int) -> TrainState:
    """Build the state before the first step."""
    zero = jnp.zeros((), jnp.int32)
    trainable, optimizer, carry = jax.tree.map(_firmly_typed, (trainable, optimizer, carry))
    return TrainState(
        step=zero,
        trainable=trainable,
        optimizer=optimizer,
        carry=carry,
        # its own buffers: both are donated to the step
        average=jax.tree.map(jnp.copy, trainable) if averaged else None,
        key=jax.random.key_data(jax.random.key(seed)),
        skipped=zero,
        skipped_in_row=jnp.copy(zero),
    )


def _firmly_typed(leaf: Any) -> Any:
    """Give a number written in Python, which a step would return as another type, the type that it has then.

    The second step would be compiled anew for it.
    """
    return jax.lax.convert_element_type(leaf, leaf.dtype) if getattr(leaf, "weak_type", False) else leaf
