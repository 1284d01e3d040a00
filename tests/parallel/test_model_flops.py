"""What a gradient asks for: twice the forward pass for what is trained, and nothing for recomputation."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from small_models import small_clip

from clipjax.methods.contrastive import Contrastive
from clipjax.models.clip import CLIP
from clipjax.models.presets import preset
from clipjax.parallel.mesh import make_mesh
from clipjax.parallel.model_flops import flops_of, model_flops

shape = jax.ShapeDtypeStruct


def traced(fn, *arguments):
    return flops_of(jax.make_jaxpr(fn)(*arguments).jaxpr)


def test_a_product_counts_its_multiplications_and_additions():
    assert traced(jnp.matmul, shape((5, 3, 4), "float32"), shape((5, 4, 7), "float32")) == 2 * 5 * 3 * 4 * 7


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_counts_what_each_output_sums(groups):
    convolve = lambda x, k: jax.lax.conv_general_dilated(
        x, k, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )
    image, kernel = shape((2, 9, 9, 4), "float32"), shape((3, 3, 4 // groups, 6), "float32")
    assert traced(convolve, image, kernel) == 2 * (2 * 4 * 4 * 6) * (3 * 3 * 4 // groups)


def test_a_scan_counts_each_turn_and_a_cond_its_longest_branch():
    x = shape((4, 4), "float32")
    assert traced(lambda x: jax.lax.scan(lambda c, _: (c @ c, None), x, length=6)[0], x) == 6 * 2 * 4**3
    assert traced(lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x), x) == 2 * 2 * 4**3


def test_a_shard_counts_on_each_device():
    mesh = make_mesh(data=2, fsdp=2)
    spec = jax.sharding.PartitionSpec("data")
    product = jax.shard_map(lambda x: x @ x.T, mesh=mesh, in_specs=spec, out_specs=spec)
    assert traced(product, shape((8, 3), "float32")) == mesh.size * 2 * 4 * 3 * 4


def test_backward_costs_twice_forward_where_everything_is_trained():
    loss = lambda w, x: jnp.sum((x @ w["a"]) @ w["b"])
    w = {"a": shape((3, 5), "float32"), "b": shape((5, 7), "float32")}
    forward_a, forward_b = 2 * 11 * 3 * 5, 2 * 11 * 5 * 7
    # x is no parameter: its gradient is not asked for
    assert model_flops(loss, w, shape((11, 3), "float32")) == 2 * forward_a + 3 * forward_b


def test_what_is_frozen_only_counts_forward():
    loss = lambda w, frozen, x: jnp.sum((x @ frozen) @ w)
    w, frozen, x = shape((5, 7), "float32"), shape((3, 5), "float32"), shape((11, 3), "float32")
    assert model_flops(loss, w, frozen, x) == 2 * 11 * 3 * 5 + 2 * 2 * 11 * 5 * 7


@pytest.fixture
def asked():
    """A function that counts the contrastive objective of a small CLIP."""

    def count(microbatches=1, **changes):
        model, params = small_clip()
        config = model.config
        objective = Contrastive(model.replace(**changes), make_mesh(), microbatches=microbatches)
        side = config.image_size
        batch = {"images": shape((16, side, side, 3), "float32"), "tokens": shape((16, 8), "int32")}
        return model_flops(objective, params, {}, {}, batch, None, None)

    return count


@pytest.mark.parametrize("changes", [{"remat": "full"}, {"remat": "dots"}, {"microbatches": 2}])
def test_recomputation_is_no_work_done(asked, changes):
    assert asked(**changes) == asked(remat="none")


def test_a_published_model_asks_for_what_is_known_of_it():
    model = CLIP(preset("ViT-B/32"))
    images = shape((4, 224, 224, 3), "float32")
    forward = traced(model.encode_image, model.param_shapes(), images)
    assert forward == pytest.approx(4 * 8.8e9, rel=0.02)  # 4.4 GMACs an image
    gradient = model_flops(lambda p, x: jnp.sum(model.encode_image(p, x)), model.param_shapes(), images)
    assert 2.9 * forward < gradient < 3 * forward  # the pixels have no gradient


def test_the_count_agrees_with_the_compiled_program(asked):
    from clipjax.parallel.costs import count_costs

    model, params = small_clip()
    model = dataclasses.replace(model, remat="none")
    side = model.config.image_size
    loss = lambda p, x: jnp.sum(model.encode_image(p, x))
    images = shape((16, side, side, 3), "float32")
    compiled = jax.jit(jax.value_and_grad(loss)).lower(params, images).compile()
    assert count_costs(compiled.as_text() or "").flops == pytest.approx(model_flops(loss, params, images), rel=0.05)
