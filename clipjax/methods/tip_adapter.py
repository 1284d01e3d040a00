"""Tip-Adapter and Tip-Adapter-F: the shots as a cache that votes for their labels (Zhang et al., arXiv 2111.03930)."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from clipjax.classify.classifier import Classifier
from clipjax.classify.heads import KeyValueCache
from clipjax.classify.problem import Problem
from clipjax.methods.cached_shots import CachedShots, Views, cached_shots, classified, classifier_of, steps_for
from clipjax.parallel.rules import REPLICATED
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run
from clipjax.training.settings import check_above_zero, check_range
from clipjax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class Config:
    """`strength` and `sharpness` are the paper's alpha and beta; a key is the mean of an image's views.

    With `finetune` the keys are trained for `epochs` (Tip-Adapter-F), else nothing is. The authors choose strength and
    sharpness on validation images; here they are what somebody sets.
    """

    strength: float = 1.0
    sharpness: float = 5.5
    finetune: bool = False
    epochs: float = 20.0
    batch_size: int = 256
    optimizer: Optimizer = Optimizer("adamw", lr=1e-3, weight_decay=0.01, decayed="", eps=1e-4)
    views: Views = Views(10, crop=0.5)
    seed: int = 0

    def __post_init__(self):
        check_above_zero(self, "epochs")
        check_range(self, 0, math.inf, "strength", "sharpness")
        check_range(self, 1, math.inf, "batch_size")


@dataclasses.dataclass(frozen=True)
class CacheStep:
    """Cross-entropy of embeddings among the classes, with the cache's `keys` trained.

    `frozen` holds the keys' `labels`, the `class_weights`, the logarithm `logit_scale`, `strength` and `sharpness`.
    """

    def __call__(self, trainable: Any, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any):
        """Return the loss and the share of labels that are met."""
        arrays = {"keys": trainable["keys"], "labels": frozen["labels"]}
        cache = KeyValueCache(arrays, frozen["strength"], frozen["sharpness"])
        logits = cache.scores(None, frozen, batch["rows"], frozen["class_weights"])  # pyright: ignore
        loss, said = classified(logits, batch["labels"])
        return loss, (said, carry)


def adapt(problem: Problem, config: Config, run: Run) -> Classifier:
    """Put the shots' embeddings into a cache, and train its keys if that is wanted.

    Raises:
      DataError: no shots, or a class without one.
    """
    shots = cached_shots(problem, config.views, run, config.seed)
    return classifier_of(problem, shots, fit(shots, config, run))


def fit(shots: CachedShots, config: Config, run: Run) -> KeyValueCache:
    """Build the cache from embeddings."""
    keys = shots.views.mean(1)
    keys = jnp.asarray(keys / np.linalg.norm(keys, axis=1, keepdims=True), jnp.float32)
    labels = jnp.asarray(shots.labels, jnp.int32)
    if config.finetune:
        batches = shots.batches(run, config.batch_size, config.seed)
        frozen = {
            "labels": labels,
            "class_weights": jnp.asarray(shots.class_weights),
            "logit_scale": jnp.float32(math.log(shots.scale)),
            "strength": jnp.float32(config.strength),
            "sharpness": jnp.float32(config.sharpness),
        }
        fitted = run.fit(
            Stage(
                name="tip_adapter",
                trainable={"keys": keys},
                frozen=frozen,
                objective=CacheStep(),
                optimizer=config.optimizer,
                steps=steps_for(batches, config.epochs),
                batches=batches,
                rules=REPLICATED,
                seed=config.seed,
            )
        )
        keys = fitted.learned["keys"]
    return KeyValueCache({"keys": keys, "labels": labels}, config.strength, config.sharpness)
