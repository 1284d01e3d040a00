"""Move a model to another image size by interpolating its learned positions.

The weights of the image tower do not depend on the image size except for its positions, one for
each cell of a square grid and one for the class token (or a ResNet's mean).
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from clipjax.errors import ConfigError
from clipjax.models.clip import CLIP, Params
from clipjax.models.config import ResNetConfig


def resize_positions(model: CLIP, params: Params, image_size: int) -> tuple[CLIP, Params]:
    """Return the model for images of another size, with its position embeddings interpolated.

    The interpolation is the one of transformers' `interpolate_pos_encoding=True`: bicubic with
    a = -0.75, without antialiasing, half-pixel centres, edges repeated. The class token's own
    position is kept. Where the grid stays the same, so do the numbers. Params are not changed in
    place; all but the positions are shared with the result.

    Raises:
      ConfigError: there is no image tower, the tower cannot have this size, or the params are
        not this model's.
    """
    vision = model.config.vision
    if vision is None:
        raise ConfigError("this checkpoint has no image tower, so no positions to resize")
    model.check_params(params)
    resized = dataclasses.replace(vision, image_size=image_size)
    moved = model.replace(config=dataclasses.replace(model.config, vision=resized))
    if resized.grid == vision.grid:
        return moved, params
    tower = dict(params["vision"])
    if isinstance(vision, ResNetConfig):
        pool = dict(tower["attention_pool"])
        pool["position_embedding"] = _interpolate(pool["position_embedding"], vision.grid, resized.grid)
        tower["attention_pool"] = pool
    else:
        tower["position_embedding"] = _interpolate(tower["position_embedding"], vision.grid, resized.grid)
    return moved, {**params, "vision": tower}


def _interpolate(positions: Float[Array, "rows width"], old: int, new: int) -> Float[Array, "resized width"]:
    """Interpolate all rows but the first, which belongs to no place of the grid."""
    width = positions.shape[1]
    # bfloat16 would round the interpolation's own weights
    cells = positions[1:].reshape(old, old, width).astype(jnp.promote_types(positions.dtype, jnp.float32))
    method = jax.image.ResizeMethod.CUBIC_PYTORCH
    cells = jax.image.resize(cells, (new, new, width), method, antialias=False, precision=jax.lax.Precision.HIGHEST)
    return jnp.concatenate([positions[:1], cells.reshape(new * new, width).astype(positions.dtype)])
