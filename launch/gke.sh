#!/usr/bin/env bash
# TPU slices on GKE through xpk: one workload, started again by GKE when its nodes are taken away.
#
#   launch/gke.sh [--dry-run] CLUSTER ZONE TYPE WORKLOAD --config=... --workdir=/mnt/bucket/run
#
# PROJECT, IMAGE (a Docker image with clipjax and launch/ in it, in a registry that the cluster can read), SLICES=1 and
# RESTARTS=10 come from the environment. Needs xpk (pip install xpk).
# The workdir is a bucket (Cloud Storage FUSE) or file system that xpk mounts on all hosts.
set -euo pipefail
dry=""
if [ "${1:-}" = "--dry-run" ]; then dry=1; shift; fi
if [ $# -lt 6 ]; then sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
cluster=$1 zone=$2 type=$3 workload=$4
shift 4
# Of itself xpk ends the workload on 75, and gives a run 30 seconds to save.
command=(xpk workload create --cluster="$cluster" --zone="$zone" --workload="$workload" --tpu-type="$type"
  --num-slices="${SLICES:-1}" --max-restarts="${RESTARTS:-10}" --restart-on-exit-codes=75
  --termination-grace-period-seconds=300 --docker-image="${IMAGE:-clipjax}"
  --command="exec python launch/train.py $(printf '%q ' "$@")")
[ -z "${PROJECT:-}" ] || command+=(--project="$PROJECT")
if [ -n "$dry" ]; then printf '%q ' "${command[@]}"; echo; else "${command[@]}"; fi
