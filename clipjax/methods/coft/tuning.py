"""Phase II of CoFT: a whole image tower and a linear head learn from the accepted labels; CoFT+ contrasts instances."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray

from clipjax.methods.coft.algorithm import accepted_cross_entropy, ema, enqueue, moco_loss
from clipjax.models.clip import CLIP, Params, unit
from clipjax.models.config import ViTConfig
from clipjax.parallel.mesh import rows
from clipjax.training.partition import join, split

HeadInput = Literal["pooled", "projected"]

NOBODY = -1
"""The image of a key that is none."""


@dataclasses.dataclass(frozen=True)
class TuneStep:
    """The objective of a stage that trains an image tower and a head.

    A batch has `images`, `labels` and `accepted`; with `contrast` also `keys`, another view of the same images, and
    `owners`, numbers that tell images apart. `frozen` holds the other image `params` and, with `contrast`,
    `contrast_weight`, `momentum` and `temperature`. The carry then holds the tower's moving `average`, and the ring of
    keys that `initial_queue` makes.
    """

    model: CLIP
    mesh: Mesh = dataclasses.field(repr=False)
    head_input: HeadInput = "pooled"
    contrast: bool = False

    def __call__(self, trainable: Any, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any):
        """Return the loss, how the head does on the accepted rows, and the moved average and queue."""
        features = self._features(join(trainable["tower"], frozen["params"]), batch["images"])
        head = trainable["head"]
        logits = jnp.matmul(features, head["weights"].T, precision=jax.lax.Precision.HIGHEST) + head["bias"]
        accepted = batch["accepted"]
        loss = accepted_cross_entropy(logits, batch["labels"], accepted)
        right = jnp.sum(accepted & (logits.argmax(1) == batch["labels"])) / jnp.maximum(jnp.sum(accepted), 1)
        metrics = {"loss_accepted": loss, "agreement": right, "accepted": jnp.mean(accepted.astype(jnp.float32))}
        if not self.contrast:
            return loss, (metrics, carry)
        # cut off here, or the backward pass would keep what it never uses of the keys' forward pass
        average = ema(carry["average"], jax.lax.stop_gradient(trainable["tower"]), frozen["momentum"])
        keys = unit(self._features(join(average, frozen["params"]), batch["keys"]))
        contrasted = moco_loss(
            features,
            keys,
            carry["queue"],
            temperature=frozen["temperature"],
            left_out=carry["owners"][None, :] == batch["owners"][:, None],
        )
        queue, pointer = enqueue(carry["queue"], carry["pointer"], keys)
        owners, _ = enqueue(carry["owners"], carry["pointer"], batch["owners"])
        carry = {"average": average, "queue": queue, "owners": owners, "pointer": pointer}
        return loss + frozen["contrast_weight"] * contrasted, ({**metrics, "loss_contrast": contrasted}, carry)

    def _features(self, params: Params, images: Array) -> Float[Array, "batch features"]:
        model = self.model.replace(rows=rows(self.mesh))
        pooled = model.image_features(params, images).pooled
        return pooled if self.head_input == "pooled" else model.project_image(params, pooled)


def image_side(params: Params) -> Params:
    """Take the params of the image tower and its projection."""
    return {name: params[name] for name in ("vision", "image_projection") if name in params}


def divided(params: Params, patterns: tuple[str, ...], head_input: HeadInput) -> tuple[Params, Params]:
    """Return what is trained of the image side, by patterns on paths, and what is not.

    A projection that nothing reads is left out of both.
    """
    side = image_side(params)
    return split(side if head_input == "projected" else {"vision": side["vision"]}, patterns)


def feature_count(model: CLIP, head_input: HeadInput) -> int:
    """Count the features that a head reads."""
    vision, dim = model.config.vision, model.config.embed_dim
    pooled = vision.width if isinstance(vision, ViTConfig) else vision.features if vision else 0
    return pooled if head_input == "pooled" or dim is None else dim


def random_head(key: PRNGKeyArray, classes: int, features: int) -> Params:
    """Draw a head to start from, as PyTorch's linear layers do: evenly, up to one over the root of the features."""
    bound = features**-0.5
    drawn = jax.random.uniform(key, (classes, features + 1), jnp.float32, -bound, bound)
    return {"weights": drawn[:, 1:], "bias": drawn[:, 0]}


def text_head(texts: Float[Array, "classes dim"], params: Params, head_input: HeadInput) -> Params:
    """Start a head from class embeddings: it scores what the projection makes of an image by them."""
    head = {"weights": texts.astype(jnp.float32), "bias": jnp.zeros(len(texts), jnp.float32)}
    weights, bias = on_pooled(head, params, "projected") if head_input == "pooled" else head.values()
    return {"weights": weights, "bias": bias}


def on_pooled(
    head: Params, params: Params, head_input: HeadInput
) -> tuple[Float[Array, "classes width"], Float[Array, " classes"]]:
    """Write a head, whichever features it reads, as one that reads pooled ones: weights and bias."""
    weights, bias = head["weights"], head["bias"]
    projection = params.get("image_projection")
    if head_input == "pooled" or projection is None:
        return weights, bias
    if "bias" in projection:
        bias = bias + weights @ projection["bias"]
    return weights @ projection["kernel"].T, bias


def initial_queue(key: PRNGKeyArray, size: int, features: int) -> dict[str, Array]:
    """Make a ring of random keys that belong to no image."""
    return {
        "queue": unit(jax.random.normal(key, (size, features), jnp.float32)),
        "owners": jnp.full(size, NOBODY, jnp.int32),
        "pointer": jnp.zeros((), jnp.int32),
    }


def queue_size(wanted: int, images: int, batch_size: int) -> int:
    """Say how long the queue is: at most half as many keys as images, and no less than a batch."""
    return max(batch_size, min(wanted, images // 2))
