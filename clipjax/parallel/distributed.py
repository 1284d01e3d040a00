"""Start jax on several hosts: detected on TPU pods, SLURM and GKE, by flags or environment variables elsewhere."""

import os
import warnings
from dataclasses import dataclass

import jax

from clipjax.errors import ConfigError

_VARIABLES = {
    "coordinator": "JAX_COORDINATOR_ADDRESS",
    "processes": "JAX_NUM_PROCESSES",
    "process": "JAX_PROCESS_ID",
}


@dataclass(frozen=True)
class Cluster:
    """How this process came to its place among all processes; `found` is for the log."""

    found: str
    processes: int = 1
    process: int = 0
    coordinator: str | None = None

    def __str__(self) -> str:
        if self.processes == 1:
            return f"one process ({self.found})"
        at = f", coordinator {self.coordinator}" if self.coordinator else ""
        return f"process {self.process} of {self.processes} ({self.found}{at})"


def initialize(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    timeout_seconds: int = 300,
) -> Cluster:
    """Connect this process to the others of its run; do nothing when there are none.

    Call it before jax's first computation. What is not given is read from the variables
    JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID. Without
    any, jax finds its peers on a TPU pod (Google Compute Engine or GKE), inside `srun`, and in an
    indexed Kubernetes job.

    Raises:
      ConfigError: only some of the three are given, they contradict each other, or the others
        cannot be found or reached.
    """
    given = _given(coordinator, processes, process)
    if given is None:
        kind = detect()
        if kind is None:
            return Cluster(_alone())
        _connect(kind, timeout_seconds)
        return Cluster(kind, jax.process_count(), jax.process_index())
    coordinator, processes, process = given
    if processes == 1:
        return Cluster("one process asked for")
    found = f"{processes} processes given explicitly"
    _connect(found, timeout_seconds, coordinator_address=coordinator, num_processes=processes, process_id=process)
    return Cluster("given explicitly", processes, process, coordinator)


def detect() -> str | None:
    """Name the kind of cluster whose scheduler started this process, if jax can find its peers there."""
    environment = os.environ
    if _on_tpu_host():
        # GKE lists the hosts and has no metadata server to ask; Compute Engine has one
        if "TPU_PROCESS_ADDRESSES" in environment or "TPU_WORKER_HOSTNAMES" in environment:
            return "TPU slice on GKE"
        if "TPU_SKIP_MDS_QUERY" not in environment:
            return "TPU VM"
    # srun sets the step's variables; a plain command inside sbatch or salloc sees the job's only
    if "SLURM_STEP_NODELIST" in environment and _count("SLURM_NTASKS") > 1 and "SLURM_PROCID" in environment:
        return f"SLURM job {environment.get('SLURM_JOB_ID', '?')}"
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        return "indexed Kubernetes job"
    return None


def _given(coordinator: str | None, processes: int | None, process: int | None) -> tuple[str | None, int, int] | None:
    """All three values, from arguments or else the environment; None when the cluster is to say."""
    arguments = {"coordinator": coordinator, "processes": processes, "process": process}
    values = {name: os.environ.get(_VARIABLES[name]) if v is None else v for name, v in arguments.items()}
    explicit = any(v is not None for v in arguments.values())
    if all(v is None for v in values.values()):
        return None
    numbers = {name: _integer(name, values[name]) for name in ("processes", "process") if values[name] is not None}
    if numbers.get("processes") == 1 and numbers.get("process", 0) == 0:
        return None if not explicit and detect() else (None, 1, 0)
    missing = [name for name, v in values.items() if v is None]
    if missing:
        if not explicit and detect():
            return None  # schedulers may set some of the variables; jax completes them
        known = ", ".join(name for name in values if name not in missing)
        remedy = " and ".join(f"--{name} or {_VARIABLES[name]}" for name in missing)
        raise ConfigError(f"multi-host start-up: {known} given without {', '.join(missing)}; set {remedy} too")
    address, count, index = str(values["coordinator"]), numbers["processes"], numbers["process"]
    if count < 1 or not 0 <= index < count:
        raise ConfigError(
            f"multi-host start-up: process {index} of {count} processes; processes count from 0 to {max(count - 1, 0)}"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"multi-host start-up: coordinator {address!r} is not HOST:PORT, such as 10.0.0.1:1234")
    return address, count, index


def _integer(name: str, value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise ConfigError(f"multi-host start-up: {name} is {value!r}; it must be an integer") from None


def _connect(found: str, timeout_seconds: int, **explicit) -> None:
    if jax.distributed.is_initialized():
        return
    if explicit:
        explicit["cluster_detection_method"] = "deactivate"
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            jax.distributed.initialize(initialization_timeout=timeout_seconds, **explicit)
    except Exception as error:  # jax raises RuntimeError, ValueError, and what its metadata requests raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if any("kubernetes" in str(warning.message) for warning in said):
            reason = "the kubernetes package is missing (pip install kubernetes)"
        raise ConfigError(
            f"multi-host start-up ({found}) failed: {reason}; check the cluster, or give --coordinator, --processes "
            "and --process"
        ) from error


def _alone() -> str:
    if _count("SLURM_NTASKS") > 1:
        return "inside a SLURM allocation, but not started by srun"
    return "no cluster found"


def _count(variable: str) -> int:
    value = os.environ.get(variable, "")
    return int(value) if value.isdigit() else 0


def _on_tpu_host() -> bool:
    """Whether jax found TPU chips on this machine when it was imported, and the library to use them."""
    from jax._src import cloud_tpu_init

    return cloud_tpu_init.running_in_cloud_tpu_vm
