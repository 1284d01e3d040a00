"""CLIP-Adapter: a narrow network on image embeddings, mixed with what it started from (arXiv 2110.04544)."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from clipjax.classify.classifier import Classifier
from clipjax.classify.heads import FeatureAdapter
from clipjax.classify.problem import Problem
from clipjax.methods.cached_shots import (
    CachedShots,
    Views,
    cached_shots,
    classified,
    classifier_of,
    coop_epochs,
    steps_for,
)
from clipjax.parallel.rules import REPLICATED
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run
from clipjax.training.settings import check_above_zero, check_range
from clipjax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class Config:
    """`ratio` is the share of the network in an embedding, which is `reduction` times as narrow inside."""

    ratio: float = 0.2
    reduction: int = 4
    epochs: float | None = None
    batch_size: int = 32
    optimizer: Optimizer = Optimizer("sgd", lr=2e-3, weight_decay=5e-4, decayed="")
    views: Views = Views()
    seed: int = 0

    def __post_init__(self):
        check_range(self, 0, 1, "ratio")
        check_above_zero(self, "epochs")
        check_range(self, 1, math.inf, "reduction", "batch_size")


@dataclasses.dataclass(frozen=True)
class AdapterStep:
    """Cross-entropy of changed embeddings; `frozen` holds `class_weights` and the logarithm `logit_scale`."""

    ratio: float

    def __call__(self, trainable: Any, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any):
        """Return the loss and the share of labels that are met."""
        head = FeatureAdapter(trainable, self.ratio)
        logits = head.scores(None, frozen, batch["rows"], frozen["class_weights"])  # pyright: ignore
        loss, said = classified(logits, batch["labels"])
        return loss, (said, carry)


def adapt(problem: Problem, config: Config, run: Run) -> Classifier:
    """Embed the shots and fit the network.

    Raises:
      DataError: no shots, or a class without one.
    """
    shots = cached_shots(problem, config.views, run, config.seed)
    return classifier_of(problem, shots, fit(shots, config, run))


def fit(shots: CachedShots, config: Config, run: Run) -> FeatureAdapter:
    """Fit the network to embeddings."""
    dim = shots.plain.shape[1]
    hidden = max(1, dim // config.reduction)
    keys = jax.random.split(jax.random.key(config.seed))
    draw = lambda key, n, m: jax.random.uniform(key, (n, m), minval=-(n**-0.5), maxval=n**-0.5)
    batches = shots.batches(run, config.batch_size, config.seed)
    steps = steps_for(batches, coop_epochs(shots) if config.epochs is None else config.epochs)
    fitted = run.fit(
        Stage(
            name="clip_adapter",
            trainable={"w1": draw(keys[0], dim, hidden), "w2": draw(keys[1], hidden, dim)},
            frozen={
                "class_weights": jnp.asarray(shots.class_weights),
                "logit_scale": jnp.float32(math.log(shots.scale)),
            },
            objective=AdapterStep(config.ratio),
            optimizer=config.optimizer,
            steps=steps,
            batches=batches,
            rules=REPLICATED,
            seed=config.seed,
            origin=f"{hidden} hidden units drawn by {config.seed}",
        )
    )
    return FeatureAdapter(dict(fitted.learned), config.ratio)
