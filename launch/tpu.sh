#!/usr/bin/env bash
# A TPU VM slice through a queued resource: create it, install clipjax on all workers, run, begin again when preempted.
#
#   launch/tpu.sh [--dry-run] NAME ZONE TYPE --config=... --workdir=/mnt/bucket/run
#   launch/tpu.sh --dry-run clip us-east5-a v5litepod-256 --config=configs/pretrain.py:glyphs --workdir=/mnt/bucket/run
#
# PROJECT, RUNTIME (v2-alpha-tpuv5-lite), SPOT=1 and SETUP (a command for each worker, such as the one that mounts the
# bucket; it may run twice) come from the environment. Needs gcloud.
# The workdir is a mounted bucket (Cloud Storage FUSE) or file system that all workers see.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
dry=""
if [ "${1:-}" = "--dry-run" ]; then dry=1; shift; fi
if [ $# -lt 5 ]; then sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
name=$1 zone=$2 type=$3
shift 3
where=(--zone="$zone")
[ -z "${PROJECT:-}" ] || where+=(--project="$PROJECT")
run="cd clipjax && ~/venv/bin/python launch/train.py $(printf '%q ' "$@")"
installed=""

do_() { if [ -n "$dry" ]; then printf '%q ' "$@"; echo; else "$@"; fi; }
queued() { do_ gcloud compute tpus queued-resources "$1" "$name" "${where[@]}" "${@:2}"; }
on_all() { do_ gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all --command="$1"; }

create() {
  local spot=()
  [ -z "${SPOT:-}" ] || spot=(--spot)
  queued create --node-id="$name" --accelerator-type="$type" --runtime-version="${RUNTIME:-v2-alpha-tpuv5-lite}" \
    ${spot[@]+"${spot[@]}"}
  installed=""
}
delete() { queued delete --force --quiet; }

ask() {
  local answer
  if answer=$(queued describe --format='value(state.state)' 2>&1); then
    tail -n 1 <<<"$answer"  # gcloud may have said something before
  elif [[ $answer == *NOT_FOUND* ]]; then
    echo ABSENT
  else
    echo "$answer" >&2
    return 1
  fi
}
# the connection may be lost for a while
state() { until ask; do sleep 60; done; }

wait_until_active() {
  local now asked=""
  while true; do
    now=$(state)
    case $now in
      ACTIVE) return ;;
      ABSENT) create; asked=1 ;;
      SUSPENDED) echo "$name was taken away; asking for it again"; delete ;;
      FAILED)
        # one from an earlier time is in the way; our own would fail again
        if [ -n "$asked" ]; then
          echo "$name cannot be had; gcloud compute tpus queued-resources describe $name ${where[*]} says why" >&2
          exit 1
        fi
        delete
        ;;
      *) echo "waiting for $name ($now)"; sleep 60 ;;
    esac
  done
}

install() {
  local archive
  archive=$(mktemp)
  do_ tar -C "$root" --exclude='./.*' --exclude=./runs -czf "$archive" .
  do_ gcloud compute tpus tpu-vm scp "$archive" "$name:clipjax.tgz" "${where[@]}" --worker=all
  rm -f "$archive"
  # the images' own Python is 3.10, too old; uv brings one
  on_all "rm -rf clipjax && mkdir clipjax && tar -xzf clipjax.tgz -C clipjax && cd clipjax \
&& PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install -q --user uv \
&& python3 -m uv venv -q --allow-existing --python 3.12 ~/venv \
&& python3 -m uv pip install -q --python ~/venv/bin/python '.[tpu]'"
  [ -z "${SETUP:-}" ] || on_all "$SETUP"
  installed=1
}

if [ -n "$dry" ]; then create; install; on_all "$run"; delete; exit; fi
ask >/dev/null
while true; do
  wait_until_active
  [ -n "$installed" ] || install
  status=0
  on_all "$run" || status=$?  # the status of the first worker that failed
  case $status in
    0) break ;;
    75) echo "the run was stopped and has saved its state; starting it again" ;;
    2) echo "another start would end the same way: mend it and repeat the command; $name is still there" >&2; exit 2 ;;
    *)
      sleep 60  # a preemption shows in the state a while after the connection is lost
      if [ "$(state)" = ACTIVE ]; then
        echo "the run failed with status $status, see its output; $name is still there" >&2
        exit "$status"
      fi
      ;;
  esac
done
delete
