#!/usr/bin/env bash
# TPUs or GPUs on GKE through xpk: one workload, restarted by GKE when its nodes are taken away.
#
#   launch/gke.sh [--dry-run] CLUSTER ZONE TYPE WORKLOAD --config=... --workdir=/mnt/bucket/run
#
# PROJECT, IMAGE (a Docker image with clipjax and launch/ in it), SLICES=1 and RESTARTS=10 come from the environment.
# The workdir is a mounted bucket (Cloud Storage FUSE) or file system that all hosts see. Needs xpk (pip install xpk).
set -euo pipefail
dry=""
if [ "${1:-}" = "--dry-run" ]; then dry=1; shift; fi
if [ $# -lt 6 ]; then sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
cluster=$1 zone=$2 type=$3 workload=$4
shift 4
command=(xpk workload create --cluster="$cluster" --zone="$zone" --workload="$workload" --tpu-type="$type"
  --num-slices="${SLICES:-1}" --max-restarts="${RESTARTS:-10}" --docker-image="${IMAGE:-clipjax}"
  --command="python launch/train.py $(printf '%q ' "$@")")
[ -n "${PROJECT:-}" ] && command+=(--project="$PROJECT")
if [ -n "$dry" ]; then printf '%q ' "${command[@]}"; echo; else "${command[@]}"; fi
