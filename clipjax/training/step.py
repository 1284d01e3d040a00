"""One step of a stage: gradient, update, average, projection. Compiled once for equal programs.

A step whose loss or gradient is not finite changes nothing but the counters and the step number.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from clipjax.parallel.rules import REPLICATED, Rules, shardings
from clipjax.training.optimizers import Numbers, Optimizer
from clipjax.training.stage import Objective, Stage
from clipjax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Program:
    """All that a compiled step depends on besides shapes."""

    objective: Objective
    optimizer: Optimizer
    after_update: Callable[[Any], Any] | None
    mesh: Mesh
    rules: Rules
    carry_rules: Rules

    @classmethod
    def of(cls, stage: Stage, mesh: Mesh) -> "Program":
        """Take the parts of a stage that shape its program."""
        s = stage
        return cls(s.objective, s.optimizer.structure(), s.after_update, mesh, s.rules, s.carry_rules)

    def layout(self, state: TrainState) -> TrainState:
        """Return where each leaf of a state (arrays or shapes) lies."""
        place = functools.partial(shardings, self.mesh)
        return TrainState(
            step=place(state.step, REPLICATED),
            trainable=place(state.trainable, self.rules),
            optimizer=place(state.optimizer, self.rules),
            carry=place(state.carry, self.carry_rules),
            average=place(state.average, self.rules),
            key=place(state.key, REPLICATED),
            skipped=place(state.skipped, REPLICATED),
            skipped_in_row=place(state.skipped_in_row, REPLICATED),
        )


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def train_step(
    program: Program, state: TrainState, frozen: Any, batch: Any, numbers: Numbers
) -> tuple[TrainState, dict[str, Any]]:
    """Take one step. The given state's memory is reused: it is of no use afterwards.

    Returns:
      The next state, and the objective's metrics with `loss`, `gradient_norm`, `learning_rate`,
      `skipped` and `skipped_in_row`.
    """
    rng = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    differentiate = jax.value_and_grad(program.objective, has_aux=True)
    (loss, (metrics, carry)), grads = differentiate(state.trainable, frozen, state.carry, batch, rng, state.step)
    norm = optax.tree.norm(grads)
    good = jnp.isfinite(loss) & jnp.isfinite(norm)

    optimizer = program.optimizer
    trainable, moments, rate = optimizer.update(numbers, state.step, grads, state.optimizer, state.trainable)
    if program.after_update is not None:
        trainable = program.after_update(trainable)
    average = state.average
    if average is not None:
        average = jax.tree.map(lambda a, x: a + (1 - numbers["ema"]).astype(a.dtype) * (x - a), average, trainable)

    keep = functools.partial(jax.tree.map, lambda new, old: jnp.where(good, new, old))
    following = TrainState(
        step=state.step + 1,
        trainable=keep(trainable, state.trainable),
        optimizer=keep(moments, state.optimizer),
        carry=keep(carry, state.carry),
        average=keep(average, state.average),
        key=state.key,
        skipped=state.skipped + jnp.where(good, 0, 1),
        skipped_in_row=jnp.where(good, 0, state.skipped_in_row + 1),
    )
    following = jax.lax.with_sharding_constraint(following, program.layout(following))
    counters = {"skipped": following.skipped, "skipped_in_row": following.skipped_in_row}
    return following, {**metrics, "loss": loss, "gradient_norm": norm, "learning_rate": rate, **counters}
