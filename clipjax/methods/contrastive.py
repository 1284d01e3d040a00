"""What pretraining and fine-tuning minimise: the contrastive loss of images and their captions."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Int

from clipjax.losses import ClipLossOverMesh, SiglipLossOverMesh
from clipjax.losses.pairing import EqualIds
from clipjax.models.clip import CLIP, Params
from clipjax.parallel.mesh import rows
from clipjax.training.microbatch import in_microbatches
from clipjax.training.partition import join

LARGEST_LOGIT_SCALE = math.log(100)


@dataclasses.dataclass(frozen=True)
class Contrastive:
    """The loss of a batch of `images` and `tokens`, spread over a mesh.

    Rows of equal `pair_ids` (of equal captions, where a batch has none) are no negatives of each
    other; with `equal_ids="share"` they are each other's positives. Large batches with all
    negatives: `microbatches` encodes so many parts one after the other, `chunk` bounds how many
    texts the loss compares at a time. "siglip" needs `logit_bias` among the params.
    """

    model: CLIP
    mesh: Mesh = dataclasses.field(repr=False)  # where it runs is not what it computes
    loss: Literal["clip", "siglip"] = "clip"
    equal_ids: EqualIds = "ignore"
    chunk: int | None = None
    microbatches: int = 1

    def __call__(self, trainable: Params, frozen: Params, carry: Any, batch: dict[str, Array], rng: Any, step: Any):
        """Return the loss, and as metrics the logit scale."""
        params = join(trainable, frozen)
        # inside microbatches each device works by itself
        model = self.model.replace(rows=rows(self.mesh)) if self.microbatches == 1 else self.model
        image = self._encoded(model.encode_image, params, batch["images"])
        text = self._encoded(model.encode_text, params, batch["tokens"])
        ids = batch["pair_ids"] if "pair_ids" in batch else caption_ids(batch["tokens"])
        scale = jnp.exp(params["logit_scale"].astype(jnp.float32))
        if self.loss == "clip":
            loss = ClipLossOverMesh(self.mesh, equal_ids=self.equal_ids, chunk=self.chunk)
            value = loss(image, text, scale, ids=ids)
        else:
            loss = SiglipLossOverMesh(self.mesh, equal_ids=self.equal_ids, chunk=self.chunk)
            value = loss(image, text, scale, params["logit_bias"], ids=ids)
        return value, ({"logit_scale": scale}, carry)

    def _encoded(self, encode: Callable[[Params, Array], Array], params: Params, rows: Array) -> Array:
        if self.microbatches == 1:
            return encode(params, rows)
        return in_microbatches(encode, params, rows, self.microbatches, mesh=self.mesh)


def caption_ids(tokens: Int[Array, "batch length"]) -> Int[Array, " batch"]:
    """Number captions so that equal ones have equal numbers (a 32-bit hash: different ones hardly ever do)."""
    place = jnp.arange(tokens.shape[1], dtype=jnp.uint32)
    mixed = (tokens.astype(jnp.uint32) + 1) * (place * jnp.uint32(0x9E3779B1) | 1)
    mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0xC2B2AE35)
    return jax.lax.bitcast_convert_type(jnp.sum(mixed ^ (mixed >> 13), axis=1, dtype=jnp.uint32), jnp.int32)


def clamp_logit_scale(trainable: Params) -> Params:
    """Keep the temperature from falling below a hundredth, as OpenAI did in training."""
    if "logit_scale" not in trainable:
        return trainable
    return trainable | {"logit_scale": jnp.minimum(trainable["logit_scale"], LARGEST_LOGIT_SCALE)}
