"""One optimisation problem, as data. What to minimise, from where, with what, on which batches, for how long."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, Protocol, runtime_checkable

from clipjax.data.batches import BatchSource
from clipjax.errors import ConfigError
from clipjax.parallel.rules import FSDP, REPLICATED, Rules
from clipjax.training.optimizers import Optimizer


@runtime_checkable
class Objective(Hashable, Protocol):
    """What a stage minimises: a frozen dataclass, so that equal ones share one compilation.

    `__call__(trainable, frozen, carry, batch, rng, step) -> (loss, (metrics, carry))`. Its fields
    shape the program; numbers that vary from run to run belong into `frozen`.
    """

    def __call__(
        self, trainable: Any, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any
    ) -> tuple[Any, tuple[dict[str, Any], Any]]: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """One optimisation problem.

    Args:
      trainable: params that get gradients. `frozen`: those that do not, nor optimiser memory.
      carry: state without gradients, such as prototypes, queues or a teacher's weights.
      batches: a description of the data that iterators are made from, at any step.
      after_update: a projection of `trainable` after each step, such as clamping the logit scale;
        a module-level function or a frozen dataclass, like the objective.
      until: says by the carry whether the stage has ended before its `steps` are over; of the same kind. It is
        asked after every step, which then waits for the device.
      rules: how `trainable`, the optimiser's state and `frozen` lie on the mesh.
      seed: of the key that the objective's `rng` comes from.
      origin: says what `trainable` is where it was drawn at random. It stands for the numbers in the
        fingerprint: those of another version of jax, which may round otherwise, do not end a run.
    """

    name: str
    trainable: Any
    objective: Objective
    optimizer: Optimizer
    steps: int
    batches: BatchSource
    frozen: Any = dataclasses.field(default_factory=dict)
    carry: Any = dataclasses.field(default_factory=dict)
    after_update: Callable[[Any], Any] | None = None
    until: Callable[[Any], Any] | None = None
    rules: Rules = FSDP
    carry_rules: Rules = REPLICATED
    seed: int = 0
    origin: str | None = None

    def __post_init__(self):
        if self.steps < 1:
            raise ConfigError(f"stage {self.name!r} has {self.steps} steps; it needs at least 1")
        try:
            hash((self.objective, self.after_update, self.until))
        except TypeError as error:
            raise ConfigError(f"stage {self.name!r}: {error}; make the objective a frozen dataclass") from None

    def ended(self, carry: Any) -> bool:
        """Say whether the stage is over before its steps are."""
        return self.until is not None and bool(self.until(carry))
