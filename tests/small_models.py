"""Small CLIPs with random numbers. Nothing is compiled to make them, so that tests stay quick."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from clipjax.models.causal_lm import CausalLM
from clipjax.models.clip import CLIP, Params
from clipjax.models.config import CLIPConfig, LanguageConfig, ResNetConfig, TextConfig, ViTConfig

VIT = ViTConfig(image_size=16, patch_size=4, width=32, layers=3, heads=2, mlp_width=48)
RESNET = ResNetConfig(image_size=64, width=4, blocks=(1, 2, 1, 1), heads=2)
TEXT = TextConfig(40, 12, width=24, layers=2, heads=3, mlp_width=40, bos_token_id=38, eos_token_id=39)

LANGUAGE = LanguageConfig(13, 24, width=24, layers=2, heads=3, mlp_width=40, bos_token_id=11, eos_token_id=12)


def random_module(build, scale: float = 0.3):
    """Build a module of a tower with random numbers; `build` is never run, only its shapes are taken."""
    graph, state = nnx.split(nnx.eval_shape(build))
    random = np.random.default_rng(0)
    drawn = jax.tree.map(lambda s: jnp.asarray((scale * random.normal(size=s.shape)).astype(s.dtype)), state)
    return nnx.merge(graph, drawn)


def random_params(model: CLIP | CausalLM, seed: int = 0, dtype: str = "float32") -> Params:
    """Draw numbers so large that attention is not uniform, norms differ and no bias is zero."""
    random = np.random.default_rng(seed)

    def draw(path, shape):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        numbers = random.normal(size=shape.shape)
        if name.endswith("kernel"):
            numbers *= 1.5 * np.prod(shape.shape[-4:-1] if "conv" in name else shape.shape[-2:-1]) ** -0.5
        elif name.endswith("var"):
            numbers = 0.5 + random.random(shape.shape)
        elif name.endswith("scale"):
            numbers = 1.0 + 0.2 * numbers
        else:
            numbers *= 0.3
        return jnp.asarray(numbers.astype(jnp.dtype(dtype)))

    return jax.tree_util.tree_map_with_path(draw, model.param_shapes())


def small_clip(vision=VIT, text=TEXT, embed_dim=16, **options) -> tuple[CLIP, Params]:
    model = CLIP(CLIPConfig(vision, text, embed_dim), **options)
    return model, random_params(model)


def small_language_model(config=LANGUAGE, **options) -> tuple[CausalLM, Params]:
    model = CausalLM(config, **options)
    return model, random_params(model)


def random_images(model: CLIP, count: int = 3, seed: int = 1) -> jax.Array:
    side = model.config.image_size
    return jnp.asarray(np.random.default_rng(seed).normal(size=(count, side, side, 3)), jnp.float32)


def random_texts(config: TextConfig, lengths=(4, 7, 5), seed: int = 2) -> jax.Array:
    """Draw texts of these lengths, start and end tokens included, padded with zeros to the context."""
    random = np.random.default_rng(seed)
    tokens = np.zeros((len(lengths), config.context_length), np.int32)
    for row, length in zip(tokens, lengths):
        row[:length] = random.integers(1, config.bos_token_id, length)
        row[0], row[length - 1] = config.bos_token_id, config.eos_token_id
    return jnp.asarray(tokens)


# Models that every format can hold: heads as wide as OpenAI's where the file does not say how many there are
PLAIN_VIT = ViTConfig(16, 4, width=128, layers=2, heads=2, mlp_width=80)
PLAIN_TEXT = TextConfig(40, 12, width=24, layers=3, heads=1, mlp_width=40, bos_token_id=38, eos_token_id=39)


def assert_same_params(found: Params, wanted: Params) -> None:
    """Compare names, types, shapes and every bit."""
    found_leaves, wanted_leaves = (dict(jax.tree_util.tree_leaves_with_path(tree)) for tree in (found, wanted))
    assert found_leaves.keys() == wanted_leaves.keys()
    for path, leaf in wanted_leaves.items():
        name = jax.tree_util.keystr(path)
        assert (found_leaves[path].dtype, found_leaves[path].shape) == (leaf.dtype, leaf.shape), name
        assert np.asarray(found_leaves[path]).tobytes() == np.asarray(leaf).tobytes(), name
