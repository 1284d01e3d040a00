"""Devices to compile for: a TPU slice that is not there, or a number of virtual CPU devices."""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import jax

from clipjax.errors import ConfigError
from clipjax.parallel.chips import TPUS

_AXES = {"v4": 3, "v5e": 2, "v5p": 3, "v6e": 2}
# The largest slices that can be rented: 16x16, and 16x16x24 for v5p (docs.cloud.google.com/tpu/docs).
_MOST_CHIPS = {"v4": 4096, "v5e": 256, "v5p": 6144, "v6e": 256}
_MOST_CPU_DEVICES = 512
_EXAMPLES = "such as v5e:16x16, v5p:4x4x4, v6e:8x8 or cpu:8"


def plan_devices(topology: str) -> list[Any]:
    """Return the devices of a topology by name, in the order of their coordinates.

    `v5e:16x16` gives the chips of a TPU slice without any TPU: programs can be lowered and compiled
    for them, not run. `cpu:8` gives virtual CPU devices, and has to come before jax's first use.

    Raises:
      ConfigError: an unknown or impossible topology, libtpu is not installed, or jax was started
        with fewer CPU devices.
    """
    kind, _, size = topology.partition(":")
    if kind == "cpu":
        return _cpu_devices(topology, size)
    if kind not in TPUS:
        raise ConfigError(
            f"topology {topology!r}: the chip {kind!r} is not one of {', '.join(TPUS)} or cpu; use a name {_EXAMPLES}"
        )
    if not re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3})*", size) or size.count("x") + 1 != _AXES[kind]:
        raise ConfigError(
            f"topology {topology!r}: {kind} slices have {_AXES[kind]} sides, as in "
            f"{kind}:{'x'.join(['4'] * _AXES[kind])}"
        )
    sides = [int(side) for side in size.split("x")]
    chips = 1
    for side in sides:
        chips *= side
    if chips > _MOST_CHIPS[kind]:
        raise ConfigError(f"topology {topology!r}: {chips:,} chips; the largest {kind} slice has {_MOST_CHIPS[kind]:,}")
    return _tpu_devices(topology, kind, sides)


def _cpu_devices(topology: str, size: str) -> list[Any]:
    if not re.fullmatch(r"[1-9]\d*", size) or int(size) > _MOST_CPU_DEVICES:
        raise ConfigError(f"topology {topology!r}: cpu takes a number of devices from 1 to {_MOST_CPU_DEVICES}")
    # never fewer than were asked for elsewhere; and jax refuses to change the number once it runs
    if jax.config.jax_num_cpu_devices < int(size):  # pyright: ignore[reportAttributeAccessIssue]
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", int(size))
    devices = jax.devices("cpu")
    if len(devices) < int(size):
        raise ConfigError(
            f"topology {topology!r}: jax already runs with {len(devices)} CPU devices; choose the topology before "
            f"jax's first use, or set JAX_NUM_CPU_DEVICES={size}"
        )
    return devices[: int(size)]


def _tpu_devices(topology: str, kind: str, sides: list[int]) -> list[Any]:
    from importlib.util import find_spec

    from jax.experimental import topologies

    if find_spec("libtpu") is None and "TPU_LIBRARY_PATH" not in os.environ:
        raise ConfigError(f"topology {topology!r} needs the TPU compiler: pip install 'clipjax[plan]'")
    options: dict = {}
    if kind == "v4":
        options["chip_config_name"] = "megacore"  # one device per chip, as programs see it
    if any(side % 2 for side in sides[:2]):
        options["chips_per_host_bounds"] = (1, 1, 1)  # the default host holds 2x2 chips
    try:
        with _compile_only():
            described = topologies.get_topology_desc(topology, platform="tpu", **options)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"topology {topology!r}: {str(error).splitlines()[0]}") from error
    return list(described.devices)


@contextlib.contextmanager
def _compile_only() -> Iterator[None]:
    """Load libtpu beside other processes that do, and without its search for the TPU of this machine."""
    quiet = {
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
    }
    added = [name for name in quiet if name not in os.environ]
    os.environ.update({name: quiet[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
