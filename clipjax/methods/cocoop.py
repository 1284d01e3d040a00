"""CoCoOp: contexts that each image shifts, so that new classes are read well, too (Zhou et al., arXiv 2203.05557)."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from clipjax.classify.classifier import Classifier
from clipjax.classify.heads import TEXT_SIDE, ImageContexts
from clipjax.classify.problem import Problem
from clipjax.methods.aape.initial import generator
from clipjax.methods.cached_shots import (
    CachedShots,
    Views,
    cached_shots,
    classified,
    classifier_of,
    steps_for,
    warmed_up,
)
from clipjax.methods.learned_contexts import context_tokens, contexts_from_words, random_contexts
from clipjax.models.clip import CLIP
from clipjax.parallel.mesh import BATCH, make_mesh
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run
from clipjax.training.settings import check_above_zero, check_range
from clipjax.training.stage import Stage

WHOLE = PartitionSpec()


@dataclasses.dataclass(frozen=True)
class Config:
    """How to learn; the defaults are the authors': one image a step, which reads all class names anew."""

    contexts: int = 4
    words: str | None = "a photo of a"
    epochs: float = 10.0
    batch_size: int = 1
    optimizer: Optimizer = Optimizer("sgd", lr=2e-3, weight_decay=5e-4, decayed="")
    views: Views = Views()
    seed: int = 0

    def __post_init__(self):
        check_range(self, 1, math.inf, "contexts", "batch_size")
        check_above_zero(self, "epochs")


@dataclasses.dataclass(frozen=True)
class ShiftStep:
    """Cross-entropy of embeddings, each among the classes as it reads them; `frozen` holds `params` and `tokens`.

    Each device reads the class names for its own images.
    """

    model: CLIP
    mesh: Mesh = dataclasses.field(repr=False)

    def __call__(self, trainable: Any, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any):
        """Return the loss and the share of labels that are met."""
        arrays = {**trainable, "tokens": frozen["tokens"]}
        score = lambda arrays, *inputs: ImageContexts(arrays).scores(self.model, *inputs)
        spread = jax.shard_map(score, mesh=self.mesh, in_specs=(WHOLE, WHOLE, BATCH, WHOLE), out_specs=BATCH)
        logits = spread(arrays, frozen["params"], batch["rows"], frozen["class_weights"])
        loss, said = classified(logits, batch["labels"])
        return loss, (said, carry)


def adapt(problem: Problem, config: Config, run: Run) -> Classifier:
    """Embed the shots, and learn contexts and the network that shifts them through the text tower.

    Raises:
      DataError: no shots, or a class without one.
      ConfigError: a class name and the contexts are longer than the model's texts.
    """
    return fit(problem, cached_shots(problem, config.views, run, config.seed), config, run)


def fit(problem: Problem, shots: CachedShots, config: Config, run: Run) -> Classifier:
    """Learn from embeddings of the problem's shots."""
    model, params = problem.model, problem.params
    keys = jax.random.split(jax.random.key(config.seed))
    start = (
        random_contexts(model, keys[0], config.contexts)
        if config.words is None
        else contexts_from_words(model, params, problem.tokenizer, config.words)
    )
    tokens = jnp.asarray(context_tokens(model, problem.tokenizer, problem.class_names, len(start)))
    text_side = {name: params[name] for name in TEXT_SIDE if name in params}
    dim = shots.plain.shape[1]
    network = generator(keys[1], dim, max(1, dim // 16), start.shape[1])
    batches = shots.batches(run, config.batch_size, config.seed)
    steps = steps_for(batches, config.epochs)
    fitted = run.fit(
        Stage(
            name="cocoop",
            trainable={"contexts": start, **network},
            frozen={"params": text_side, "tokens": tokens, "class_weights": problem.zero_shot.class_weights},
            objective=ShiftStep(model, make_mesh() if run.mesh is None else run.mesh),
            optimizer=warmed_up(config.optimizer, batches, steps),
            steps=steps,
            batches=batches,
            seed=config.seed,
            origin=f"{config.words or len(start)}, a network drawn by {config.seed}",
        )
    )
    return classifier_of(problem, shots, ImageContexts({**fitted.learned, "tokens": tokens}), steps=steps)
