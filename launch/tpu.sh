#!/usr/bin/env bash
# A TPU VM pod slice through a queued resource: create it, install clipjax on all workers, run, begin again when preempted.
#
#   launch/tpu.sh [--dry-run] NAME ZONE TYPE --config=... --workdir=/mnt/bucket/run
#   launch/tpu.sh --dry-run clip us-east5-a v5litepod-256 --config=configs/pretrain.py:vit_l14 --workdir=/mnt/bucket/run
#
# PROJECT, RUNTIME (v2-alpha-tpuv5-lite) and SPOT=1 come from the environment. Needs gcloud.
# The workdir is a mounted bucket (Cloud Storage FUSE) or file system that all workers see.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dry=""
if [ "${1:-}" = "--dry-run" ]; then dry=1; shift; fi
if [ $# -lt 5 ]; then sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
name=$1 zone=$2 type=$3
shift 3
runtime=${RUNTIME:-v2-alpha-tpuv5-lite}
where=(--zone="$zone")
[ -n "${PROJECT:-}" ] && where+=(--project="$PROJECT")

do_() { if [ -n "$dry" ]; then printf '%q ' "$@"; echo; else "$@"; fi; }
state() { gcloud compute tpus queued-resources describe "$name" "${where[@]}" --format='value(state.state)' 2>/dev/null || true; }
on_all() { do_ gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all --command="$1"; }

create() {
  local spot=()
  [ -n "${SPOT:-}" ] && spot=(--spot)
  do_ gcloud compute tpus queued-resources create "$name" --node-id="$name" "${where[@]}" \
    --accelerator-type="$type" --runtime-version="$runtime" "${spot[@]}"
  until [ -n "$dry" ] || [ "$(state)" = ACTIVE ]; do echo "waiting for $name ($(state))"; sleep 60; done
  do_ gcloud compute tpus tpu-vm scp --recurse "$here/.." "$name:clipjax" "${where[@]}" --worker=all
  on_all "cd clipjax && python3 -m venv ~/venv && ~/venv/bin/pip install -q '.[tpu]'"
}

command="cd clipjax && ~/venv/bin/python launch/train.py $(printf '%q ' "$@")"
while true; do
  if [ -n "$dry" ] || [ "$(state)" != ACTIVE ]; then
    if [ -z "$dry" ] && [ -n "$(state)" ]; then do_ gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet; fi
    create
  fi
  on_all "$command" && break
  [ -n "$dry" ] && break
  # a mistake in the configuration ends with status 2 on a slice that is still there: do not begin again
  if [ "$(state)" = ACTIVE ]; then echo "the run failed and $name is still active; see its output" >&2; exit 1; fi
  echo "$name was taken away; beginning again"
done
do_ gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
