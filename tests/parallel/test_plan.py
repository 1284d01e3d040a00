"""Plans of steps: memory by role, the roofline, and a CLIP gradient compiled for a TPU slice that is not there."""

import importlib.util
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from clipjax.errors import ConfigError
from clipjax.losses import clip_loss
from clipjax.models.clip import CLIP
from clipjax.models.presets import preset
from clipjax.parallel.chips import TPUS, Chip, chip_of
from clipjax.parallel.costs import Costs
from clipjax.parallel.mesh import make_mesh, replicated
from clipjax.parallel.plan import bytes_per_device, in_bytes, plan_step
from clipjax.parallel.roofline import roofline
from clipjax.parallel.rules import FSDP, shardings
from clipjax.parallel.topology import plan_devices

WIDE = 256


@pytest.fixture(scope="module")
def planned():
    """A step of gradient descent over 2 x 2 virtual devices, its params donated."""
    mesh = make_mesh(data=2, fsdp=2, devices=jax.devices()[:4])
    shape = lambda dims, *spec: jax.ShapeDtypeStruct(
        dims, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec))
    )
    params = {"w": shape((8, WIDE, WIDE), None, "fsdp"), "b": shape((WIDE,))}
    batch = shape((64, WIDE), ("data", "fsdp"))

    def step(params, batch):
        def loss(params):
            layer = lambda x, w: (jnp.tanh(x @ w) + params["b"], None)
            return jnp.square(jax.lax.scan(layer, batch, params["w"])[0]).mean()

        return jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params))

    jitted = jax.jit(step, donate_argnums=0, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, params))
    return plan_step(jitted, (params, batch), TPUS["v5e"], roles={"parameters": params, "batch": batch})


def test_memory_of_each_role_is_that_of_its_shards(planned):
    assert dict(planned.memory.roles) == {
        "parameters": 4 * (8 * WIDE * WIDE // 2 + WIDE),
        "batch": 4 * 64 * WIDE // 4,
    }


def test_donated_params_take_no_memory_twice(planned):
    assert planned.memory.outputs < 100


def test_activations_of_all_layers_are_among_the_temporaries(planned):
    assert planned.memory.temporaries > 4 * 8 * (64 // 4) * WIDE


def test_flops_are_one_devices_share_of_all_layers(planned):
    # forward, and two products backward, of which each device has a quarter of the rows
    assert planned.costs.flops == pytest.approx(3 * 8 * 2 * 64 * WIDE * WIDE / 4, rel=0.1)


def test_every_device_is_counted(planned):
    assert planned.devices == 4


def test_the_table_has_every_part(planned):
    text = planned.text()
    for part in ("4 x TPU v5e", "memory: parameters", "memory: batch", "fits", "FLOPs", "all-gather", "bound by"):
        assert part in text


def test_the_dictionary_is_json_and_adds_up(planned):
    found = json.loads(json.dumps(planned.as_dict()))
    parts = [*found["memory"]["roles"].values()]
    parts += [found["memory"][name] for name in ("padding", "outputs", "temporaries", "program")]
    assert found["memory"]["total"] == sum(parts)
    assert sum(c["count"] * c["bytes"] for c in found["collectives"]) == sum(
        size for _, size in planned.costs.by_kind().values()
    )


def test_largest_collectives_are_in_order_of_size(planned):
    sizes = [c.bytes for c in planned.largest_collectives(3)]
    assert sizes == sorted((c.bytes for c in planned.costs.collectives), reverse=True)[:3]


def test_without_a_chip_there_is_no_roofline():
    x = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    plan = plan_step(jax.jit(lambda x: x @ x), (x,), None)
    assert (plan.fits, plan.roofline) == (None, None)
    assert "1 x virtual CPU" in plan.text()


def test_a_step_larger_than_the_chip_does_not_fit():
    tiny = Chip("tiny", 1e12, 1000, 1e9, 1e9)
    x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    plan = plan_step(jax.jit(lambda x: x @ x), (x,), tiny)
    assert plan.fits is False
    assert "does NOT fit" in plan.text()


@pytest.mark.parametrize(
    ("message", "needs"),
    [
        (
            "total memory required for HLO temporaries (320.49G) exceeds available HBM (15.75G).",
            "320.49G, there are 15.75G",
        ),
        ("Ran out of memory in memory space hbm. Used 20.10G of 15.75G hbm.", "it needs 20.10G, there are 15.75G"),
        ("no details", "chips' memory; use more chips"),
    ],
)
def test_a_compiler_out_of_memory_is_explained_in_one_line(message, needs):
    def fail():
        raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {message}")

    step = SimpleNamespace(lower=lambda *arguments: SimpleNamespace(compile=fail))
    with pytest.raises(ConfigError, match=needs):
        plan_step(step, (), TPUS["v5e"])


@pytest.mark.parametrize("bound", ["compute", "memory", "communication"])
def test_the_slowest_resource_bounds_the_step(bound):
    chip = Chip("one of each", 1, 1, 1, 1)
    amounts = {name: 2.0 if name == bound else 1.0 for name in ("compute", "memory", "communication")}
    costs = SimpleNamespace(
        flops=amounts["compute"], bytes_accessed=amounts["memory"], wire_bytes=amounts["communication"]
    )
    estimate = roofline(costs, chip)
    assert (estimate.bound, estimate.seconds) == (bound, 2.0)
    assert estimate.utilisation == (1.0 if bound == "compute" else 0.5)


def test_a_step_that_does_nothing_uses_nothing():
    assert roofline(Costs(0, 0, ()), TPUS["v5e"]).utilisation == 0


def test_leaves_without_shardings_count_whole():
    assert bytes_per_device({"a": jax.ShapeDtypeStruct((3, 5), jnp.bfloat16), "b": "static"}) == 30


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.50 kB"), (2.5e9, "2.50 GB"), (3e12, "3.00 TB")]
)
def test_bytes_are_written_with_a_unit(size, text):
    assert in_bytes(size) == text


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the extra `plan` (libtpu)")
def test_a_clip_gradient_compiles_for_a_tpu_slice_and_costs_what_it_should():
    devices = plan_devices("v5e:4x4")
    mesh = make_mesh(data=4, fsdp=4, devices=devices)
    model = CLIP(preset("ViT-B/32"), dtype="bfloat16", remat="none")
    shapes, per_chip = model.param_shapes(), 32
    lay = lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    params = jax.tree.map(lay, shapes, shardings(mesh, shapes, FSDP))
    rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    images = jax.ShapeDtypeStruct((16 * per_chip, 224, 224, 3), jnp.float32, sharding=rows)
    tokens = jax.ShapeDtypeStruct((16 * per_chip, 77), jnp.int32, sharding=rows)

    def step(params, images, tokens):
        def loss(params):
            # without this the compiler splits features instead of gathering params, and sends activations around
            params = jax.lax.with_sharding_constraint(params, replicated(mesh))
            image, text = model.encode_image(params, images), model.encode_text(params, tokens)
            return clip_loss(image, text, jnp.exp(params["logit_scale"]))

        return jax.tree.map(lambda p, g: p - 1e-3 * g, params, jax.grad(loss)(params))

    jitted = jax.jit(step, donate_argnums=0, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, params))
    roles = {"parameters": params, "batch": (images, tokens)}
    plan = plan_step(jitted, (params, images, tokens), chip_of(devices[0].device_kind), roles=roles)

    assert (plan.devices, plan.chip, plan.fits) == (16, TPUS["v5e"], True)
    # 151 million float32 params over 4 pieces, small ones whole
    assert 151e6 <= dict(plan.memory.roles)["parameters"] <= 165e6
    # forward and twice that backward, of 8.8 and 5.9 GFLOPs per image and text (less the gradient of the pixels)
    assert plan.costs.flops == pytest.approx(3 * per_chip * (8.8e9 + 5.9e9), rel=0.05)
    assert plan.costs.uncounted_loops == ()
    assert plan.roofline is not None
    assert 0.2 < plan.roofline.utilisation <= 1
    # no activations travel: nothing is larger than the largest param
    largest = max(leaf.size for leaf in jax.tree.leaves(params))
    assert max(shape.elements for c in plan.costs.collectives for shape in c.shapes) == largest
