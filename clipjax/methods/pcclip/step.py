"""What a step of PC-CLIP minimises: sentences against differences of frozen embeddings, gathered by position."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from clipjax.losses import ClipLossOverMesh
from clipjax.losses.similarity import unit_rows
from clipjax.methods.pcclip.algorithm import Kind
from clipjax.models.clip import CLIP, Params
from clipjax.parallel.mesh import rows
from clipjax.training.partition import join


@dataclasses.dataclass(frozen=True)
class DifferenceStep:
    """The objective of a stage that trains a text tower.

    A batch has `first` and `second`, positions of images, and `tokens`. `frozen` holds the unit embeddings of the
    `images`, the text side's other `params`, and the `temperature`. With `delta`, what is trained is the change of the
    weights that `frozen["start"]` holds. With `captions`, `frozen` has tokens of one caption of each image, a
    `caption_weight` and a `caption_temperature`. Without `differences` the first image itself is compared.

    No pair of a batch may lack a difference: such pairs are dropped before training.
    """

    model: CLIP
    mesh: Mesh = dataclasses.field(repr=False)
    kind: Kind = "contrastive"
    delta: bool = True
    differences: bool = True
    captions: bool = False

    def __call__(self, trainable: Params, frozen: Any, carry: Any, batch: dict[str, Array], rng: Any, step: Any):
        """Return the loss; metrics are the mean cosine of what belongs together, and the share that is above zero."""
        params = join(moved(frozen["start"], trainable) if self.delta else trainable, frozen["params"])
        first = frozen["images"][batch["first"]]
        side = first - frozen["images"][batch["second"]] if self.differences else first
        text = self._encoded(params, batch["tokens"])
        if self.kind == "contrastive":
            loss = ClipLossOverMesh(self.mesh)(side, text, 1 / frozen["temperature"])
        else:
            loss = jnp.mean(jnp.square(unit_rows(text) - side))
        cosines = jnp.sum(unit_rows(side) * unit_rows(text), axis=-1)
        metrics = {"cosine": jnp.mean(cosines)}
        if self.differences:
            metrics["difference_accuracy"] = jnp.mean((cosines > 0).astype(jnp.float32))
        if self.captions:
            captions = self._encoded(params, frozen["captions"][batch["first"]])
            # pairs that share their first image have the same caption
            scale = 1 / frozen["caption_temperature"]
            metrics["loss_captions"] = ClipLossOverMesh(self.mesh)(first, captions, scale, ids=batch["first"])
            loss = loss + frozen["caption_weight"] * metrics["loss_captions"]
        return loss, (metrics, carry)

    def _encoded(self, params: Params, tokens: Array) -> Float[Array, "batch dim"]:
        return self.model.replace(rows=rows(self.mesh)).encode_text(params, tokens.astype(jnp.int32))


def moved(start: Params, change: Params) -> Params:
    """Add a change to the weights it is about, in the change's type: narrower weights would swallow it again."""
    return jax.tree.map(lambda weight, delta: weight.astype(delta.dtype) + delta, start, change)


def no_change(start: Params) -> Params:
    """Return the change that changes nothing, in float32 whatever the weights are stored in."""
    return jax.tree.map(lambda weight: jnp.zeros(weight.shape, jnp.float32), start)


def text_side(params: Params) -> Params:
    """Take the params of the text tower and its projection."""
    return {name: params[name] for name in ("text", "text_projection") if name in params}
