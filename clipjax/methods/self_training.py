"""Self-training on confident pseudo-labels: label, keep what is sure, fine-tune on it, label again.

The plain baseline of methods without labels (Lee, "Pseudo-Label", 2013, with the confidence threshold of FixMatch,
arXiv 2001.07685): cross-entropy to the class weights, on augmented views.
"""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from clipjax.classify.classifier import Classifier
from clipjax.classify.embed import embed_images
from clipjax.classify.problem import Problem
from clipjax.data.image_batches import ImageBatches
from clipjax.data.samplers import Shuffled
from clipjax.data.source import ImageSource
from clipjax.data.views import augmented_view
from clipjax.errors import DataError
from clipjax.methods.contrastive import clamp_logit_scale
from clipjax.methods.pseudo_labels import zero_shot_scores
from clipjax.models.clip import CLIP, unit
from clipjax.parallel.mesh import enough_rows, fitting_batch, make_mesh, rows
from clipjax.training.optimizers import Optimizer
from clipjax.training.partition import join, split
from clipjax.training.run import Run
from clipjax.training.settings import check_above_zero, check_positive_share, check_range
from clipjax.training.stage import Stage
from clipjax.weights.fingerprint import fingerprint


@dataclasses.dataclass(frozen=True)
class Config:
    """How to train on the classifier's own labels.

    In each of `rounds` all images are labelled anew, by the zero-shot classifier in the first; those whose most likely
    class has at least the probability `confidence` are kept. `epochs` are counted over all rounds, in images that
    there are, kept or not, so that a threshold changes what is learnt from and not for how long. Class weights stay
    what the texts say; `trainable` are patterns on the parameter paths of the image tower. `crop`, `flip`, `jitter` and
    `grayscale` are those of `finetune`.
    """

    rounds: int = 3
    confidence: float = 0.7
    epochs: float = 10.0
    batch_size: int = 64
    optimizer: Optimizer = Optimizer(lr=1e-5, weight_decay=0.1)
    warmup_share: float = 0.1
    trainable: tuple[str, ...] = ("^(vision|image_projection)/", "^logit_scale$")
    crop: float = 0.7
    flip: float = 0.5
    jitter: float = 0.0
    grayscale: float = 0.0
    dtype: Literal["float32", "bfloat16"] | None = None
    seed: int = 0

    def __post_init__(self):
        check_range(self, 1, math.inf, "rounds", "batch_size")
        check_above_zero(self, "epochs")
        check_range(self, 0, 1, "confidence", "warmup_share", "flip", "jitter", "grayscale")
        check_positive_share(self, "crop")


@dataclasses.dataclass(frozen=True)
class OwnLabels:
    """Cross-entropy of images and their labels; `frozen` holds `params` and the `class_weights`."""

    model: CLIP
    mesh: Mesh = dataclasses.field(repr=False)

    def __call__(self, trainable: Any, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any):
        """Return the loss, and as a metric how many labels are met."""
        params = join(trainable, frozen["params"])
        images = unit(self.model.replace(rows=rows(self.mesh)).encode_image(params, batch["images"]))
        scale = jnp.exp(params["logit_scale"].astype(jnp.float32))
        logits = scale * jnp.matmul(images, frozen["class_weights"].T, precision=jax.lax.Precision.HIGHEST)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()
        return loss, ({"agreement": jnp.mean(logits.argmax(1) == batch["labels"]), "logit_scale": scale}, carry)


def adapt(problem: Problem, config: Config, run: Run) -> Classifier:
    """Label, keep, train, and again.

    Raises:
      DataError: no image is labelled with that much confidence.
    """
    classifier = problem.zero_shot
    scored = zero_shot_scores(problem, run)
    scores, rounds = scored.scores, []
    mesh = make_mesh() if run.mesh is None else run.mesh
    for number in range(config.rounds):
        probabilities = np.asarray(jax.nn.softmax(jnp.asarray(scores)))
        sure = np.flatnonzero(probabilities.max(1) >= config.confidence)
        if not len(sure):
            raise DataError(
                f"none of {len(scores):,} images is labelled with a confidence of {config.confidence}, the surest with "
                f"{probabilities.max():.2f}; set a lower `confidence`"
            )
        chosen = enough_rows(sure, mesh)
        labels = probabilities.argmax(1)[chosen].astype(np.int32)
        stage = _round(problem, classifier, config, mesh, number, scored.images.select(chosen), labels, len(scores))
        fitted = run.fit(stage)
        tuned = fitted.learned
        classifier = dataclasses.replace(classifier, params=join(tuned, stage.frozen["params"]))
        rounds.append({"kept": len(sure), "steps": fitted.steps, "skipped_steps": fitted.skipped})
        if number + 1 < config.rounds:
            scores = _relabelled(classifier, scored.images, run, number)
    counts: dict[str, object] = {"images": len(scored.images), "rounds": rounds}
    return dataclasses.replace(classifier, provenance=counts)


def _round(
    problem: Problem,
    classifier: Classifier,
    config: Config,
    mesh: Mesh,
    number: int,
    source: ImageSource,
    labels: np.ndarray,
    images: int,
) -> Stage:
    trainable, frozen = split(classifier.params, config.trainable)
    batch_size = fitting_batch(config.batch_size, len(source), mesh)
    steps = max(1, round(config.epochs * images / config.rounds / batch_size))
    clip, optimizer, seed = problem.model.config, config.optimizer, config.seed + number
    view = augmented_view(
        clip.image_size, clip.mean, clip.std,
        crop=config.crop, flip=config.flip, jitter=config.jitter, grayscale=config.grayscale,
    )  # fmt: skip
    return Stage(
        name=f"round-{number + 1}",
        trainable=trainable,
        frozen={"params": frozen, "class_weights": np.asarray(classifier.class_weights)},
        objective=OwnLabels(problem.model.replace(dtype=config.dtype or problem.model.dtype), mesh),
        optimizer=dataclasses.replace(optimizer, warmup=optimizer.warmup or round(config.warmup_share * steps)),
        steps=steps,
        batches=ImageBatches(
            source, Shuffled(len(source), seed), view, batch_size, seed, columns={"labels": labels}
        ),
        after_update=clamp_logit_scale,
        seed=seed,
    )  # fmt: skip


def _relabelled(classifier: Classifier, images: ImageSource, run: Run, number: int) -> np.ndarray:
    def predict():
        rows, _, _ = embed_images(classifier.model, classifier.params, images, progress=run.progress)
        return {"scores": classifier.scores_of(rows)}

    depends = (repr(classifier.model), fingerprint(classifier.params), images.fingerprint)
    return run.once(f"labels-{number + 1}", predict, depends=depends)["scores"]
