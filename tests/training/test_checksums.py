import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from clipjax.parallel.mesh import make_mesh
from clipjax.training import checksums as module
from clipjax.training.checksums import checksums, digest

TYPES = ["float32", "bfloat16", "float16", "int32", "uint32", "int8", "uint8", "bool", "float8_e4m3fn"]


def array(dtype, shape=(4, 8)):
    bits = np.random.default_rng(0).integers(0, 256, size=(*shape, np.dtype(dtype).itemsize), dtype=np.uint8)
    return bits.view(dtype)[..., 0] if dtype != "bool" else bits[..., 0] % 2 == 1


def with_bit(values, entry, bit):
    """A copy with one bit of one entry flipped."""
    size = values.dtype.itemsize
    raw = np.frombuffer(values.tobytes(), np.uint8).copy()
    raw[entry * size + bit // 8] ^= 1 << bit % 8
    return np.frombuffer(raw.tobytes(), values.dtype).reshape(values.shape)


@pytest.mark.parametrize("dtype", TYPES)
def test_any_flipped_bit_changes_the_sum(dtype):
    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    values = array(dtype)
    wanted = checksums({"x": values})
    for entry in (0, 13, values.size - 1):
        for bit in range(1 if dtype.kind == "b" else 8 * dtype.itemsize):
            assert checksums({"x": with_bit(values, entry, bit)}) != wanted, (entry, bit)


@pytest.mark.parametrize("spec", [P(), P("data"), P(None, "fsdp"), P("data", "fsdp"), P(("data", "fsdp"))])
@pytest.mark.parametrize(("data", "fsdp"), [(1, 1), (2, 1), (2, 2), (1, 4)])
def test_the_sum_does_not_depend_on_where_the_pieces_are(data, fsdp, spec):
    mesh = make_mesh(data=data, fsdp=fsdp, devices=jax.devices()[: data * fsdp])
    values = array(np.dtype("float32"))
    assert checksums({"x": jax.device_put(values, NamedSharding(mesh, spec))}) == checksums({"x": values})


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(), (7,), (3, 5, 2)])
def test_large_leaves_are_summed_on_devices_to_the_same_number(dtype, shape, monkeypatch):
    values = array(np.dtype(getattr(ml_dtypes, dtype, dtype)), shape)
    small = checksums({"x": values})
    monkeypatch.setattr(module, "SMALL", 0)
    assert checksums({"x": values}) == checksums({"x": jnp.asarray(values)}) == small


def test_numbers_of_python_have_the_sum_that_they_have_in_a_state():
    assert checksums({"x": 3, "y": 0.5}) == checksums({"x": jnp.int32(3), "y": jnp.float32(0.5)})


def test_numpy_scalars_and_arrays_of_one_number_have_the_sum_of_device_arrays():
    assert checksums({"x": np.float32(2)}) == checksums({"x": jnp.float32(2)}) == checksums({"x": np.array(2, "f4")})


def test_entries_that_change_places_change_the_sum():
    values = array(np.dtype("int32"))
    assert checksums({"x": values[::-1].copy()}) != checksums({"x": values})


def test_leaves_are_named_by_their_path():
    assert checksums({"a": {"b": jnp.ones(2)}, "c": [jnp.zeros(1)]}).keys() == {"a/b", "c/0"}


def test_nan_and_negative_zero_count_by_their_bits():
    one, other = np.array([np.nan, 0.0], np.float32), np.array([np.nan, -0.0], np.float32)
    assert checksums({"x": one}) == checksums({"x": one.copy()})
    assert checksums({"x": one}) != checksums({"x": other})


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.ones(3, np.float32)},
        {"b": np.ones(4, np.float32)},
        {"a": np.ones(4, np.int32)},
        {"a": np.ones((2, 2), np.float32)},
        {"a": np.full(4, 2, np.float32)},
        {"a": np.ones(4, np.float32), "empty": np.zeros(0, np.float32)},
    ],
)
def test_the_digest_tells_names_shapes_types_and_numbers_apart(other):
    assert digest(other) != digest({"a": np.ones(4, np.float32)})
    assert digest(other) == digest(jax.tree.map(jnp.asarray, other))
