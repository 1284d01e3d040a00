"""LatteCLIP's training step: encode images and texts, blend, compare, move the prototypes."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from clipjax.classify.classifier import mean_class_weights
from clipjax.losses import ClipLossOverMesh
from clipjax.methods.latteclip.algorithm import Rules, objective
from clipjax.methods.latteclip.watch import Stopping, agreement_so_far, watch
from clipjax.methods.text_pools import drawn
from clipjax.models.clip import CLIP, unit
from clipjax.parallel.mesh import rows
from clipjax.training.partition import join

Reference = Literal["epoch", "current"]


@dataclasses.dataclass(frozen=True)
class LatteStep:
    """The objective of a stage.

    `frozen` holds `params`, `alpha`, the token `prompts` of all classes in order, and the pools `captions` (by image)
    and `groups` (by class). A batch has `images`, `indices` and zero-shot `labels`. The carry holds the `prototypes`,
    those at the start of the epoch (`reference`) and those of the beginning (`first`), and what is `watched`.
    """

    model: CLIP
    mesh: Mesh = dataclasses.field(repr=False)
    rules: Rules
    prompts_per_class: tuple[int, ...]
    steps_per_epoch: int
    reference: Reference = "epoch"
    stopping: Stopping = Stopping()

    def __call__(self, trainable: Any, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any):
        """Return the loss, what can be watched without labels, and the prototypes."""
        params = join(trainable, frozen["params"])
        spread = self.model.replace(rows=rows(self.mesh))
        images = unit(spread.encode_image(params, batch["images"]))
        # every class once, whichever the batch holds: the same numbers and gradients as text by text
        prompts = self.model.encode_text(params, frozen["prompts"])
        class_texts = mean_class_weights(prompts, self.prompts_per_class)
        image_key, group_key = jax.random.split(rng)
        captions, groups = (
            self._texts(spread, params, kind, frozen[pool], owners, key, images)
            for kind, pool, owners, key in (
                ("image", "captions", batch["indices"], image_key),
                ("group", "groups", batch["labels"], group_key),
            )
        )
        prototypes = carry["prototypes"]
        epoch = jnp.asarray(step, jnp.int32) // self.steps_per_epoch
        reference = jnp.where(carry["watched"]["epoch"] != epoch, prototypes, carry["reference"])
        scale = jnp.exp(params["logit_scale"].astype(jnp.float32))
        loss, out = objective(
            images,
            class_texts,
            captions,
            groups,
            batch["labels"],
            prototypes,
            prototypes if self.reference == "current" else reference,
            alpha=frozen["alpha"],
            logit_scale=scale,
            rules=self.rules,
            pair_loss=ClipLossOverMesh(self.mesh, normalize=False),
        )
        moved, shares = out["prototypes"], _shares(out["weights"])
        signs = {
            "agreement": jnp.mean(out["labels"] == batch["labels"]),
            "drift": 1 - jnp.mean(jnp.sum(moved * carry["first"], axis=1)),
            "mixer_entropy": _entropy(shares, len(self.rules.texts)),
        }
        ends = (step + 1) % self.steps_per_epoch == 0
        watched = watch(carry["watched"], **signs, epoch=epoch, epoch_ends=ends, stopping=self.stopping)
        metrics = {
            "logit_scale": scale,
            **signs,
            "epoch_agreement": agreement_so_far(watched),
            "loss_finetuned": out["loss_finetuned"],
            "loss_zero_shot": out["loss_zero_shot"],
            **{f"mixer_{kind}": jnp.mean(shares[:, place]) for place, kind in enumerate(("class", "image", "group"))},
        }
        kept = {"prototypes": moved, "reference": reference, "first": carry["first"], "watched": watched}
        return loss, (metrics, kept)

    def _texts(self, model: CLIP, params: Any, kind: Any, pool: Any, owners: Array, key: Array, like: Array) -> Array:
        if kind not in self.rules.texts:
            return jnp.zeros_like(like)
        return unit(model.encode_text(params, drawn(pool, owners, key)))


def _shares(weights: Float[Array, "batch texts"]) -> Float[Array, "batch texts"]:
    """Say which part each text has in the blend of an image."""
    return weights / jnp.maximum(jnp.sum(weights, axis=1, keepdims=True), 1e-12)


def _entropy(shares: Float[Array, "batch texts"], kinds: int) -> Float[Array, ""]:
    """Say how evenly so many kinds of texts are blended: 0 where one counts alone, 1 where all do alike, or are one."""
    if kinds == 1:
        return jnp.ones(())
    logarithms = jnp.where(shares > 0, jnp.log(jnp.maximum(shares, 1e-12)), 0.0)
    return jnp.mean(-jnp.sum(shares * logarithms, axis=1)) / jnp.log(float(kinds))
