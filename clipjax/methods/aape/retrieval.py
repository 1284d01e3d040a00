"""AAPE without classes: h(x) as an image's query among captions (section 3.4 of the paper).

The aggregator fuses an image's own captions. The generator learns from the result and from a contrastive loss. It is
the network alone, as the paper has it ("literal"), or the network added to the embedding ("residual"), which the paper
does not say and without which a narrow layer has to carry all that an image shows.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from clipjax.methods.aape import initial
from clipjax.methods.aape.aggregation import targets
from clipjax.methods.aape.algorithm import distill_loss
from clipjax.methods.aape.config import Aggregation
from clipjax.methods.cached_shots import CachedShots, Descriptions, steps_for
from clipjax.models.clip import cosines, unit
from clipjax.models.conditioned import generate
from clipjax.parallel.rules import REPLICATED
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run
from clipjax.training.settings import check_above_zero, check_range
from clipjax.training.stage import Stage

Form = Literal["literal", "residual"]


@dataclasses.dataclass(frozen=True)
class QueryConfig:
    """How to learn queries; `weight` is that of distilling, `alpha` the residual form's first share of the network."""

    form: Form = "literal"
    aggregation: Aggregation = Aggregation(query="mean")
    weight: float = 5.0
    alpha: float = 0.1
    hidden: int | None = None
    temperature: float = 0.01
    epochs: float = 20.0
    batch_size: int = 512
    optimizer: Optimizer = Optimizer("adamw", lr=1e-3, weight_decay=0.01, decayed="w[12]$")
    seed: int = 0

    def __post_init__(self):
        check_above_zero(self, "epochs")
        check_range(self, 0, math.inf, "weight", "seed")
        check_range(self, 1e-4, math.inf, "temperature")
        check_range(self, 1, math.inf, "hidden", "batch_size")


def queries(
    generator: Mapping[str, Array], images: Float[Array | np.ndarray, "images dim"]
) -> Float[Array, "images dim"]:
    """Make unit queries of unit image embeddings, by a generator that `learn_queries` returned."""
    return unit(_made(generator, jnp.asarray(images)))


def _made(generator: Mapping[str, Array], images: Float[Array, "images dim"]) -> Float[Array, "images dim"]:
    made = generate(generator, images)
    return images + generator["alpha"] * made if "alpha" in generator else made


@dataclasses.dataclass(frozen=True)
class QueryStep:
    """Distillation and a symmetric contrastive loss between queries and one caption of each image, drawn at random.

    `frozen` holds the `captions`, what is `present` of them, the `weight` and the `temperature`. A batch has `rows`,
    the `images` that they are, and `targets`.
    """

    def __call__(self, trainable: Any, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any):
        """Return the loss and its parts."""
        made = _made(trainable, batch["rows"])
        images = batch["images"]
        some = jax.random.categorical(rng, jnp.where(frozen["present"][images], 0.0, -jnp.inf))
        logits = cosines(unit(made), frozen["captions"][images, some]) / frozen["temperature"]
        same = (images[:, None] == images) & ~jnp.eye(len(images), dtype=bool)
        logits = jnp.where(same, -jnp.inf, logits)
        places = jnp.arange(len(images))
        contrast = optax.softmax_cross_entropy_with_integer_labels
        task = (contrast(logits, places).mean() + contrast(logits.T, places).mean()) / 2
        distilled = distill_loss(made, batch["targets"])
        said = {"loss_task": task, "loss_distill": distilled}
        return task + frozen["weight"] * distilled, (said, carry)


def learn_queries(
    images: Float[np.ndarray, "images dim"], captions: Descriptions, config: QueryConfig, run: Run
) -> dict[str, Array]:
    """Fuse each image's captions, and learn a generator that says as much of the image alone."""
    own = np.arange(len(images), dtype=np.int32)
    shots = CachedShots(images[:, None], images, own, images[:1], 1 / config.temperature)
    batch_size, seed = config.batch_size, config.seed
    wanted = targets(shots, captions, config.aggregation, run, batch_size=batch_size, seed=seed)
    batches = shots.batches(run, batch_size, seed, targets=wanted, images=own)
    dim = images.shape[1]
    hidden = config.hidden or max(1, dim // 16)
    start = initial.generator(jax.random.key(seed), dim, hidden)
    if config.form == "residual":
        start["alpha"] = jnp.float32(config.alpha)
    fitted = run.fit(
        Stage(
            name="queries",
            trainable=start,
            frozen={
                "captions": captions.rows,
                "present": captions.present,
                "weight": jnp.float32(config.weight),
                "temperature": jnp.float32(config.temperature),
            },
            objective=QueryStep(),
            optimizer=config.optimizer,
            steps=steps_for(batches, config.epochs),
            batches=batches,
            rules=REPLICATED,
            seed=seed,
            origin=f"{config.form}, {hidden} hidden units, {config.alpha} drawn by {seed}",
        )
    )
    return dict(fitted.learned)
