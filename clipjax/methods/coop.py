"""CoOp: contexts in front of class names, learnt from labelled images (Zhou et al., arXiv 2109.01134)."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from clipjax.classify.classifier import Classifier
from clipjax.classify.heads import TEXT_SIDE, Contexts
from clipjax.classify.problem import Problem
from clipjax.methods.cached_shots import CachedShots, Views, cached_shots, classified, coop_epochs, steps_for, warmed_up
from clipjax.methods.learned_contexts import class_embeddings, context_tokens, contexts_from_words, random_contexts
from clipjax.models.clip import CLIP, cosines
from clipjax.parallel.mesh import make_mesh, rows
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run
from clipjax.training.settings import check_above_zero, check_range
from clipjax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class Config:
    """How to learn; the defaults are the authors'.

    `contexts` vectors start at random, or, with `words` such as "a photo of a", as these and as many. `knowledge`
    multiplies the mean squared distance to the text embeddings of the problem's own prompts (KgCoOp). Without
    `epochs` these are the authors' for the number of shots.
    """

    contexts: int = 16
    words: str | None = None
    knowledge: float = 0.0
    epochs: float | None = None
    batch_size: int = 32
    optimizer: Optimizer = Optimizer("sgd", lr=2e-3, weight_decay=5e-4, decayed="")
    views: Views = Views()
    seed: int = 0

    def __post_init__(self):
        check_range(self, 1, math.inf, "contexts", "batch_size")
        check_above_zero(self, "epochs")
        check_range(self, 0, math.inf, "knowledge")


@dataclasses.dataclass(frozen=True)
class ContextStep:
    """Cross-entropy of embeddings among the classes behind the contexts.

    `frozen` holds the text side's `params`, the classes' `tokens`, their `class_weights` and the weight `knowledge`.
    """

    model: CLIP
    mesh: Mesh = dataclasses.field(repr=False)

    def __call__(self, trainable: Any, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any):
        """Return the loss, and its parts with the share of labels that are met."""
        params, spread = frozen["params"], self.model.replace(rows=rows(self.mesh))
        texts = class_embeddings(spread, params, frozen["tokens"], trainable["contexts"])
        logits = jnp.exp(params["logit_scale"].astype(jnp.float32)) * cosines(batch["rows"], texts)
        task, said = classified(logits, batch["labels"])
        forgotten = jnp.mean(jnp.sum((texts - frozen["class_weights"]) ** 2, axis=1))
        said |= {"loss_task": task, "forgotten": forgotten}
        return task + frozen["knowledge"] * forgotten, (said, carry)


def adapt(problem: Problem, config: Config, run: Run) -> Classifier:
    """Embed the shots, learn contexts through the text tower, and read the class names behind them.

    Raises:
      DataError: no shots, or a class without one.
      ConfigError: a class name and the contexts are longer than the model's texts.
    """
    return fit(problem, cached_shots(problem, config.views, run, config.seed), config, run)


def fit(problem: Problem, shots: CachedShots, config: Config, run: Run) -> Classifier:
    """Learn contexts from embeddings of the problem's shots."""
    model, params = problem.model, problem.params
    key = jax.random.key(config.seed)
    start = (
        random_contexts(model, key, config.contexts)
        if config.words is None
        else contexts_from_words(model, params, problem.tokenizer, config.words)
    )
    tokens = context_tokens(model, problem.tokenizer, problem.class_names, len(start))
    text_side = {name: params[name] for name in TEXT_SIDE if name in params}
    batches = shots.batches(run, config.batch_size, config.seed)
    steps = steps_for(batches, coop_epochs(shots) if config.epochs is None else config.epochs)
    mesh = make_mesh() if run.mesh is None else run.mesh
    fitted = run.fit(
        Stage(
            name="coop",
            trainable={"contexts": start},
            frozen={
                "params": text_side,
                "tokens": tokens,
                "class_weights": problem.zero_shot.class_weights,
                "knowledge": jnp.float32(config.knowledge),
            },
            objective=ContextStep(model, mesh),
            optimizer=warmed_up(config.optimizer, batches, steps),
            steps=steps,
            batches=batches,
            seed=config.seed,
            origin=None if config.words is not None else f"{len(start)} contexts drawn by {config.seed}",
        )
    )
    learned = fitted.learned["contexts"]
    weights = class_embeddings(model, text_side, tokens, learned)
    provenance: dict[str, object] = {"shots": len(shots.labels), "steps": steps}
    return Classifier(model, params, problem.class_names, weights, provenance, head=Contexts({"contexts": learned}))
