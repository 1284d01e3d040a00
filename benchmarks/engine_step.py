"""The engine's own training step as a benchmark calls it, and the options that benchmarks of steps share."""

import argparse
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from clipjax.parallel.mesh import make_mesh, put_rows
from clipjax.parallel.rules import FSDP, Rules
from clipjax.training.optimizers import Optimizer
from clipjax.training.stage import Objective
from clipjax.training.state import initial_state
from clipjax.training.step import Program, train_step

SEED = 0
"""Of what a step draws."""


class EngineStep:
    """A training step on one device with its state.

    Calling it takes one step, waits for all of it, not for the loss alone, and returns the loss.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: Optimizer,
        trainable: Any,
        frozen: Any,
        batch: dict[str, np.ndarray],
        carry: Any,
        *,
        after_update: Callable[[Any], Any] | None = None,
        carry_rules: Rules = FSDP,
    ):
        mesh = make_mesh(devices=jax.devices()[:1])
        self._program = Program(objective, optimizer.structure(), after_update, mesh, FSDP, carry_rules)
        state = initial_state(trainable, optimizer.init(trainable), carry, averaged=False, seed=SEED)
        # a copy: the step reuses its memory, which torch's params and equal leaves may share
        copied = jax.jit(lambda state: jax.tree.map(jnp.copy, state), out_shardings=self._program.layout(state))
        self.state = copied(state)
        self._frozen, self._batch, self._numbers = jax.device_put(frozen), put_rows(mesh, batch), optimizer.numbers(1)

    def __call__(self) -> jax.Array:
        self.state, metrics = train_step(self._program, self.state, self._frozen, self._batch, self._numbers)
        return jax.block_until_ready((metrics["loss"], self.state))[0]


def step_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what every benchmark of a step can be told."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B/32")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--remat", default="dots", choices=("none", "dots", "full"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    return parser


def leave_memory_to_torch(device: str) -> None:
    """Keep jax from taking three quarters of an accelerator's memory; call it before the first array."""
    if device == "cuda":
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.4")
