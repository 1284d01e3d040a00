"""AAPE's prompt generator h on captions (arXiv 2410.23698, section 2.8 of the paper: captioning, retrieval, VQA).

What h learns to say of an image is the mean of its captions' embeddings, the simplest of the paper's aggregations; its
task loss is the contrastive one between h(x) and one caption of each image.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from clipjax.data.batches import ArrayBatches
from clipjax.data.samplers import Shuffled
from clipjax.losses import clip_loss
from clipjax.methods.aape import distill_loss, generate
from clipjax.models.clip import Params
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run
from clipjax.training.stage import Stage

DISTILLATION = 5.0  # the paper's weight
OPTIMIZER = Optimizer(lr=1e-3, warmup=20, weight_decay=0.01, clip_norm=1.0)


@dataclasses.dataclass(frozen=True)
class CaptionsOfImages:
    """Distil the captions' mean, and tell an image's caption from those of the others."""

    def __call__(self, trainable: Any, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any):
        """Return the loss with its distillation part; a batch has `rows`, `targets` and one of the `texts`."""
        generated = generate(trainable, batch["rows"])
        distilled = distill_loss(generated, batch["targets"])
        task = clip_loss(generated, batch["texts"], frozen["scale"])
        return task + frozen["weight"] * distilled, ({"loss_distill": distilled}, carry)


def train_generator(
    images: Float[np.ndarray, "images dim"],
    texts: Float[np.ndarray, "images captions dim"],
    scale: float,
    steps: int,
    seed: int,
    run: Run,
) -> Params:
    """Train h on unit embeddings of images and of as many captions of each."""
    dim = images.shape[1]
    hidden = max(1, dim // 16)
    one, two = jax.random.split(jax.random.key(seed))
    means = texts.mean(axis=1)
    fitted = run.fit(
        Stage(
            name="generator",
            trainable={
                "w1": jax.random.normal(one, (dim, hidden)) * dim**-0.5,
                "b1": jnp.zeros(hidden),
                "w2": jax.random.normal(two, (hidden, dim)) * hidden**-0.5,
                "b2": jnp.zeros(dim),
            },
            frozen={"scale": jnp.float32(scale), "weight": jnp.float32(DISTILLATION)},
            objective=CaptionsOfImages(),
            optimizer=OPTIMIZER,
            steps=steps,
            batches=ArrayBatches(
                {"rows": images, "targets": means / np.linalg.norm(means, axis=1, keepdims=True), "texts": texts},
                Shuffled(len(images), seed),
                min(256, len(images)),
                seed,
                one_of=("texts",),
            ),
            seed=seed,
        )
    )
    return fitted.trainable
