"""Floating-point operations that a function asks for, whatever the compiler makes of it.

Utilisation is told in these: what is computed twice to save memory does not count as work done.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def model_flops(objective: Callable[..., Any], trainable: Any, *arguments: Any) -> float:
    """Count the matrix products of a value and of its gradient by `trainable`, over all devices.

    Each product of the linear map that the forward pass is to a change of `trainable` has one
    transpose of the same size in the backward pass, so that map stands in for it: unlike the
    backward pass itself it recomputes nothing. All arguments may be shapes.

    Raises:
      NotImplementedError: a function inside has a gradient of its own (`jax.custom_vjp`), and is no such map.
    """

    def with_change(trainable, change, *arguments):
        return jax.jvp(lambda trainable: objective(trainable, *arguments), (trainable,), (change,))

    return flops_of(jax.make_jaxpr(with_change)(trainable, trainable, *arguments).jaxpr)


def flops_of(jaxpr: Jaxpr) -> float:
    """Add up a program's matrix products and convolutions; bodies of scans count once for each turn.

    A `while` of unknown length counts one turn, a `cond` its longest branch.
    """
    return sum(_flops(equation) for equation in jaxpr.eqns)


def _flops(equation: JaxprEqn) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        left = equation.invars[0].aval.shape  # pyright: ignore[reportAttributeAccessIssue]
        contracted = params["dimension_numbers"][0][0]
        return 2 * _elements(equation) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape  # pyright: ignore[reportAttributeAccessIssue]
        return 2 * _elements(equation) * math.prod(kernel) / kernel[params["dimension_numbers"].rhs_spec[0]]
    if name == "custom_lin":
        raise NotImplementedError("the work of a custom_vjp's gradient cannot be told before it is compiled")
    inside = [flops_of(part) for value in params.values() for part in _programs(value)]
    if not inside:
        return 0
    if name == "cond":
        return max(inside)
    times = 1
    if name == "scan":
        times = params["length"]
    if name == "shard_map":  # inside, shapes are those of one device
        times = math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"])
    return times * sum(inside)


def _elements(equation: JaxprEqn) -> int:
    return math.prod(equation.outvars[0].aval.shape)  # pyright: ignore[reportAttributeAccessIssue]


def _programs(value: Any) -> list[Jaxpr]:
    if isinstance(value, ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, Jaxpr):
        return [value]
    return [part for one in value for part in _programs(one)] if isinstance(value, tuple | list) else []
