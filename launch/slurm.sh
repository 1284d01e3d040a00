#!/usr/bin/env bash
# A SLURM job: one task per GPU; jax finds the others, and which GPU is its own, by SLURM's variables.
#
#   launch/slurm.sh [--dry-run] NODES GPUS_PER_NODE [sbatch options --] --config=... --workdir=...
#
# SLURM sends SIGTERM five minutes before the end of the time limit; the run saves and exits with 75, and the job queues
# itself again. PYTHON (python) comes from the environment.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dry=""
if [ "${1:-}" = "--dry-run" ]; then dry=1; shift; fi
if [ $# -lt 4 ]; then sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
nodes=$1 gpus=$2
shift 2
options=()
for argument in "$@"; do
  if [ "$argument" = "--" ]; then while [ "$1" != "--" ]; do options+=("$1"); shift; done; shift; break; fi
done
script=$(mktemp)
trap 'rm -f "$script"' EXIT
# A task that has saved must not take the slower ones with it: srun neither kills the rest nor stops waiting for them.
# srun returns the highest status of all tasks, and does not take over --cpus-per-task.
cat >"$script" <<JOB
#!/usr/bin/env bash
#SBATCH --job-name=clipjax
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=$gpus
#SBATCH --gpus-per-node=$gpus
#SBATCH --requeue
#SBATCH --signal=TERM@300
#SBATCH --open-mode=append
srun --kill-on-bad-exit=0 --wait=0 \${SLURM_CPUS_PER_TASK:+--cpus-per-task=\$SLURM_CPUS_PER_TASK} \\
  $(printf '%q ' "${PYTHON:-python}" "$here/train.py" "$@")
status=\$?
if [ "\$status" = 75 ]; then scontrol requeue "\$SLURM_JOB_ID"; fi
exit "\$status"
JOB
command=(sbatch ${options[@]+"${options[@]}"})
if [ -n "$dry" ]; then printf '%q ' "${command[@]}"; echo "<<'JOB'"; cat "$script"; echo JOB; exit; fi
"${command[@]}" "$script"
