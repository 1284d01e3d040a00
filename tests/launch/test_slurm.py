"""The job that slurm.sh hands to sbatch, run with stand-ins for SLURM's programs."""

import re
import subprocess

import pytest
from jax._src.clusters import ClusterEnv

FLAGS = ["--config=c.py", "--workdir=my run"]


@pytest.fixture
def job(launch, stand_in, tmp_path):
    """The script that sbatch gets for two nodes of eight GPUs."""
    stand_in("sbatch", 'cp "${@: -1}" "$JOB"; printf "%s\\n" "${@:1:$#-1}" >"$JOB.options"')
    options = ["--time=1:00:00", "--comment=two words"]
    done = launch("slurm.sh", "2", "8", *options, "--", *FLAGS, JOB=tmp_path / "job", PYTHON="/a b/python")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "job.options").read_text().splitlines() == options
    return tmp_path / "job"


def test_one_task_for_each_gpu_since_jax_gives_a_task_one(job, monkeypatch):
    for name in ("nodes=2", "ntasks-per-node=8", "gpus-per-node=8"):
        assert re.search(rf"^#SBATCH --{name}$", job.read_text(), re.MULTILINE)
    variables = {"JOB_ID": 1, "STEP_NODELIST": "node[1-2]", "NTASKS": 16, "PROCID": 11, "LOCALID": 3}
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    found = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, "slurm", None)
    assert found[1:] == (16, 11, [3])


@pytest.mark.parametrize(("status", "queued"), [(0, ""), (75, "requeue 123\n"), (2, ""), (137, "")])
def test_job_that_saved_and_no_other_queues_itself_again(status, queued, job, stand_in, environment, tmp_path):
    stand_in("srun", 'printf "%s\\n" "$@" >"$CALL"; exit "$STATUS"')
    stand_in("scontrol", 'echo "$@" >>"$QUEUED"')
    places = {"CALL": tmp_path / "call", "QUEUED": tmp_path / "queued"}
    places["QUEUED"].touch()
    variables = environment(SLURM_JOB_ID=123, SLURM_CPUS_PER_TASK=4, STATUS=status, **places)
    assert subprocess.run(["bash", job], env=variables).returncode == status
    assert places["QUEUED"].read_text() == queued
    call = places["CALL"].read_text().splitlines()
    assert call[:4] == ["--kill-on-bad-exit=0", "--wait=0", "--cpus-per-task=4", "/a b/python"]
    assert call[5:] == FLAGS
