"""Encoding in microbatches: the same numbers, less memory, no more collectives.

Run as a program, this file prints the largest deviation on 8 devices, which the test process has not.
"""

import collections
import functools
import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from small_models import random_images, random_texts, small_clip

from clipjax.errors import ConfigError
from clipjax.losses import ClipLossOverMesh, clip_loss
from clipjax.training.microbatch import in_microbatches

MESHES = {1: (1, 1), 2: (1, 2), 4: (2, 2), 8: (4, 2)}
AXES = ("data", "fsdp")
BATCH = 32


def mesh_of(devices):
    return Mesh(np.array(jax.devices()[:devices]).reshape(MESHES[devices]), AXES)


def params_of():
    random = np.random.default_rng(3)
    layers = [jnp.asarray(random.normal(size=(16, 16)) / 4, jnp.float32) for _ in range(5)]
    return {"image": layers[:3], "text": layers[3:]}


def encode(params, inputs):
    for layer in params:
        inputs = jnp.tanh(inputs @ layer)
    return inputs


def inputs_of():
    random = np.random.default_rng(4)
    return tuple(jnp.asarray(random.normal(size=(BATCH, 16)), jnp.float32) for _ in range(2))


def gradient_step(mesh, count):
    """A jitted function from params and inputs to the loss of the whole batch and its gradients."""
    encoder = encode if count is None else functools.partial(in_microbatches, encode, count=count, mesh=mesh)
    loss = clip_loss if mesh is None else ClipLossOverMesh(mesh, chunk=64)

    def objective(params, inputs):
        images, texts = inputs
        return loss(encoder(params["image"], images), encoder(params["text"], texts), 10.0)

    return jax.jit(jax.value_and_grad(objective))


@functools.cache
def encoding_at_once():
    return gradient_step(None, None)(params_of(), inputs_of())


def deviation_over(devices, count):
    """The largest difference of value and gradients from encoding all rows at once on one device."""
    results = gradient_step(mesh_of(devices), count)(params_of(), inputs_of())
    pairs = zip(jax.tree.leaves(results), jax.tree.leaves(encoding_at_once()), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


@pytest.mark.parametrize(("devices", "count"), [(1, 4), (2, 4), (4, 8)])
def test_value_and_gradients_equal_encoding_at_once(devices, count):
    assert deviation_over(devices, count) < 1e-5


def test_value_and_gradients_on_eight_devices_equal_encoding_at_once():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=True)
    assert float(json.loads(done.stdout)) < 1e-5


def test_rows_come_back_in_order():
    rows = {"a": jnp.arange(16.0)[:, None], "b": jnp.arange(16)}
    result = in_microbatches(lambda params, x: (x["a"] * params, x["b"]), 2.0, rows, 2, mesh_of(4))
    np.testing.assert_array_equal(result[0][:, 0], 2.0 * np.arange(16))
    np.testing.assert_array_equal(result[1], np.arange(16))


def test_each_device_encodes_a_part_of_its_own_rows():
    seen = []

    def recording(params, rows):
        seen.append(rows.shape[0])
        return rows

    jax.eval_shape(lambda x: in_microbatches(recording, (), x, 2, mesh_of(4)), jnp.ones((32, 3)))
    assert set(seen) == {4}


def test_works_without_a_mesh():
    params, (images, _) = params_of()["image"], inputs_of()
    np.testing.assert_allclose(in_microbatches(encode, params, images, 4), encode(params, images), rtol=1e-5, atol=1e-6)


def compile_step(count, params, spec=None, batch=BATCH):
    """Compile the gradient step on four devices, with parameters stored as `spec` says, replicated if it does not."""
    mesh = mesh_of(4)
    stored, spread = NamedSharding(mesh, spec or P()), NamedSharding(mesh, P(AXES))
    params = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=stored), params)
    rows = jax.ShapeDtypeStruct((batch, 16), jnp.float32, sharding=spread)
    return gradient_step(mesh, count).lower(params, (rows, rows)).compile()


def collectives(compiled):
    """How many collectives of each kind there are in the main computation, and in all others."""
    found = {"main": collections.Counter(), "others": collections.Counter()}
    where = "others"
    for line in compiled.as_text().splitlines():
        if line.endswith("{") and not line.startswith(" "):
            where = "main" if line.startswith("ENTRY") else "others"
        kinds = re.findall(r" (all-\w+|reduce-scatter|collective-\w+)(?:-start)?\(", line)
        found[where].update(kinds)
    return found


@pytest.mark.parametrize("spec", [P(), P("fsdp")], ids=["replicated", "sharded"])
def test_microbatches_add_no_collective(spec):
    plain, parts = (collectives(compile_step(count, params_of(), spec)) for count in (None, 4))
    assert plain["main"]
    assert parts["main"] <= plain["main"]
    assert not parts["others"]  # a loop's body would run them once for each part


def test_memory_shrinks_with_the_number_of_microbatches():
    wide = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in [(16, 2048), (2048, 16)] * 2]
    params = {"image": wide, "text": wide}
    steps = [compile_step(count, params, batch=1024) for count in (None, 4, 16)]
    plain, four, sixteen = (step.memory_analysis().temp_size_in_bytes for step in steps)
    assert four < plain / 2
    assert sixteen < four / 2


def test_both_towers_of_a_clip_can_be_encoded_in_microbatches():
    model, params = small_clip()
    images, tokens = random_images(model, 8), random_texts(model.config.text, (4, 7, 5, 9) * 2)

    def loss(params, count):
        encoded = [
            in_microbatches(tower, params, rows, count, mesh_of(4))
            for tower, rows in ((model.encode_image, images), (model.encode_text, tokens))
        ]
        return clip_loss(*encoded, 10.0)

    step = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    for part, whole in zip(jax.tree.leaves(step(params, 2)), jax.tree.leaves(step(params, 1)), strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [0, 3, 16])
def test_batch_that_does_not_divide_is_refused(count):
    with pytest.raises(ConfigError, match=f"{BATCH} rows cannot be cut into {count} equal microbatches"):
        in_microbatches(encode, params_of()["image"], inputs_of()[0], count, mesh_of(4))


def test_arrays_of_unequal_length_are_refused():
    with pytest.raises(ConfigError, match=r"same number of rows, got \[2, 4\]"):
        in_microbatches(lambda params, x: x, (), (jnp.ones(4), jnp.ones(2)), 2)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_default_matmul_precision", "highest")
    print(json.dumps(deviation_over(8, 2)))
