"""Counted costs against XLA's own count where it can be trusted, and against unrolled programs where it cannot."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from clipjax.models.clip import CLIP
from clipjax.models.config import CLIPConfig, TextConfig
from clipjax.parallel.costs import count_costs

WIDE = 256


def compiled(function, *shapes):
    return jax.jit(function).lower(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes)).compile()


def costs(function, *shapes):
    return count_costs(compiled(function, *shapes).as_text())


def tower(layers, *, unroll=False):
    """A gradient through a stack of wide layers, scanned or not."""

    def loss(weights, x):
        step = lambda x, w: (jnp.tanh(x @ w), None)
        return jax.lax.scan(step, x, weights, unroll=layers if unroll else 1)[0].sum()

    return jax.grad(loss, argnums=(0, 1)), (layers, WIDE, WIDE), (WIDE, WIDE)


def on_mesh(function, *specs, out=None):
    """Costs of a function of square matrices laid out over 2 x 2 devices."""
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec)) for shape, spec in specs]
    jitted = jax.jit(function, out_shardings=NamedSharding(mesh, out or PartitionSpec()))
    return count_costs(jitted.lower(*arguments).compile().as_text())


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda a, b: a @ b, [(128, 256), (256, 512)]),
        (lambda a, b: jnp.einsum("bij,bkj->bik", a, b), [(8, 64, 256), (8, 64, 256)]),
        (lambda a, b, c: jnp.tanh(a @ b) @ c, [(128, 256), (256, 256), (256, 128)]),
    ],
    ids=["matrices", "batched", "two-in-a-row"],
)
def test_products_cost_what_xla_says_where_there_is_no_loop(function, shapes):
    program = compiled(function, *shapes)
    assert count_costs(program.as_text()).flops == pytest.approx(program.cost_analysis()["flops"], rel=0.02)


@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "gradient"])
@pytest.mark.parametrize(
    "options",
    [
        {"window_strides": (2, 2), "padding": "SAME"},
        {"window_strides": (1, 1), "padding": ((3, 0), (0, 2))},
        {"window_strides": (1, 1), "padding": "VALID", "rhs_dilation": (2, 3)},
        {"window_strides": (1, 1), "padding": ((2, 1), (1, 3)), "lhs_dilation": (2, 2)},
        {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 4},
    ],
    ids=["strided", "padded", "dilated-kernel", "dilated-image", "grouped"],
)
def test_convolutions_cost_what_xla_says(options, gradient):
    groups = options.get("feature_group_count", 1)

    def convolve(image, kernel):
        return jax.lax.conv_general_dilated(image, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options).sum()

    function = jax.grad(convolve, argnums=(0, 1)) if gradient else convolve
    program = compiled(function, (4, 24, 24, 64), (3, 5, 64 // groups, 64))
    assert count_costs(program.as_text()).flops == pytest.approx(program.cost_analysis()["flops"], rel=0.02)


def test_scanned_layers_cost_what_unrolled_ones_do():
    scanned, unrolled = costs(*tower(6)), costs(*tower(6, unroll=True))
    assert scanned.flops == pytest.approx(unrolled.flops, rel=0.01)
    assert scanned.uncounted_loops == ()


def test_xla_alone_counts_a_scanned_body_once():
    """The reason for counting here: when this fails, XLA has learnt to multiply."""
    function, *shapes = tower(6)
    program = compiled(function, *shapes)
    assert program.cost_analysis()["flops"] < count_costs(program.as_text()).flops / 4


def test_gradient_of_scanned_clip_layers_costs_what_unrolled_ones_do(monkeypatch):
    def gradient(start_of_text):
        # another id keeps jax from reusing the trace; what a scan recomputes, an unrolled program need not
        text = TextConfig(64, 16, 64, layers=2, heads=2, mlp_width=128, bos_token_id=start_of_text, eos_token_id=63)
        model = CLIP(CLIPConfig(None, text, 32), remat="none")
        tokens = jax.ShapeDtypeStruct((8, 16), jnp.int32)
        loss = lambda params, tokens: jnp.tanh(model.encode_text(params, tokens)).sum()
        lowered = jax.jit(jax.grad(loss)).lower(model.param_shapes(), tokens)
        return lowered.compile({"xla_backend_optimization_level": 0}).as_text()

    scanned, scan = gradient(61), jax.lax.scan
    monkeypatch.setattr(jax.lax, "scan", lambda *args, **options: scan(*args, **(options | {"unroll": True})))
    unrolled = gradient(62)
    # forwards and backwards; an emitter of machine code may write scatters as loops as well, in both
    assert scanned.count(" while(") - unrolled.count(" while(") == 2
    assert count_costs(scanned).flops == pytest.approx(count_costs(unrolled).flops, rel=0.01)


def test_nested_loops_multiply():
    def rows(x, w):
        inner = lambda x: jax.lax.fori_loop(0, 5, lambda _, x: x @ w, x)
        return jax.lax.fori_loop(0, 3, lambda _, x: inner(x), x)

    assert costs(rows, (WIDE, WIDE), (WIDE, WIDE)).flops == 15 * 2 * WIDE**3


def test_a_loop_of_unknown_length_is_named_and_counted_once():
    def until_small(x, w):
        return jax.lax.while_loop(lambda x: x.sum() > 1, lambda x: x @ w, x)

    counted = costs(until_small, (WIDE, WIDE), (WIDE, WIDE))
    assert len(counted.uncounted_loops) == 1
    assert counted.flops == 2 * WIDE**3


def test_the_most_expensive_branch_of_a_conditional_counts():
    def either(x, w, which):
        return jax.lax.switch(which[0].astype(int), [lambda: x, lambda: x @ w, lambda: x @ w @ w], *())

    assert costs(either, (WIDE, WIDE), (WIDE, WIDE), (1,)).flops == 2 * 2 * WIDE**3


def test_collectives_inside_a_scan_count_as_often_as_it_runs():
    def layers(weights, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    def gathers(count):
        weights = (count, WIDE, WIDE), PartitionSpec(None, "fsdp")
        counted = on_mesh(layers, weights, ((64, WIDE), PartitionSpec(("data", "fsdp"))), out=PartitionSpec("data"))
        return [c for c in counted.collectives if c.kind == "all-gather" and c.bytes == 4 * WIDE * WIDE]

    (gather,) = gathers(7)
    assert gather.count == 7
    assert (gather.group, gather.dtype, str(gather.shapes[0])) == (2, "f32", f"f32[{WIDE},{WIDE}]")


def test_an_all_reduce_sends_twice_what_the_ring_passes_on():
    def summed(a, b):
        return a @ b

    contracted = ((WIDE, WIDE), PartitionSpec(None, ("data", "fsdp"))), ((WIDE, WIDE), PartitionSpec(("data", "fsdp")))
    counted = on_mesh(summed, *contracted)
    assert counted.by_kind() == {"all-reduce": (1, 4 * WIDE**2)}
    assert counted.wire_bytes == 2 * 4 * WIDE**2 * 3 / 4


def test_flops_are_those_of_one_device():
    product = lambda a, b: a @ b
    rows = (WIDE, WIDE), PartitionSpec(("data", "fsdp"))
    counted = on_mesh(product, rows, ((WIDE, WIDE), PartitionSpec()), out=PartitionSpec(("data", "fsdp")))
    assert counted.flops == 2 * WIDE**3 / 4
    assert counted.collectives == ()


def test_a_product_reads_its_operands_and_writes_its_result():
    assert costs(lambda a, b: a @ b, (64, 128), (128, 256)).bytes_accessed == 4 * (64 * 128 + 128 * 256 + 64 * 256)


def test_reading_one_layer_of_a_stack_does_not_count_the_stack():
    few, many = (costs(*tower(layers)).bytes_accessed / layers for layers in (4, 16))
    assert many == pytest.approx(few, rel=0.1)
