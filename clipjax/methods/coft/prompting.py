"""Phase I of CoFT: a frozen CLIP learns visual prompts and two contexts, one to believe a class and one to doubt it."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray

from clipjax.data.source import ImageSource
from clipjax.data.views import EvalView
from clipjax.errors import ConfigError
from clipjax.methods.coft.algorithm import Detached, draw_complements, prompt_loss
from clipjax.methods.learned_contexts import class_embeddings, random_contexts
from clipjax.models.clip import CLIP, Params, unit
from clipjax.models.config import ViTConfig
from clipjax.parallel.mesh import rows
from clipjax.parallel.spread import spread
from clipjax.training.run import Run
from clipjax.weights.fingerprint import fingerprint

Prompts = dict[str, Any]
"""`contexts` [2, M, width], the positive first, and, unless there are none, `visual_prompts` [layers, count, width]."""


def initial_prompts(model: CLIP, key: PRNGKeyArray, contexts: int, visual_prompts: int) -> Prompts:
    """Draw prompts to start from: contexts as token embeddings start, visual prompts as VPT's (arXiv 2203.12119).

    Raises:
      ConfigError: visual prompts for a model that has no vision transformer.
    """
    text_key, image_key = jax.random.split(key)
    prompts: Prompts = {"contexts": random_contexts(model, text_key, 2, contexts)}
    if visual_prompts:
        vision = model.config.vision
        if not isinstance(vision, ViTConfig):
            raise ConfigError("visual prompts need a vision transformer; set visual_prompts=0 for a ResNet")
        bound = (6 / (3 * vision.patch_size**2 + vision.width)) ** 0.5
        shape = (vision.layers, visual_prompts, vision.width)
        prompts["visual_prompts"] = jax.random.uniform(image_key, shape, jnp.float32, -bound, bound)
    return prompts


@dataclasses.dataclass(frozen=True)
class PromptStep:
    """The objective of a stage that trains prompts.

    `frozen` holds the model's `params`, the classes' `tokens` and the `weight` of the second loss. A batch has `images`
    and `labels`. Each class is read twice a step, however many images there are.
    """

    model: CLIP
    mesh: Mesh = dataclasses.field(repr=False)
    detached: Detached = "nothing"
    text_parts: int | None = None

    def __call__(self, trainable: Any, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any):
        """Return the loss, and what its parts say."""
        params, labels = frozen["params"], batch["labels"]
        model = self.model.replace(rows=rows(self.mesh))
        prompts = trainable.get("visual_prompts")
        images = unit(model.encode_image(params, batch["images"], visual_prompts=prompts))
        texts = class_embeddings(model, params, frozen["tokens"], trainable["contexts"], parts=self.text_parts)
        loss, parts = prompt_loss(
            images,
            texts,
            labels,
            draw_complements(rng, labels, texts.shape[1]),
            scale=jnp.exp(params["logit_scale"].astype(jnp.float32)),
            weight=frozen["weight"],
            detached=self.detached,
        )
        return loss, (parts, carry)


class Prompted(NamedTuple):
    """A prompted model and what it makes of all images; everything of unit length."""

    prompts: Prompts
    texts: Float[Array, "2 classes dim"]
    images: Float[np.ndarray, "images dim"]


def read_with(
    prompts: Prompts,
    model: CLIP,
    params: Params,
    tokens: Int[np.ndarray, "classes length"],
    source: ImageSource,
    run: Run,
    *,
    weights: str,
    mesh: Mesh,
    batch_size: int,
    text_parts: int | None = None,
) -> Prompted:
    """Embed classes and images with learned prompts, the images as they are measured, once in a run.

    `weights` is the fingerprint of the params. The images of a batch are spread over the devices of the mesh. Without
    visual prompts images are the same for all prompts, and embedded once.

    Raises:
      DataError: an image cannot be decoded.
    """
    clip = model.config
    read = {name: prompts[name] for name in ("visual_prompts",) if name in prompts}
    encode = lambda known, images: model.encode_image(known[0], images, **known[1])
    embedded = run.embed(
        source,
        spread(encode, (params, read), mesh),
        EvalView(clip.image_size, clip.mean, clip.std, clip.preprocessing),
        weights=f"{weights} {model!r} {fingerprint(read)}",
        batch_size=batch_size,
    )
    texts = class_embeddings(model, params, tokens, prompts["contexts"], parts=text_parts)
    return Prompted(prompts, texts, embedded / np.linalg.norm(embedded, axis=1, keepdims=True))
