"""Contrastive fine-tuning with class texts as captions: the FLYP recipe (Goyal et al., arXiv 2212.00638).

With labelled shots, or with the zero-shot classifier's own labels where there are none.
"""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from clipjax.classify.classifier import Classifier
from clipjax.classify.embed import tokens_for
from clipjax.classify.problem import Problem
from clipjax.data.image_batches import ImageBatches
from clipjax.data.samplers import Shuffled
from clipjax.data.source import ImageSource
from clipjax.data.views import augmented_view
from clipjax.inputs.trim import text_lengths, trimmed_length
from clipjax.losses.pairing import EqualIds
from clipjax.methods.contrastive import Contrastive, clamp_logit_scale
from clipjax.methods.interpolation import interpolated
from clipjax.methods.pseudo_labels import pseudo_labels, zero_shot_scores
from clipjax.models.clip import Params
from clipjax.parallel.mesh import make_mesh
from clipjax.training.optimizers import Optimizer
from clipjax.training.partition import join, split
from clipjax.training.run import Run
from clipjax.training.settings import check_above_zero, check_positive_share, check_range
from clipjax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class Config:
    """How to fine-tune.

    `labels`: the shots' ("given"), the zero-shot classifier's for the unlabelled images ("pseudo"), or
    whichever there are ("auto"). Of the pseudo-labelled images the share `confident` is kept, class by class, the most
    confident first. `trainable` are patterns on parameter paths. Rows of one class are each
    other's positives (`equal_labels="share"`), no negatives ("ignore"), or, as FLYP has it, "negatives". `crop`
    is the smallest share of an image that an augmented view shows; `flip`, `jitter` (of colours) and `grayscale` are
    probabilities, and with `rand_augment` so many random operations follow. `mix` interpolates between
    the params before (0) and after (1): WiSE-FT, arXiv 2109.01903. The learning rate rises over
    `warmup_share` of the steps, unless the optimiser names their number. `dtype` is the model's own
    unless it is given.
    """

    labels: Literal["auto", "given", "pseudo"] = "auto"
    confident: float = 1.0
    epochs: float = 10.0
    batch_size: int = 64
    optimizer: Optimizer = Optimizer(lr=1e-5, weight_decay=0.1)
    warmup_share: float = 0.1
    trainable: tuple[str, ...] = ("",)
    equal_labels: EqualIds | Literal["negatives"] = "share"
    crop: float = 0.7
    flip: float = 0.5
    jitter: float = 0.0
    grayscale: float = 0.0
    rand_augment: int = 0
    mix: float = 1.0
    microbatches: int = 1
    dtype: Literal["float32", "bfloat16"] | None = None
    seed: int = 0

    def __post_init__(self):
        check_range(self, 1, math.inf, "batch_size", "microbatches")
        check_above_zero(self, "epochs")
        check_range(self, 0, math.inf, "rand_augment")
        check_range(self, 0, 1, "confident", "warmup_share", "flip", "jitter", "grayscale", "mix")
        check_positive_share(self, "crop")


@dataclasses.dataclass(frozen=True)
class ClassCaptions:
    """The contrastive loss of images and, for each, one of its class's prompts, drawn anew at each step.

    Rows of one class count as the loss has it, or, where they are to be `negatives`, as rows of different ones.
    """

    contrastive: Contrastive
    negatives: bool = False

    def __call__(self, trainable: Params, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any):
        """Return the loss and metrics; `frozen` holds `params`, `prompts` [classes, texts, length] and `counts`."""
        labels = batch["labels"]
        drawn = jax.random.randint(rng, labels.shape, 0, frozen["counts"][labels])
        tokens = frozen["prompts"][labels, drawn]
        pair_ids = jnp.arange(len(labels), dtype=labels.dtype) if self.negatives else labels
        paired = {**batch, "tokens": tokens, "pair_ids": pair_ids}
        return self.contrastive(trainable, frozen["params"], carry, paired, rng, step)


def adapt(problem: Problem, config: Config, run: Run) -> Classifier:
    """Label images, fine-tune on them, and read the prompts with the new params.

    Raises:
      DataError: labels asked for and no shots given or not of every class, or fewer images than one batch.
    """
    source, labels = _labelled(problem, config, run)
    mesh = make_mesh() if run.mesh is None else run.mesh
    params = problem.params
    trainable, frozen = split(params, config.trainable)
    steps = max(1, round(config.epochs * len(source) / config.batch_size))
    clip = problem.model.config
    stage = Stage(
        name="finetune",
        trainable=trainable,
        frozen={"params": frozen, **prompt_tokens(problem)},
        objective=ClassCaptions(
            Contrastive(
                problem.model.replace(dtype=config.dtype or problem.model.dtype),
                mesh,
                equal_ids="ignore" if config.equal_labels == "negatives" else config.equal_labels,
                microbatches=config.microbatches,
            ),
            negatives=config.equal_labels == "negatives",
        ),
        optimizer=dataclasses.replace(
            config.optimizer, warmup=config.optimizer.warmup or round(config.warmup_share * steps)
        ),
        steps=steps,
        batches=ImageBatches(
            source,
            Shuffled(len(source), config.seed),
            augmented_view(
                clip.image_size,
                clip.mean,
                clip.std,
                crop=config.crop,
                flip=config.flip,
                jitter=config.jitter,
                grayscale=config.grayscale,
                rand_augment=config.rand_augment,
            ),
            config.batch_size,
            config.seed,
            columns={"labels": labels},
        ),
        after_update=clamp_logit_scale,
        seed=config.seed,
    )
    fitted = run.fit(stage)
    tuned = join(fitted.learned, frozen)
    classifier = problem.text_classifier(interpolated(params, tuned, config.mix), run.progress)
    provenance = {"images": len(source), "steps": fitted.steps, "skipped_steps": fitted.skipped}
    return dataclasses.replace(classifier, provenance=provenance)


def prompt_tokens(problem: Problem) -> dict[str, Int[np.ndarray, "..."]]:
    """Tokenize all prompts: `prompts` [classes, texts, length], padded with copies, and `counts` of real ones."""
    counts = np.array([len(texts) for texts in problem.prompts], np.int32)
    tokens = tokens_for(problem.model, problem.tokenizer, [text for texts in problem.prompts for text in texts])
    tokens = tokens[:, : trimmed_length(int(text_lengths(tokens).max()), tokens.shape[1])]
    starts = np.cumsum(counts) - counts
    rows = starts[:, None] + np.arange(counts.max())[None, :] % counts[:, None]
    return {"prompts": tokens[rows], "counts": counts}


def _labelled(problem: Problem, config: Config, run: Run) -> tuple[ImageSource, Int[np.ndarray, " images"]]:
    if config.labels == "given" or (problem.shots is not None and config.labels != "pseudo"):
        shots = problem.shots_of_every_class()
        return shots, shots.labels

    scored = zero_shot_scores(problem, run, batch_size=config.batch_size)
    rows, labels = pseudo_labels(scored.scores, config.confident)
    return scored.images.select(rows), labels
