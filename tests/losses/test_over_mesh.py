"""Spread over 1, 2, 4 and 8 devices, a loss has the value and the gradients that it has on one.

Run as a program, this file prints the largest deviation on 8 devices, which the test process has not.
"""

import functools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from clipjax.losses import (
    ClipLossOverMesh,
    SiglipLossOverMesh,
    clip_loss,
    equal_caption_targets,
    sharded_clip_loss,
    siglip_loss,
)

MESHES = {1: (1, 1), 2: (1, 2), 4: (2, 2), 8: (4, 2)}
SPREAD = {"clip": (clip_loss, ClipLossOverMesh), "siglip": (siglip_loss, SiglipLossOverMesh)}
CHUNKED = [("clip", 5, "ignore"), ("siglip", 3, "ignore")]
IDS = np.arange(16) ** 2 % 7
WHOLE = [("clip", None, "share"), ("siglip", None, "share")]


def mesh_of(devices):
    return Mesh(np.array(jax.devices()[:devices]).reshape(MESHES[devices]), ("data", "fsdp"))


def batch_of(kind, images=16, texts=16):
    """A projection applied to both sides, both sides, the logarithm of the scale, and SigLIP's bias."""
    random = np.random.default_rng(5)
    arrays = [jnp.asarray(random.normal(size=shape), jnp.float32) for shape in [(6, 5), (images, 6), (texts, 6)]]
    return [*arrays, jnp.float32(2.5), *([jnp.float32(-4.0)] if kind == "siglip" else [])]


def value_and_gradients(loss, arguments, **options):
    def projected(weights, image, text, log_scale, *rest):
        return loss(image @ weights, text @ weights, jnp.exp(log_scale), *rest, **options)

    return jax.jit(jax.value_and_grad(projected, tuple(range(len(arguments)))))(*arguments)


def deviation(result, reference):
    """The largest difference, relative to the size of each array where that is above one."""
    pairs = zip(jax.tree.leaves(result), jax.tree.leaves(reference), strict=True)
    return max(float(np.abs(a - b).max() / max(1.0, np.abs(b).max())) for a, b in pairs)


@functools.cache
def on_one_device(kind, equal_ids):
    options = {} if equal_ids is None else {"ids": IDS, "equal_ids": equal_ids}
    return value_and_gradients(SPREAD[kind][0], batch_of(kind), **options)


def deviation_over(devices, kind, chunk, equal_ids):
    options, given = ({}, {}) if equal_ids is None else ({"equal_ids": equal_ids}, {"ids": IDS})
    spread = SPREAD[kind][1](mesh_of(devices), chunk=chunk, **options)
    return deviation(value_and_gradients(spread, batch_of(kind), **given), on_one_device(kind, equal_ids))


@pytest.mark.parametrize(("kind", "chunk", "equal_ids"), CHUNKED)
@pytest.mark.parametrize("devices", [1, 2, 4])
def test_blocks_over_devices_equal_one_device(devices, kind, chunk, equal_ids):
    assert deviation_over(devices, kind, chunk, equal_ids) < 1e-5


@pytest.mark.parametrize(("kind", "chunk", "equal_ids"), WHOLE)
@pytest.mark.parametrize("devices", [1, 4])
def test_whole_rows_over_devices_equal_one_device(devices, kind, chunk, equal_ids):
    assert deviation_over(devices, kind, chunk, equal_ids) < 1e-5


def test_value_and_gradients_on_eight_devices_equal_those_of_one():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=True)
    assert max(json.loads(done.stdout)) < 1e-5


@pytest.mark.parametrize("kind", SPREAD)
def test_ids_reach_the_loss(kind):
    values = [float(on_one_device(kind, equal_ids)[0]) for equal_ids in (None, "ignore", "share")]
    assert min(abs(values[a] - values[b]) for a, b in ((0, 1), (0, 2), (1, 2))) > 1e-3


def test_targets_and_mask_are_spread_with_the_images():
    arguments = batch_of("clip", images=8, texts=12)
    mask = np.random.default_rng(6).random((8, 12)) < 0.4
    options = {"targets": equal_caption_targets(np.arange(8) % 4, np.arange(12) ** 2 % 4), "mask": mask}
    spread = ClipLossOverMesh(mesh_of(4), chunk=5)
    result, want = (value_and_gradients(loss, arguments, **options) for loss in (spread, clip_loss))
    assert deviation(result, want) < 1e-5


def test_an_axis_that_does_not_carry_the_batch_changes_nothing():
    spread = ClipLossOverMesh(mesh_of(4), axes=("fsdp",))
    assert deviation(value_and_gradients(spread, batch_of("clip")), on_one_device("clip", None)) < 1e-5


def test_callable_inside_a_shard_map_of_ones_own():
    arguments = batch_of("clip")
    own = jax.shard_map(
        functools.partial(sharded_clip_loss, axis_name="data"),
        mesh=jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)),
        in_specs=(P("data"), P("data"), P()),
        out_specs=P(),
    )
    assert deviation(value_and_gradients(own, arguments), on_one_device("clip", None)) < 1e-5


@pytest.mark.parametrize(("kind", "chunk"), [("clip", None), ("clip", 16), ("siglip", None)])
def test_no_device_holds_the_logits_of_the_whole_batch(kind, chunk):
    spread = SPREAD[kind][1](mesh_of(4), chunk=chunk)
    side, scalars = jax.ShapeDtypeStruct((128, 6), jnp.float32), [jnp.float32(1.0)] * (1 + (kind == "siglip"))
    compiled = jax.jit(jax.grad(spread, (0, 1))).lower(side, side, *scalars).compile().as_text()
    widest = 128 if kind == "clip" and chunk is None else chunk or 32
    assert f"[32,{widest}]" in compiled
    assert "[128,128]" not in compiled
    assert widest == 128 or "[32,128]" not in compiled


def test_equal_losses_share_one_compilation():
    @functools.partial(jax.jit, static_argnums=0)
    def value(loss, image, text):
        return loss(image, text, 10.0)

    for _ in range(2):
        value(ClipLossOverMesh(mesh_of(2), chunk=4), jnp.eye(8), jnp.eye(8))
    assert value._cache_size() == 1


@pytest.mark.parametrize("kind", SPREAD)
def test_batch_that_the_devices_do_not_divide_is_refused(kind):
    _, image, text, *rest = batch_of(kind, 10, 10)
    with pytest.raises(ValueError, match="10 rows cannot be spread evenly over 4 devices"):
        SPREAD[kind][1](mesh_of(4))(image, text, *rest)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_default_matmul_precision", "highest")
    with jax.numpy_dtype_promotion("strict"):
        print(json.dumps([deviation_over(8, *case) for case in CHUNKED]))
