"""Topologies by name, with and without the TPU compiler."""

import importlib.util
import os
import subprocess
import sys

import jax
import pytest

from clipjax.errors import ConfigError
from clipjax.parallel.topology import plan_devices

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the extra `plan` (libtpu)")


@pytest.fixture(autouse=True, scope="module")
def running():
    """Jax, started with the number of devices that the other tests expect."""
    return jax.devices()


def test_cpu_topology_takes_the_devices_that_jax_runs_with():
    assert plan_devices("cpu:2") == jax.devices("cpu")[:2]


def test_more_cpu_devices_than_jax_started_with_are_refused():
    with pytest.raises(ConfigError, match="already runs with 4 CPU devices; choose the topology before"):
        plan_devices("cpu:64")


def test_cpu_topology_comes_into_being_at_the_first_use_of_jax():
    program = "from clipjax.parallel.topology import plan_devices; print(len(plan_devices('cpu:7')))"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    assert subprocess.check_output([sys.executable, "-c", program], env=environment, text=True) == "7\n"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("v9:4x4", "the chip 'v9' is not one of v4, v5e, v5p, v6e or cpu"),
        ("", "the chip '' is not one of"),
        ("v5e", "v5e slices have 2 sides, as in v5e:4x4"),
        ("v5e:16", "2 sides"),
        ("v5e:4x4x4", "2 sides"),
        ("v5p:4x4", "v5p slices have 3 sides, as in v5p:4x4x4"),
        ("v5e:0x4", "2 sides"),
        ("v5e:axb", "2 sides"),
        ("v5e:32x32", "1,024 chips; the largest v5e slice has 256"),
        ("cpu:0", "a number of devices from 1 to 512"),
        ("cpu:many", "a number of devices"),
        ("cpu", "a number of devices"),
    ],
)
def test_a_wrong_name_is_refused_with_the_reason(name, complaint):
    with pytest.raises(ConfigError, match=complaint):
        plan_devices(name)


def test_without_the_tpu_compiler_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'clipjax\[plan\]'"):
        plan_devices("v5e:4x4")


@needs_libtpu
@pytest.mark.parametrize(
    ("name", "chips", "kind"),
    [
        ("v4:2x2x2", 8, "TPU v4"),
        ("v5e:16x16", 256, "TPU v5 lite"),
        ("v5p:4x4x4", 64, "TPU v5"),
        ("v6e:8x8", 64, "TPU v6 lite"),
        ("v5e:1x1", 1, "TPU v5 lite"),
        ("v5e:2x4", 8, "TPU v5 lite"),
    ],
)
def test_a_tpu_topology_has_one_device_per_chip(name, chips, kind):
    devices = plan_devices(name)
    assert (len(devices), {device.device_kind for device in devices}) == (chips, {kind})
    assert len({tuple(device.coords) for device in devices}) == chips


@needs_libtpu
def test_looking_for_a_topology_leaves_the_environment_alone():
    before = dict(os.environ)
    plan_devices("v5e:4x4")
    assert {name: value for name, value in os.environ.items() if name != "TPU_LIBRARY_PATH"} == {
        name: value for name, value in before.items() if name != "TPU_LIBRARY_PATH"
    }
