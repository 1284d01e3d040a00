"""Unsupervised prompt learning: learned contexts on confident pseudo-labels (Huang et al., arXiv 2204.03649)."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from clipjax.classify.classifier import Classifier
from clipjax.classify.problem import Problem
from clipjax.data.batches import ArrayBatches
from clipjax.data.samplers import Shuffled
from clipjax.methods.cached_shots import Views, embedded
from clipjax.methods.learned_contexts import class_embeddings, context_tokens, contexts_from_words, random_contexts
from clipjax.methods.pseudo_labels import predictions, surest, zero_shot_scores
from clipjax.models.clip import CLIP, unit
from clipjax.parallel.mesh import enough_rows, fitting_batch, make_mesh, rows
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run
from clipjax.training.settings import check_above_zero, check_positive_share, check_range
from clipjax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class Config:
    """How to learn prompts; the defaults are the authors'.

    The `shots` most confident images of each predicted class are learnt from. `contexts` vectors start at random, or,
    with `words` such as "a photo of a", as these and as many. Of each image `views` crops of at least the share
    `crop`, flipped with probability `flip`, are embedded once and drawn from; with `views` of 0 it is the image as
    it is measured. `ensemble` prompts are learnt from different beginnings and their class weights averaged.
    Many classes are read in several `text_parts`, for less memory: of at most 128 texts each, unless told otherwise.
    """

    shots: int = 16
    contexts: int = 16
    words: str | None = None
    epochs: float = 50.0
    batch_size: int = 32
    optimizer: Optimizer = Optimizer("sgd", lr=2e-3, weight_decay=5e-4, decayed="contexts$")
    warmup_share: float = 0.02
    views: int = 8
    crop: float = 0.08
    flip: float = 0.5
    ensemble: int = 1
    text_parts: int | None = None
    seed: int = 0

    def __post_init__(self):
        check_range(self, 1, math.inf, "shots", "contexts", "batch_size", "ensemble")
        check_above_zero(self, "epochs")
        check_range(self, 0, math.inf, "views")
        if self.text_parts is not None:
            check_range(self, 1, math.inf, "text_parts")
        check_range(self, 0, 1, "warmup_share", "flip")
        check_positive_share(self, "crop")


@dataclasses.dataclass(frozen=True)
class PromptedClasses:
    """Cross-entropy of image embeddings among the classes behind the learned contexts.

    `frozen` holds the text tower's `params` with the logit scale, and the classes' `tokens`.
    """

    model: CLIP
    mesh: Mesh = dataclasses.field(repr=False)
    text_parts: int | None = None

    def __call__(self, trainable: Any, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any):
        """Return the loss, and as a metric how many pseudo-labels are met."""
        params, spread = frozen["params"], self.model.replace(rows=rows(self.mesh))
        weights = class_embeddings(spread, params, frozen["tokens"], trainable["contexts"], parts=self.text_parts)
        logits = jnp.exp(params["logit_scale"].astype(jnp.float32)) * batch["rows"] @ weights.T
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()
        return loss, ({"agreement": jnp.mean(logits.argmax(1) == batch["labels"])}, carry)


def adapt(problem: Problem, config: Config, run: Run) -> Classifier:
    """Label images zero-shot, learn contexts on the surest, and read the class names behind them.

    Raises:
      ConfigError: a class name and the contexts are longer than the model's texts.
    """
    model, params = problem.model, problem.params
    start = None if config.words is None else contexts_from_words(model, params, problem.tokenizer, config.words)
    contexts = config.contexts if start is None else len(start)
    tokens = context_tokens(model, problem.tokenizer, problem.class_names, contexts)
    scored = zero_shot_scores(problem, run)
    mesh = make_mesh() if run.mesh is None else run.mesh
    pseudo_shots = np.flatnonzero(surest(predictions(scored.scores), config.shots))
    chosen = enough_rows(pseudo_shots, mesh)
    labels = scored.labels[chosen]
    views = Views(config.views, config.crop, config.flip)
    embeddings = embedded(problem, scored.images.select(chosen), views, run, config.seed)
    batch_size = fitting_batch(config.batch_size, len(chosen), mesh)
    steps = max(1, round(config.epochs * len(chosen) / batch_size))
    text_side = {name: params[name] for name in ("text", "text_projection", "logit_scale") if name in params}
    optimizer = config.optimizer
    found = []
    for seed in range(config.seed, config.seed + config.ensemble):
        key = jax.random.key(seed)
        fitted = run.fit(
            Stage(
                name="upl" if config.ensemble == 1 else f"upl-{seed}",
                trainable={"contexts": random_contexts(model, key, contexts) if start is None else start},
                frozen={"params": text_side, "tokens": tokens},
                objective=PromptedClasses(model, mesh, config.text_parts),
                optimizer=dataclasses.replace(optimizer, warmup=optimizer.warmup or round(config.warmup_share * steps)),
                steps=steps,
                batches=ArrayBatches(
                    {"rows": embeddings, "labels": labels},
                    Shuffled(len(chosen), seed),
                    batch_size,
                    seed,
                    one_of=("rows",),
                ),
                seed=seed,
                origin=None if start is not None else f"{contexts} contexts drawn by {seed}",
            )
        )
        learned = fitted.learned["contexts"]
        found.append(class_embeddings(model, text_side, tokens, learned, parts=config.text_parts))
    weights = found[0] if len(found) == 1 else unit(jnp.mean(jnp.stack(found), axis=0))
    provenance: dict[str, object] = {"images": len(scored.images), "pseudo_shots": len(pseudo_shots), "steps": steps}
    return Classifier(model, params, problem.class_names, weights, provenance)
