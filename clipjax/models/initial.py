"""How weights start: drawn numbers, constants, or nothing but their shapes.

A model's shapes are asked for at every load. Tracing the drawing of its random numbers to learn them
takes a tenth of a second, longer than reading a small checkpoint; `Shapes` in place of random keys
builds the same modules with a `jax.ShapeDtypeStruct` at each leaf instead.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

Initial = Callable[..., Any]
"""Makes a weight, or its shape, from (key, shape, dtype), as flax's initialisers do."""


class Shapes:
    """Stands for `nnx.Rngs` where no numbers are wanted."""

    def params(self) -> "Shapes":
        """Return what an initialiser is given for a key."""
        return self


Rngs = nnx.Rngs | Shapes


def _or_shape(draw: Callable[..., jax.Array]) -> Initial:
    def initial(key, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array | jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype) if isinstance(key, Shapes) else draw(key, shape, dtype)

    return initial


@functools.cache
def normal(std: float) -> Initial:
    """Draw normal numbers of a spread."""
    return _or_shape(nnx.initializers.normal(std))


@functools.cache
def constant(value: float) -> Initial:
    """Repeat a number."""
    return _or_shape(nnx.initializers.constant(value))


@functools.cache
def lecun(axes: tuple[int, ...]) -> Initial:
    """Draw normal numbers whose variance is one over the number of inputs, which the axes count."""
    return _or_shape(nnx.initializers.lecun_normal(in_axis=axes))
