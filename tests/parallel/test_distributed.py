"""Finding the other processes of a run: by flags, by environment, by the cluster."""

import os
import socket
import subprocess
import sys

import jax
import pytest

from clipjax.errors import ConfigError
from clipjax.parallel.distributed import detect, initialize

SLURM = {
    "SLURM_JOB_ID": "123",
    "SLURM_STEP_NODELIST": "node[001-002]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    """No scheduler's variables, whatever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "KUBERNETES_", "JAX_COORDINATOR", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "TPU_")):
            monkeypatch.delenv(name)
    monkeypatch.delenv("JOB_COMPLETION_INDEX", raising=False)


@pytest.fixture
def started(monkeypatch):
    """The calls that would have connected processes."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **options: calls.append(options))
    return calls


@pytest.fixture
def tpu_host(monkeypatch):
    from jax._src import cloud_tpu_init

    monkeypatch.setattr(cloud_tpu_init, "running_in_cloud_tpu_vm", True)


def test_without_a_cluster_nothing_happens(started):
    cluster = initialize()
    assert started == []
    assert (cluster.processes, cluster.process, str(cluster)) == (1, 0, "one process (no cluster found)")


def test_one_process_asked_for_needs_no_coordinator(started):
    assert initialize(processes=1).processes == 1
    assert started == []


def test_flags_are_handed_to_jax_and_switch_detection_off(started, monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    cluster = initialize("10.0.0.1:1234", 4, 3, timeout_seconds=9)
    assert started == [
        {
            "coordinator_address": "10.0.0.1:1234",
            "num_processes": 4,
            "process_id": 3,
            "cluster_detection_method": "deactivate",
            "initialization_timeout": 9,
        }
    ]
    assert str(cluster) == "process 3 of 4 (given explicitly, coordinator 10.0.0.1:1234)"


def test_environment_variables_stand_in_for_flags(started, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "host:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    assert initialize(process=0).processes == 2
    assert started[0]["coordinator_address"] == "host:1"


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        ({"coordinator": "host:1"}, "--processes or JAX_NUM_PROCESSES and --process or JAX_PROCESS_ID"),
        ({"processes": 2, "process": 0}, "--coordinator or JAX_COORDINATOR_ADDRESS"),
        ({"coordinator": "host:1", "processes": 2}, "--process or JAX_PROCESS_ID"),
        ({"process": 0}, "--coordinator"),
    ],
)
def test_part_of_the_flags_is_refused_and_the_rest_named(flags, missing, started):
    with pytest.raises(ConfigError, match=missing):
        initialize(**flags)
    assert started == []


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("host:1", 2, 2), "process 2 of 2 processes; processes count from 0 to 1"),
        (("host:1", 2, -1), "process -1 of 2"),
        (("host:1", 0, 0), "process 0 of 0"),
        (("host", 2, 0), "'host' is not HOST:PORT"),
        (("host:port", 2, 0), "not HOST:PORT"),
        (("host:99999", 2, 0), "not HOST:PORT"),
    ],
)
def test_impossible_flags_are_refused(flags, complaint, started):
    with pytest.raises(ConfigError, match=complaint):
        initialize(*flags)
    assert started == []


def test_a_variable_that_is_no_number_is_refused(started, monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(ConfigError, match="processes is 'two'; it must be an integer"):
        initialize("host:1", process=0)


def test_a_task_of_srun_lets_jax_find_its_peers(started, monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert initialize().found == "SLURM job 123"
    assert started == [{"initialization_timeout": 300}]


def test_part_of_the_variables_is_completed_by_the_cluster(started, monkeypatch):
    for name, value in (SLURM | {"JAX_COORDINATOR_ADDRESS": "node001:1234"}).items():
        monkeypatch.setenv(name, value)
    assert initialize().found == "SLURM job 123"


def test_an_allocation_without_srun_is_one_process_and_says_so(started, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert "not started by srun" in str(initialize())
    assert started == []


def test_a_slurm_job_of_one_task_is_one_process(started, monkeypatch):
    for name, value in (SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}).items():
        monkeypatch.setenv(name, value)
    assert initialize().processes == 1
    assert started == []


def test_a_pod_of_an_indexed_job_is_detected(monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert detect() is None
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    assert detect() == "indexed Kubernetes job"


def test_a_tpu_host_is_detected_on_compute_engine_and_on_gke(tpu_host, monkeypatch):
    assert detect() == "TPU VM"
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "true")
    assert detect() is None
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "a,b")
    assert detect() == "TPU slice on GKE"


def test_a_failed_start_is_one_line_with_the_remedy(monkeypatch):
    def fail(**options):
        raise RuntimeError("Failed to recognize coordinator address node001\nmore")

    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(ConfigError, match=r"SLURM job 123\) failed: Failed to recognize .* node001; check .*--process"):
        initialize()


def test_starting_after_the_first_computation_is_refused():
    jax.devices()
    with pytest.raises(ConfigError, match="must be called before"):
        initialize("127.0.0.1:1234", 2, 0)


TWO_PROCESSES = """
import sys
import jax
from clipjax.parallel.distributed import initialize
jax.config.update("jax_num_cpu_devices", 2)
print(initialize(sys.argv[1], 2, int(sys.argv[2]), timeout_seconds=60))
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
rows = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
mine = np.full(2, 1.0 + jax.process_index(), np.float32)
print(float(jax.jit(lambda x: x.sum())(jax.make_array_from_process_local_data(rows, mine))))
"""


def test_two_processes_add_up_what_each_holds():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES, address, str(index)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        answers = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for index, (out, err) in enumerate(answers):
        lines = out.splitlines()  # the transport may talk in between
        assert lines[0] == f"process {index} of 2 (given explicitly, coordinator {address})", err
        assert lines[-1] == "6.0", err
