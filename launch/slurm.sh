#!/usr/bin/env bash
# A SLURM job: one task per node, each drives its node's GPUs; jax finds the others by SLURM's variables.
#
#   launch/slurm.sh [--dry-run] NODES GPUS_PER_NODE [sbatch options --] --config=... --workdir=...
#
# SLURM sends SIGTERM five minutes before the end of the time limit or on preemption; the run saves and exits with 75,
# and the job queues itself again.
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
cat >"$script" <<JOB
#!/usr/bin/env bash
#SBATCH --job-name=clipjax
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=$gpus
#SBATCH --requeue
#SBATCH --signal=TERM@300
#SBATCH --open-mode=append
srun --kill-on-bad-exit=1 ${PYTHON:-python} $(printf '%q' "$here/train.py") $(printf '%q ' "$@")
status=\$?
[ "\$status" = 75 ] && scontrol requeue "\$SLURM_JOB_ID"
exit "\$status"
JOB
if [ -n "$dry" ]; then echo "sbatch ${options[*]:-} <<'JOB'"; cat "$script"; echo JOB; exit; fi
sbatch "${options[@]}" "$script"
