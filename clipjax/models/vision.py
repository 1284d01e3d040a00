"""The vision transformer: patches, a class token, positions, blocks."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from clipjax.models.config import ViTConfig
from clipjax.models.initial import Rngs, lecun, normal
from clipjax.models.layers import Remat, layer_norm, run_blocks, stacked_blocks


class Features(NamedTuple):
    """What a tower computes before its projection.

    `tokens` are the states as transformers' `last_hidden_state` has them: of the image tower
    before its last norm, of the text tower after it. `pooled` is what gets projected.
    """

    tokens: Float[Array, "batch tokens width"]
    pooled: Float[Array, "batch width"]


class PatchEmbedding(nnx.Module):
    """A convolution whose stride is its kernel size, done as one matrix product."""

    def __init__(self, config: ViTConfig, *, dtype, rngs: Rngs):
        self.dtype = dtype
        shape = (config.patch_size, config.patch_size, 3, config.width)
        self.kernel = nnx.Param(lecun((0, 1, 2))(rngs.params(), shape))

    def __call__(self, images: Float[Array, "batch height width 3"]) -> Float[Array, "batch patches features"]:
        patch, _, channels, width = self.kernel.shape
        batch, rows, columns = images.shape[0], images.shape[1] // patch, images.shape[2] // patch
        whole = images[:, : rows * patch, : columns * patch].astype(self.dtype)
        patches = whole.reshape(batch, rows, patch, columns, patch, channels).swapaxes(2, 3)
        flat = patches.reshape(batch, rows * columns, patch * patch * channels)
        return flat @ self.kernel[...].astype(self.dtype).reshape(-1, width)


class VisionTransformer(nnx.Module):
    """CLIP's image tower without its projection."""

    def __init__(self, config: ViTConfig, *, dtype=jnp.float32, rngs: Rngs):
        self.dtype = dtype
        start = normal(config.width**-0.5)
        self.patch_embedding = PatchEmbedding(config, dtype=dtype, rngs=rngs)
        self.class_embedding = nnx.Param(start(rngs.params(), (config.width,)))
        self.position_embedding = nnx.Param(start(rngs.params(), (config.grid**2 + 1, config.width)))
        self.pre_norm = layer_norm(config.width, config.layer_norm_eps, dtype, rngs)
        self.blocks = stacked_blocks(config, dtype=dtype, rngs=rngs)
        self.post_norm = layer_norm(config.width, config.layer_norm_eps, dtype, rngs)

    def __call__(
        self,
        images: Float[Array, "batch height width 3"],
        *,
        prompts: Float[Array, "layers prompts features"] | None = None,
        remat: Remat = "none",
        rows: jax.sharding.NamedSharding | None = None,
    ) -> Features:
        patches = self.patch_embedding(images)
        start = jnp.broadcast_to(self.class_embedding[...], (patches.shape[0], 1, patches.shape[2]))
        x = jnp.concatenate([start.astype(self.dtype), patches], axis=1)
        x = self.pre_norm(x + self.position_embedding[...].astype(self.dtype)).astype(self.dtype)
        tokens = run_blocks(self.blocks, x, causal=False, remat=remat, prompts=prompts, rows=rows)
        return Features(tokens, self.post_norm(tokens[:, 0]))
