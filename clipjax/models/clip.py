"""The public model: a static, hashable description with pure functions of a plain params dict.

    model, params = clipjax.load("ViT-B-32.pt")
    image = model.encode_image(params, images)     # [B, D]
    text = model.encode_text(params, tokens)       # [B, D]

What a method varies is an argument, never a subclass: token embeddings in place of ids, extra
visual tokens for each layer, features before the projection.
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from clipjax.errors import ConfigError
from clipjax.models.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from clipjax.models.initial import Rngs, Shapes
from clipjax.models.layers import Remat, at_least_float32
from clipjax.models.resnet import ModifiedResNet
from clipjax.models.shapes import Params, compare_shapes, named_shapes
from clipjax.models.text import TextTransformer
from clipjax.models.vision import Features, VisionTransformer

_TOWERS = {ViTConfig: VisionTransformer, ResNetConfig: ModifiedResNet, TextConfig: TextTransformer}
_INITIAL_LOGIT_SCALE = 2.6592  # ln(1 / 0.07), the start value of the CLIP paper


def unit(x: Float[Array, "... dim"]) -> Float[Array, "... dim"]:
    """Scale to unit length along the last axis."""
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def cosines(
    rows: Float[Array | np.ndarray, "rows dim"], others: Float[Array | np.ndarray, "others dim"]
) -> Float[Array, "rows others"]:
    """Multiply unit rows at full precision: a scale of 100 would make 0.4 of what accelerators round to bfloat16."""
    return jnp.matmul(rows, others.T, precision=jax.lax.Precision.HIGHEST)


def _build(config, dtype: str, rngs: Rngs):
    return _TOWERS[type(config)](config, dtype=jnp.dtype(dtype), rngs=rngs)


@functools.lru_cache(maxsize=128)
def _abstract_tower(config, dtype: str) -> tuple[nnx.GraphDef, Params]:
    graphdef, state = nnx.split(_build(config, dtype, Shapes()))
    return graphdef, nnx.to_pure_dict(state)


@dataclasses.dataclass(frozen=True)
class CLIP:
    """A CLIP without its numbers.

    `dtype` is the compute type of matrix products ("float32", "bfloat16", "float16", in jax's
    x64 mode also "float64"); norms, softmax and results are float32 or wider. `remat` says what
    the backward pass recomputes: everything but linear layers ("dots", on CPUs also the
    fastest), all ("full"), nothing ("none"). `rows` says on which devices the rows of a batch lie,
    for params that are spread over several.
    """

    config: CLIPConfig
    dtype: str = "float32"
    remat: Remat = "dots"
    rows: jax.sharding.NamedSharding | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self):
        if self.dtype not in ("float32", "bfloat16", "float16", "float64"):
            raise ConfigError(f"compute dtype {self.dtype!r} is not one of float32, bfloat16, float16, float64")
        if self.dtype == "float64" and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
            raise ConfigError("compute dtype float64 needs jax's x64 mode: set JAX_ENABLE_X64=1")
        if self.remat not in ("none", "dots", "full"):
            raise ConfigError(f"remat {self.remat!r} is not one of none, dots, full")

    def replace(self, **changes) -> "CLIP":
        """Return the same model with another `dtype`, `remat` or `config`."""
        return dataclasses.replace(self, **changes)

    @functools.partial(jax.jit, static_argnums=0)
    def encode_image(
        self,
        params: Params,
        images: Float[Array, "batch height width 3"],
        *,
        visual_prompts: Float[Array, "layers prompts features"] | None = None,
    ) -> Float[Array, "batch dim"]:
        """Embed normalised images. The embeddings are projected, not L2-normalised.

        `visual_prompts` are extra tokens for each layer of a vision transformer.

        Raises:
          ConfigError: the model has no image tower, or prompts meet a ResNet.
        """
        return self.project_image(params, self.image_features(params, images, visual_prompts=visual_prompts).pooled)

    @functools.partial(jax.jit, static_argnums=0)
    def encode_text(
        self,
        params: Params,
        tokens: Int[Array, "batch length"],
        *,
        token_embeddings: Float[Array, "batch length width"] | None = None,
    ) -> Float[Array, "batch dim"]:
        """Embed token ids. The embeddings are projected, not L2-normalised.

        Any length up to the context length gives the same result as padding to it.
        `token_embeddings` stand in for the ids' own (learned contexts); `tokens` still say where
        each text ends.

        Raises:
          ConfigError: the model has no text tower.
        """
        return self.project_text(params, self.text_features(params, tokens, token_embeddings=token_embeddings).pooled)

    @functools.partial(jax.jit, static_argnums=0)
    def logits(
        self,
        params: Params,
        images: Float[Array, "images height width 3"],
        tokens: Int[Array, "texts length"],
    ) -> Float[Array, "images texts"]:
        """Cosine similarities of all images and texts, times exp(logit_scale)."""
        if "logit_scale" not in params:
            raise ConfigError("logits need both towers; this checkpoint has one")
        image, text = unit(self.encode_image(params, images)), unit(self.encode_text(params, tokens))
        return jnp.exp(params["logit_scale"].astype(image.dtype)) * (image @ text.T)

    @functools.partial(jax.jit, static_argnums=0)
    def image_features(
        self,
        params: Params,
        images: Float[Array, "batch height width 3"],
        *,
        visual_prompts: Float[Array, "layers prompts features"] | None = None,
    ) -> Features:
        """Run the image tower up to its projection: all tokens, and the pooled state."""
        config = self._part("vision")
        tower = self._tower(config, params["vision"])
        side = config.image_size
        if images.shape[1:] != (side, side, 3):
            raise ConfigError(f"images have shape {images.shape}; this model takes [batch, {side}, {side}, 3]")
        if isinstance(config, ResNetConfig):
            if visual_prompts is not None:
                raise ConfigError("visual prompts need a vision transformer; this model has a ResNet")
            return tower(images)
        return tower(images, prompts=visual_prompts, remat=self.remat, rows=self.rows)

    @functools.partial(jax.jit, static_argnums=0)
    def text_features(
        self,
        params: Params,
        tokens: Int[Array, "batch length"],
        *,
        token_embeddings: Float[Array, "batch length width"] | None = None,
    ) -> Features:
        """Run the text tower up to its projection: all tokens, and the pooled state."""
        config = self._part("text")
        if tokens.shape[1] > config.context_length:
            raise ConfigError(f"texts have {tokens.shape[1]} tokens; this model takes {config.context_length}")
        tower = self._tower(config, params["text"])
        return tower(tokens, token_embeddings=token_embeddings, remat=self.remat, rows=self.rows)

    def embed_tokens(self, params: Params, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length width"]:
        """Look up the embeddings that `encode_text` would use for these ids, without positions."""
        return self._tower(self._part("text"), params["text"]).embed(tokens)

    def project_image(self, params: Params, features: Float[Array, "batch width"]) -> Float[Array, "batch dim"]:
        """Map pooled image features into the shared space (the identity when the model has no projection)."""
        return self._project(params.get("image_projection"), features)

    def project_text(self, params: Params, features: Float[Array, "batch width"]) -> Float[Array, "batch dim"]:
        """Map pooled text features into the shared space (the identity when the model has no projection)."""
        return self._project(params.get("text_projection"), features)

    def init(self, key: PRNGKeyArray) -> Params:
        """Draw parameters to train from.

        Embeddings, text blocks, attention pooling, projections and the bottlenecks' last norms start as
        OpenAI's did. OpenAI left the blocks of the vision transformer, patches and convolutions to
        PyTorch's defaults; here the blocks start as those of the text tower, the rest by LeCun's rule.
        """
        c = self.config
        names = ("vision", "text", "image_projection", "text_projection")
        keys: dict[str, PRNGKeyArray] = dict(zip(names, jax.random.split(key, 4)))
        params: Params = {}
        for name, config in (("vision", c.vision), ("text", c.text)):
            if config is not None:
                tower = _build(config, self.dtype, nnx.Rngs(keys[name]))
                params[name] = nnx.to_pure_dict(nnx.state(tower))
        for name, shapes in self._projections().items():
            n_in = shapes["kernel"].shape[0]
            params[name] = {
                leaf: jax.random.normal(keys[name], s.shape, s.dtype) * n_in**-0.5
                if leaf == "kernel"
                else jnp.zeros(s.shape, s.dtype)
                for leaf, s in shapes.items()
            }
        if c.vision and c.text:
            params["logit_scale"] = jnp.asarray(_INITIAL_LOGIT_SCALE, jnp.float32)
        return params

    def param_shapes(self) -> Params:
        """The params tree with a `jax.ShapeDtypeStruct` (float32) at each leaf."""
        c = self.config
        shapes: Params = {
            name: _abstract_tower(config, self.dtype)[1]
            for name, config in (("vision", c.vision), ("text", c.text))
            if config is not None
        }
        shapes |= self._projections()
        if c.vision and c.text:
            shapes["logit_scale"] = jax.ShapeDtypeStruct((), jnp.float32)
        return shapes

    def check_params(self, params: Params) -> None:
        """Compare every path and shape with the model's.

        A tree that does not fit would not fail by itself: flax matches leaves by sorted order,
        so renamed keys run with swapped weights.

        Raises:
          ConfigError: a leaf is missing, unexpected or has another shape; the message names it.
        """
        self.check_shapes(named_shapes(params))

    def check_shapes(self, given: Mapping[str, tuple[int, ...]]) -> None:
        """Compare paths, their keys joined with slashes, and shapes with the model's, as `check_params` does.

        Raises:
          ConfigError: one is missing, unexpected or another; the message names it.
        """
        compare_shapes(given, named_shapes(self.param_shapes()))

    def _part(self, name: str):
        config = getattr(self.config, name)
        if config is None:
            raise ConfigError(f"this checkpoint has no {'image' if name == 'vision' else 'text'} tower")
        return config

    def _tower(self, config, params: Params):
        return nnx.merge(_abstract_tower(config, self.dtype)[0], params)

    def _project(self, projection: Params | None, features: Float[Array, "batch width"]) -> Float[Array, "batch dim"]:
        dtype = jnp.dtype(self.dtype)
        wide = at_least_float32(dtype)
        if projection is None:
            return features.astype(wide)
        kernel = projection["kernel"].astype(dtype)
        embedding = jnp.matmul(features.astype(dtype), kernel, preferred_element_type=wide)
        return embedding + projection["bias"] if "bias" in projection else embedding

    def _projections(self) -> Params:
        c = self.config
        if c.embed_dim is None:
            return {}
        shape = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
        shapes: Params = {}
        if isinstance(c.vision, ResNetConfig):
            shapes["image_projection"] = {
                "kernel": shape((c.vision.features, c.embed_dim)),
                "bias": shape((c.embed_dim,)),
            }
        elif c.vision:
            shapes["image_projection"] = {"kernel": shape((c.vision.width, c.embed_dim))}
        if c.text:
            shapes["text_projection"] = {"kernel": shape((c.text.width, c.embed_dim))}
        return shapes
