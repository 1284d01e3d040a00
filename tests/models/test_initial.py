import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small_models import RESNET, TEXT, VIT

from clipjax.models.clip import CLIP
from clipjax.models.config import CLIPConfig
from clipjax.models.initial import Shapes, constant, lecun, normal
from clipjax.models.text import TextTransformer


@pytest.mark.parametrize("initial", [normal(0.5), constant(2.0), lecun((0,))])
def test_an_initialiser_gives_numbers_or_their_shape(initial):
    drawn = initial(jax.random.key(0), (3, 4), jnp.bfloat16)
    shape = initial(Shapes().params(), (3, 4), jnp.bfloat16)
    assert isinstance(shape, jax.ShapeDtypeStruct)
    assert (shape.shape, shape.dtype) == (drawn.shape, drawn.dtype) == ((3, 4), jnp.bfloat16)


def test_numbers_are_those_of_flax():
    key = jax.random.key(1)
    np.testing.assert_array_equal(normal(0.5)(key, (40,)), nnx.initializers.normal(0.5)(key, (40,)))
    np.testing.assert_array_equal(constant(2.0)(key, (4,)), jnp.full(4, 2.0))


@pytest.mark.parametrize("vision", [VIT, RESNET], ids=["vit", "resnet"])
def test_a_tower_of_shapes_is_the_tower_without_its_numbers(vision):
    model = CLIP(CLIPConfig(vision, TEXT, 16))
    assert jax.eval_shape(model.init, jax.random.key(0)) == model.param_shapes()


def test_towers_of_shapes_and_of_numbers_are_the_same_module():
    build = lambda rngs: nnx.split(TextTransformer(TEXT, rngs=rngs))[0]
    assert build(nnx.Rngs(0)) == build(Shapes())
