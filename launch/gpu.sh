#!/usr/bin/env bash
# One machine with GPUs: one process drives them all. A run that was stopped goes on when the command is repeated.
#
#   launch/gpu.sh [--dry-run] --config=... --workdir=...
#
# JAX_PLATFORMS (cuda), XLA_FLAGS and PYTHON (python) come from the environment.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dry=""
if [ "${1:-}" = "--dry-run" ]; then dry=1; shift; fi
if [ $# -lt 2 ]; then sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
# XLA then sends gradients between GPUs while they compute; of two equal flags the last counts, so yours do
flags="--xla_gpu_enable_latency_hiding_scheduler=true${XLA_FLAGS:+ $XLA_FLAGS}"
command=(env JAX_PLATFORMS="${JAX_PLATFORMS:-cuda}" XLA_FLAGS="$flags" "${PYTHON:-python}" "$here/train.py" "$@")
if [ -n "$dry" ]; then printf '%q ' "${command[@]}"; echo; exit; fi
# in place of this shell: signals reach the run, and its status is the script's
exec "${command[@]}"
