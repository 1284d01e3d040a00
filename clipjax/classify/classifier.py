"""What comes out of every method: something that scores images against class names."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from clipjax.classify.heads import TEXT_SIDE, Head
from clipjax.models.clip import CLIP, Params, unit


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """A CLIP and one vector for each class, of length one unless the head was fitted; then it may have a `bias`.

    `provenance` says in plain values how it came about; it is stored with results. `visual_prompts` are learned
    tokens of the image tower. A head on "pooled" `features`, those before the projection, is linear: no cosines, and
    no logit scale. A `head` that a method learned says how embeddings and class weights become scores.
    """

    model: CLIP
    params: Params
    class_names: tuple[str, ...]
    class_weights: Float[Array, "classes dim"]
    provenance: dict[str, object] = dataclasses.field(default_factory=dict)
    bias: Float[Array, " classes"] | None = None
    visual_prompts: Float[Array, "layers prompts width"] | None = None
    features: Literal["embedding", "pooled"] = "embedding"
    head: Head | None = None

    def embed(self, images: Float[Array, "batch height width 3"]) -> Float[Array, "batch dim"]:
        """Compute of normalised images what `scores_of` takes."""
        if self.features == "pooled":
            return self.model.image_features(self.params, images, visual_prompts=self.visual_prompts).pooled
        return self.model.encode_image(self.params, images, visual_prompts=self.visual_prompts)

    def scores(self, images: Float[Array, "batch height width 3"]) -> Float[Array, "batch classes"]:
        """Score normalised images: cosine to each class weight, times exp(logit_scale), plus the bias."""
        return self.scores_of(self.embed(images))

    def scores_of(self, embeddings: Float[Array | np.ndarray, "batch dim"]) -> Float[Array, "batch classes"]:
        """Score image embeddings, which need not be normalised."""
        if self.head is not None:
            needed = {name: part for name, part in self.params.items() if name in TEXT_SIDE}
            scores = _by_head(self.head, self.model, needed, embeddings, self.class_weights)
        elif self.features == "pooled":
            scores = _products(jnp.asarray(embeddings, jnp.float32), self.class_weights)
        else:
            scores = _scores(self.params["logit_scale"], embeddings, self.class_weights)
        return scores if self.bias is None else scores + self.bias

    def with_dtype(self, dtype: str) -> "Classifier":
        """Return the same classifier with another compute type."""
        return dataclasses.replace(self, model=self.model.replace(dtype=dtype))


@functools.partial(jax.jit, static_argnums=1)
def _by_head(head, model, params, embeddings, class_weights):
    return head.scores(model, params, unit(jnp.asarray(embeddings, jnp.float32)), class_weights)


@jax.jit
def _scores(logit_scale, embeddings, class_weights):
    scale = jnp.exp(logit_scale.astype(jnp.float32))
    rows = unit(jnp.asarray(embeddings, jnp.float32))
    return scale * _products(rows, class_weights)


@jax.jit
def _products(rows, class_weights):
    return jnp.matmul(rows, class_weights.T, precision=jax.lax.Precision.HIGHEST)


def mean_class_weights(
    embeddings: Float[Array | np.ndarray, "texts dim"], counts: Sequence[int]
) -> Float[Array, "classes dim"]:
    """Average each class's unit text embeddings and normalise again (the prompt ensemble of the CLIP paper).

    `counts` says how many consecutive rows belong to each class.
    """
    classes = jnp.repeat(jnp.arange(len(counts)), jnp.asarray(counts), total_repeat_length=len(embeddings))
    sums = jax.ops.segment_sum(unit(jnp.asarray(embeddings)), classes, num_segments=len(counts))
    return unit(sums)
