#!/usr/bin/env bash
# One machine with GPUs: one process drives them all. Goes on by itself after a stop that saved its state.
#
#   launch/gpu.sh [--dry-run] --config=... --workdir=...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ "${1:-}" = "--dry-run" ]; then shift; echo "JAX_PLATFORMS=cuda ${PYTHON:-python} $here/train.py $*"; exit; fi
if [ $# -lt 2 ]; then sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
export JAX_PLATFORMS=${JAX_PLATFORMS:-cuda}
# products of several streams overlap better, see docs/training.md
export XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_enable_latency_hiding_scheduler=true"
exec "${PYTHON:-python}" "$here/train.py" "$@"
