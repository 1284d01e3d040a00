"""What CLIP's image tower says of an image: all its tokens, and the embedding in the shared space."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from clipjax.data.source import ImageSource
from clipjax.data.views import eval_view
from clipjax.errors import ConfigError
from clipjax.models.clip import CLIP, Params, unit
from clipjax.models.config import ViTConfig
from clipjax.training.run import Run
from clipjax.weights.fingerprint import fingerprint


class VisualFeatures(NamedTuple):
    """`tokens` as they leave the last block, the class token first; `embeddings` of unit length."""

    tokens: Float[np.ndarray, "images tokens features"]
    embeddings: Float[np.ndarray, "images dim"]


def visual_features(
    model: CLIP, params: Params, source: ImageSource, run: Run, *, batch_size: int = 64
) -> VisualFeatures:
    """Run a frozen image tower over all images, once: another stage, or the run started again, finds the result.

    Raises:
      ConfigError: the model has no vision transformer.
      DataError: an image cannot be decoded.
    """
    clip = model.config
    if not isinstance(clip.vision, ViTConfig):
        raise ConfigError("captioning maps the tokens of a vision transformer; this model has none")

    @jax.jit
    def encode(images):
        features = model.image_features(params, images)
        embeddings = unit(model.project_image(params, features.pooled))
        # one row for each image: the cache knows no pairs of arrays
        return jnp.concatenate([features.tokens.reshape(len(images), -1), embeddings], axis=1)

    rows = run.embed(
        source,
        encode,
        eval_view(clip.image_size, clip.mean, clip.std, clip.preprocessing),
        weights=f"tokens and embedding {fingerprint(params)} {model!r}",
        batch_size=batch_size,
    )
    width = clip.vision.width
    size = (clip.vision.grid**2 + 1) * width
    return VisualFeatures(rows[:, :size].reshape(len(rows), -1, width), rows[:, size:])
