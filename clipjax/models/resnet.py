"""OpenAI's ModifiedResNet: a three-convolution stem, anti-aliased bottlenecks, attention pooling.

Batch norm is in inference mode: its statistics are parameters like any other, and nothing here updates them.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from clipjax.models.config import ResNetConfig
from clipjax.models.initial import Rngs, constant, lecun, normal
from clipjax.models.layers import attend, linear
from clipjax.models.vision import Features

BATCH_NORM_EPS = 1e-5


def average_pool(x: Float[Array, "batch h w c"], size: int) -> Float[Array, "batch h2 w2 c"]:
    """Average over `size` x `size` windows; rows and columns beyond the last whole window are dropped."""
    if size == 1:
        return x
    return nnx.avg_pool(x, (size, size), strides=(size, size))


def convolution(n_in: int, n_out: int, size: int, *, stride: int = 1, dtype, rngs: Rngs) -> nnx.Conv:
    """Build a convolution without bias, padded as PyTorch pads an odd size."""
    pad = (size // 2, size // 2)
    start: dict[str, Any] = {"kernel_init": lecun((-2,)), "rngs": rngs}
    return nnx.Conv(n_in, n_out, (size, size), strides=stride, padding=(pad, pad), use_bias=False, dtype=dtype, **start)


class BatchNorm(nnx.Module):
    """Scale and shift by running statistics, in float32."""

    def __init__(self, channels: int, *, scale: float = 1.0, rngs: Rngs):
        zeros, ones = constant(0.0), constant(1.0)  # which draw no numbers, and so take no key of rngs
        self.scale = nnx.Param(constant(scale)(rngs, (channels,)))
        self.bias = nnx.Param(zeros(rngs, (channels,)))
        self.mean = nnx.Param(zeros(rngs, (channels,)))
        self.var = nnx.Param(ones(rngs, (channels,)))

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch h w c"]:
        scale = self.scale[...] * jax.lax.rsqrt(self.var[...] + BATCH_NORM_EPS)
        return (x * scale + (self.bias[...] - self.mean[...] * scale)).astype(x.dtype)


class Bottleneck(nnx.Module):
    """1x1, 3x3, 1x1 convolutions; a stride is an average pooling after the second and before the shortcut's."""

    def __init__(self, n_in: int, planes: int, stride: int, *, dtype, rngs: Rngs):
        self.stride = stride
        n_out = planes * 4
        self.conv1 = convolution(n_in, planes, 1, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(planes, rngs=rngs)
        self.conv2 = convolution(planes, planes, 3, dtype=dtype, rngs=rngs)
        self.bn2 = BatchNorm(planes, rngs=rngs)
        self.conv3 = convolution(planes, n_out, 1, dtype=dtype, rngs=rngs)
        self.bn3 = BatchNorm(n_out, scale=0.0, rngs=rngs)  # training starts with the shortcuts alone
        self.has_downsample = stride > 1 or n_in != n_out
        if self.has_downsample:
            self.downsample_conv = convolution(n_in, n_out, 1, dtype=dtype, rngs=rngs)
            self.downsample_bn = BatchNorm(n_out, rngs=rngs)

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch h2 w2 c4"]:
        out = jax.nn.relu(self.bn1(self.conv1(x)))
        out = jax.nn.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(average_pool(out, self.stride)))
        if self.has_downsample:
            x = self.downsample_bn(self.downsample_conv(average_pool(x, self.stride)))
        return jax.nn.relu(out + x)


class AttentionPool(nnx.Module):
    """Attend from the mean of all positions to the mean and the positions; the output projection is separate."""

    def __init__(self, config: ResNetConfig, *, dtype, rngs: Rngs):
        self.heads = config.heads
        self.dtype = dtype
        width = config.features
        start = normal(width**-0.5)
        self.position_embedding = nnx.Param(start(rngs.params(), (config.grid**2 + 1, width)))
        self.query = linear(width, width, width**-0.5, dtype, rngs)
        self.key = linear(width, width, width**-0.5, dtype, rngs)
        self.value = linear(width, width, width**-0.5, dtype, rngs)

    def __call__(self, positions: Float[Array, "batch n width"]) -> Float[Array, "batch width"]:
        tokens = jnp.concatenate([positions.mean(axis=1, keepdims=True), positions], axis=1)
        tokens = tokens + self.position_embedding[...].astype(self.dtype)
        batch, n, width = tokens.shape
        query = self.query(tokens[:, :1]).reshape(batch, 1, self.heads, -1)
        key, value = (f(tokens).reshape(batch, n, self.heads, -1) for f in (self.key, self.value))
        return attend(query, key, value).reshape(batch, width)


class ModifiedResNet(nnx.Module):
    """CLIP's convolutional image tower without its projection. Blocks are named `stage1_block0` and so on."""

    def __init__(self, config: ResNetConfig, *, dtype=jnp.float32, rngs: Rngs):
        self.dtype = dtype
        half = config.width // 2
        self.conv1 = convolution(3, half, 3, stride=2, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(half, rngs=rngs)
        self.conv2 = convolution(half, half, 3, dtype=dtype, rngs=rngs)
        self.bn2 = BatchNorm(half, rngs=rngs)
        self.conv3 = convolution(half, config.width, 3, dtype=dtype, rngs=rngs)
        self.bn3 = BatchNorm(config.width, rngs=rngs)
        self.block_names = tuple(
            f"stage{stage}_block{block}" for stage in range(1, 5) for block in range(config.blocks[stage - 1])
        )
        n_in = config.width
        for name in self.block_names:
            stage, first = int(name[5]), name.endswith("_block0")
            planes = config.width * 2 ** (stage - 1)
            stride = 2 if first and stage > 1 else 1
            setattr(self, name, Bottleneck(n_in, planes, stride, dtype=dtype, rngs=rngs))
            n_in = planes * 4
        self.attention_pool = AttentionPool(config, dtype=dtype, rngs=rngs)

    def __call__(self, images: Float[Array, "batch height width 3"]) -> Features:
        x = images.astype(self.dtype)
        for convolve, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = jax.nn.relu(norm(convolve(x)))
        x = average_pool(x, 2)
        for name in self.block_names:
            x = getattr(self, name)(x)
        positions = x.reshape(x.shape[0], -1, x.shape[-1])
        return Features(positions, self.attention_pool(positions))
