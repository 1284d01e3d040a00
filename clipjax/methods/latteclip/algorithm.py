"""One step of LatteCLIP as pure functions of unit embeddings (Cao et al., arXiv 2410.08211, and its released code).

Each class owns a prototype. The texts of an image are blended by how clearly each points to one prototype; the image
is trained towards its class's prototype moved a little towards the blend, and the prototype moves with it.
This is done for two labels of each image: the zero-shot one, fixed, and what the current model says.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from clipjax.losses import clip_loss
from clipjax.models.clip import cosines, unit

Mode = Literal["intended", "released"]
TextKind = Literal["class", "image", "group"]
Branch = Literal["finetuned", "zero_shot"]
PairLoss = Callable[[Array, Array, Array], Array]

LEAST_WEIGHT = 1e-6


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a step does; the defaults are the paper's.

    `mode` "released" computes what the published code does: the class text's weight multiplies features in
    place of samples, which needs batches as large as the embedding, and the zero-shot branch is weighted with the
    other's. `texts` are blended; `branches` count in the loss and in the prototypes. The blend is not scaled to unit
    length unless `renormalize`.
    """

    mode: Mode = "intended"
    texts: tuple[TextKind, ...] = ("class", "image", "group")
    branches: tuple[Branch, ...] = ("finetuned", "zero_shot")
    renormalize: bool = False


def mixer_weights(
    embeddings: Float[Array, "texts dim"], prototypes: Float[Array, "classes dim"]
) -> Float[Array, " texts"]:
    """Weigh texts by how much nearer each is to its best prototype than to the second best (no temperature).

    A constant to the gradient.
    """
    best = jax.lax.top_k(cosines(jax.lax.stop_gradient(embeddings), prototypes), 2)[0]
    return best[:, 0] - best[:, 1] + LEAST_WEIGHT


def objective(
    images: Float[Array, "batch dim"],
    class_texts: Float[Array, "classes dim"],
    captions: Float[Array, "batch dim"],
    group_captions: Float[Array, "batch dim"],
    zero_shot: Int[Array, " batch"],
    prototypes: Float[Array, "classes dim"],
    reference: Float[Array, "classes dim"],
    *,
    alpha: float | Float[Array, ""],
    logit_scale: float | Float[Array, ""],
    mode: Mode = "intended",
    rules: Rules | None = None,
    pair_loss: PairLoss | None = None,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Compute the loss of a batch and the prototypes after it.

    Args:
      images, class_texts, captions, group_captions: unit embeddings; gradients go into all of them.
      zero_shot: the labels of the model that training started from.
      reference: the prototypes that texts are weighed against: those at the start of the epoch.
      alpha: how far targets and prototypes move towards the texts.
      rules: other ways to do it; `mode` is for calls without.
      pair_loss: of images, texts and scale; by default `clip_loss` on one device.

    Returns:
      The loss, and `prototypes`, `labels` (the fine-tuned ones), `loss_finetuned`, `loss_zero_shot`, and
      `weights` [batch, 3] of class, image and group text in the branch of the fine-tuned labels.

    Raises:
      ValueError: in released mode, a batch of another size than the embedding.
    """
    rules = Rules(mode=mode) if rules is None else rules
    if rules.mode == "released" and images.shape[0] != images.shape[1]:
        raise ValueError(
            f"a batch of {images.shape[0]} and embeddings of {images.shape[1]}: what the released code computes needs "
            "them equal; change the batch size, or use mode='intended'"
        )
    if pair_loss is None:
        pair_loss = lambda image, text, scale: clip_loss(image, text, scale, normalize=False)
    finetuned = jnp.argmax(cosines(jax.lax.stop_gradient(images), unit(prototypes)), axis=1)
    labels: dict[Branch, Array] = {"finetuned": finetuned, "zero_shot": zero_shot}
    margins = {
        "class": mixer_weights(class_texts, reference),
        "image": mixer_weights(captions, reference),
        "group": mixer_weights(group_captions, reference),
    }
    weights = {kind: margin * (kind in rules.texts) for kind, margin in margins.items()}
    losses: dict[str, Array] = {}
    targets: dict[Branch, Array] = {}
    for branch, label in labels.items():
        scales = _class_scales(weights["class"], label, finetuned, rules.mode)
        own = weights["class"][label]
        mixed = _mixed(scales * class_texts[label], captions, group_captions, weights, own)
        mixed = unit(mixed) if rules.renormalize else mixed
        targets[branch] = prototypes[label] + alpha * (mixed - prototypes[label])
        losses[branch] = pair_loss(images, targets[branch], jnp.asarray(logit_scale, jnp.float32))
    loss = sum((losses[branch] for branch in rules.branches), jnp.float32(0))
    moved = _moved(prototypes, [(labels[branch], targets[branch]) for branch in rules.branches])
    shown = jnp.stack([weights["class"][finetuned], weights["image"], weights["group"]], axis=1)
    named = {f"loss_{branch}": value for branch, value in losses.items()}
    return loss, {"prototypes": moved, "labels": finetuned, "weights": shown, **named}


def _class_scales(
    weights: Float[Array, " classes"], label: Int[Array, " batch"], finetuned: Int[Array, " batch"], mode: Mode
) -> Float[Array, "..."]:
    """Return what multiplies the class text of each sample; in released mode it multiplies features."""
    return weights[finetuned][None, :] if mode == "released" else weights[label][:, None]


def _mixed(
    scaled_class_texts: Float[Array, "batch dim"],
    captions: Float[Array, "batch dim"],
    group_captions: Float[Array, "batch dim"],
    weights: dict[str, Array],
    class_weight: Float[Array, " batch"],
) -> Float[Array, "batch dim"]:
    image, group = weights["image"][:, None], weights["group"][:, None]
    return (scaled_class_texts + image * captions + group * group_captions) / (class_weight[:, None] + image + group)


def _moved(
    prototypes: Float[Array, "classes dim"], labelled: list[tuple[Int[Array, " batch"], Float[Array, "batch dim"]]]
) -> Float[Array, "classes dim"]:
    """Replace each class that occurs by the mean of its targets, scaled to unit length."""
    labels = jnp.concatenate([label for label, _ in labelled])
    targets = jax.lax.stop_gradient(jnp.concatenate([target for _, target in labelled]))
    count = len(prototypes)
    sums = jax.ops.segment_sum(targets, labels, count)
    occurs = jax.ops.segment_sum(jnp.ones_like(labels), labels, count) > 0
    # the mean and the sum have the same direction
    return jnp.where(occurs[:, None], unit(jnp.where(occurs[:, None], sums, 1.0)), prototypes)
