"""Optimisers and schedules by name, as data: what shapes the program apart from the numbers in it.

Two specs that differ in numbers alone (learning rate, decay, betas) share one compiled step.
"""

import dataclasses
import math
import re
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jaxtyping import Array, Float, Int

from clipjax.errors import ConfigError
from clipjax.parallel.rules import path_name
from clipjax.training.partition import check_pattern

Numbers = dict[str, Float[Array, ""]]

DECAYED = r"(kernel|token_embedding|position_embedding)$"
"""Paths that weight decay applies to, as in CLIP: matrices, and neither vectors (norms, biases) nor the logit scale.

A rule by number of dimensions would not do: the biases of stacked layers are matrices.
"""

NAMES = ("adamw", "adam", "sgd", "muon")
SCHEDULES = ("cosine", "linear", "constant", "exponential")

_NUMBERS = (
    "lr", "end_factor", "warmup", "decay_rate", "decay_steps", "weight_decay", "clip_norm", "b1", "b2", "eps",
    "momentum", "ema",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How a stage's gradient becomes an update.

    The learning rate rises to `lr` linearly over `warmup` steps and then falls to `end_factor` times
    that along a cosine or a line over the rest of the stage, or stays; if "exponential", it is multiplied
    by `decay_rate` after every `decay_steps` steps, after each epoch where that is 0 and the method knows
    one. `weight_decay` is decoupled for "adamw" and "muon" and part of the gradient for "adam" and "sgd",
    on the paths that `decayed` matches. `factors` multiply the learning rate of the paths that a pattern
    matches. `clip_norm` bounds the gradient's global norm. "muon" (arXiv 2502.16982) orthogonalises the
    updates of the blocks' kernels, scaled to the size of Adam's, and is AdamW for all else. `ema` keeps a
    moving average of the trained params with this decay.
    """

    name: Literal["adamw", "adam", "sgd", "muon"] = "adamw"
    lr: float = 1e-3
    schedule: Literal["cosine", "linear", "constant", "exponential"] = "cosine"
    warmup: int = 0
    end_factor: float = 0.0
    decay_rate: float = 0.9
    decay_steps: int = 0
    weight_decay: float = 0.0
    decayed: str = DECAYED
    factors: tuple[tuple[str, float], ...] = ()
    clip_norm: float | None = None
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    momentum: float = 0.9
    nesterov: bool = False
    ema: float | None = None

    def __post_init__(self):
        for field, known in (("name", NAMES), ("schedule", SCHEDULES)):
            if getattr(self, field) not in known:
                raise ConfigError(f"optimizer.{field} is {getattr(self, field)!r}; known are {', '.join(known)}")
        for field in ("lr", "warmup", "end_factor", "decay_rate", "decay_steps", "weight_decay", "eps"):
            if not 0 <= getattr(self, field) < math.inf:
                raise ConfigError(f"optimizer.{field} is {getattr(self, field)}; it cannot be negative")
        for field in ("b1", "b2", "momentum", "ema"):
            if getattr(self, field) is not None and not 0 <= getattr(self, field) < 1:
                raise ConfigError(f"optimizer.{field} is {getattr(self, field)}; a decay lies between 0 and 1")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ConfigError(f"optimizer.clip_norm is {self.clip_norm}; give a positive number, or None")
        for pattern in (self.decayed, *(pattern for pattern, _ in self.factors)):
            check_pattern("optimizer", pattern)

    def structure(self) -> "Optimizer":
        """Return the spec with its numbers blanked: what a compiled step depends on."""
        blank = dict.fromkeys(("lr", "end_factor", "decay_rate", "b1", "b2", "eps", "momentum"), 0.0)
        return dataclasses.replace(
            self,
            **blank,
            warmup=0,
            decay_steps=0,
            weight_decay=float(self.weight_decay != 0),
            clip_norm=None if self.clip_norm is None else 1.0,
            ema=None if self.ema is None else 0.0,
        )

    def numbers(self, steps: int) -> Numbers:
        """Return the numbers as arrays, with the stage's number of steps."""
        values = {name: getattr(self, name) for name in _NUMBERS} | {"steps": steps}
        return {name: jnp.asarray(0.0 if v is None else v, jnp.float32) for name, v in values.items()}

    def init(self, trainable: Any) -> Any:
        """Build the optimiser's state."""
        return self._transformation(self.numbers(1)).init(trainable)

    def update(
        self, numbers: Numbers, step: Int[Array, ""], grads: Any, state: Any, trainable: Any
    ) -> tuple[Any, Any, Float[Array, ""]]:
        """Apply one step: the new params, the new state, and the learning rate it was made with."""
        directions, state = self._transformation(numbers).update(grads, state, trainable)
        rate = learning_rate(self.schedule, numbers, step)

        def move(path, x, direction):
            return (x - rate * self._factor(path_name(path)) * direction).astype(x.dtype)

        return jax.tree_util.tree_map_with_path(move, trainable, directions), state, rate

    def _transformation(self, numbers: Numbers) -> optax.GradientTransformation:
        decay = optax.add_decayed_weights(numbers["weight_decay"], self._decay_mask)  # pyright: ignore[reportArgumentType]
        parts = []
        if self.clip_norm is not None:
            parts.append(optax.clip_by_global_norm(numbers["clip_norm"]))  # pyright: ignore[reportArgumentType]
        if self.weight_decay and self.name in ("adam", "sgd"):
            parts.append(decay)
        if self.name == "sgd":
            parts.append(optax.trace(numbers["momentum"], self.nesterov))  # pyright: ignore[reportArgumentType]
        else:
            adam = optax.scale_by_adam(numbers["b1"], numbers["b2"], numbers["eps"])  # pyright: ignore[reportArgumentType]
            rules = {"muon": _orthogonalised(), "adam": adam}
            parts.append(adam if self.name != "muon" else optax.partition(rules, _muon_labels))  # pyright: ignore[reportArgumentType]
        if self.weight_decay and self.name in ("adamw", "muon"):
            parts.append(decay)
        return optax.chain(*parts)

    def _decay_mask(self, tree: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: bool(re.search(self.decayed, path_name(path))), tree)

    def _factor(self, name: str) -> float:
        return next((factor for pattern, factor in self.factors if re.search(pattern, name)), 1.0)


def _muon_labels(tree: Any) -> Any:
    label = lambda path, leaf: "muon" if re.search(r"blocks/.*kernel$", path_name(path)) and leaf.ndim == 3 else "adam"
    return jax.tree_util.tree_map_with_path(label, tree)


def _orthogonalised() -> optax.GradientTransformation:
    """Orthogonalise stacked kernels [layers, n_in, n_out], with updates of root mean square 0.2."""
    axes = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2)
    muon = optax.contrib.scale_by_muon(weight_dimension_numbers=lambda tree: jax.tree.map(lambda _: axes, tree))
    size = optax.stateless(lambda updates, _: jax.tree.map(lambda u: u * (0.2 * max(u.shape[1:]) ** 0.5), updates))
    return optax.chain(muon, size)


def learning_rate(schedule: str, numbers: Numbers, step: Int[Array, ""]) -> Float[Array, ""]:
    """Return the rate of step `step`, counted from 0; the first step of a warm-up is not zero."""
    whole_epochs = jnp.floor_divide(step, jnp.maximum(numbers["decay_steps"], 1.0).astype(step.dtype))
    step = step.astype(jnp.float32)
    rise = jnp.minimum(1.0, (step + 1) / jnp.maximum(numbers["warmup"], 1.0))
    done = jnp.clip((step - numbers["warmup"]) / jnp.maximum(numbers["steps"] - numbers["warmup"], 1.0), 0.0, 1.0)
    fall = {
        "cosine": (1 + jnp.cos(jnp.pi * done)) / 2,
        "linear": 1 - done,
        "constant": jnp.ones_like(done),
        "exponential": numbers["decay_rate"] ** whole_epochs.astype(jnp.float32),
    }[schedule]
    end = 1.0 if schedule == "constant" else numbers["end_factor"]
    return numbers["lr"] * rise * (end + (1 - end) * fall)
