import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from numpy.testing import assert_array_equal

from clipjax.errors import ConfigError
from clipjax.parallel.mesh import check_batch, enough_rows, fitting_batch, make_mesh, put_rows, replicated, rows
from clipjax.parallel.spread import spread


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [({}, (4, 1)), ({"fsdp": 2}, (2, 2)), ({"data": 1, "fsdp": 4}, (1, 4)), ({"data": 4}, (4, 1))],
)
def test_devices_are_arranged_as_data_times_fsdp(arguments, shape):
    mesh = make_mesh(**arguments)
    assert dict(mesh.shape) == {"data": shape[0], "fsdp": shape[1]}
    assert mesh.axis_types == (AxisType.Auto, AxisType.Auto)
    assert sorted(device.id for device in mesh.devices.flat) == [device.id for device in jax.devices()]


def test_some_devices_can_be_chosen():
    assert list(make_mesh(devices=jax.devices()[1:3]).devices.flat) == jax.devices()[1:3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fsdp": 3}, "fsdp=3 does not divide 4"),
        ({"fsdp": 0}, "fsdp=0"),
        ({"data": 3}, "data=3 times fsdp=1 are not 4"),
    ],
)
def test_a_mesh_that_is_not_all_devices_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_mesh(**arguments)


@pytest.mark.parametrize(("batch", "near"), [(6, 8), (1, 4), (9, 8), (4099, 4100)])
def test_a_batch_that_does_not_divide_is_refused_with_one_that_does(batch, near):
    with pytest.raises(ConfigError, match=f"use {near}$"):
        check_batch(make_mesh(), batch)
    check_batch(make_mesh(), near)


def test_rows_are_split_over_both_axes_and_keep_their_order():
    mesh = make_mesh(fsdp=2)
    batch = {"images": np.arange(24.0, dtype=np.float32).reshape(8, 3), "labels": np.arange(8, dtype=np.int32)}
    placed = put_rows(mesh, batch)
    for name, array in batch.items():
        np.testing.assert_array_equal(placed[name], array)
        assert placed[name].sharding.is_equivalent_to(rows(mesh), array.ndim)
        assert {len(shard.data) for shard in placed[name].addressable_shards} == {2}


def test_what_is_replicated_is_whole_on_every_device():
    placed = jax.device_put(np.arange(8), replicated(make_mesh(fsdp=2)))
    assert [shard.data.shape for shard in placed.addressable_shards] == [(8,)] * 4


def test_a_batch_is_as_large_as_few_rows_and_the_devices_allow():
    mesh = make_mesh(devices=jax.devices()[:4])
    assert fitting_batch(30, 1000, mesh) == 30  # refused later, by name
    assert [fitting_batch(64, rows, mesh) for rows in (1000, 50, 7, 3)] == [64, 48, 4, 4]


def test_fewer_rows_than_devices_are_all_repeated_alike():
    mesh = make_mesh(devices=jax.devices()[:4])
    np.testing.assert_array_equal(enough_rows(np.array([5, 9, 2]), mesh), [5, 9, 2, 5, 9, 2])
    np.testing.assert_array_equal(enough_rows(np.arange(4), mesh), np.arange(4))


@pytest.mark.parametrize(("count", "share"), [(8, 2), (6, 6)])
def test_rows_are_spread_where_the_devices_divide_them(count, share):
    mesh = make_mesh(devices=jax.devices()[:4])
    found = spread(jax.jit(lambda params, batch: params["scale"] * batch), {"scale": jnp.float32(3)}, mesh)(
        np.arange(count, dtype=np.float32)
    )
    assert {shard.data.shape for shard in found.addressable_shards} == {(share,)}
    assert_array_equal(found, 3 * np.arange(count))
