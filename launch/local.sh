#!/usr/bin/env bash
# Several processes on this machine, as on several hosts: to try a multi-host run where there is one.
#
#   launch/local.sh [--dry-run] PROCESSES DEVICES_EACH --config=... --workdir=...
#
# Each process gets DEVICES_EACH virtual CPU devices. All stop when one fails.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dry=""
if [ "${1:-}" = "--dry-run" ]; then dry=1; shift; fi
if [ $# -lt 3 ]; then sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
processes=$1 devices=$2
shift 2
python=${PYTHON:-python}
port=${PORT:-$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}

pids=()
stop() { kill -TERM "${pids[@]}" 2>/dev/null || true; }
trap stop INT TERM
for ((i = 0; i < processes; i++)); do
  command=("$python" "$here/train.py" "$@" "--coordinator=127.0.0.1:$port" "--processes=$processes" "--process=$i")
  if [ -n "$dry" ]; then echo "JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=$devices ${command[*]}"; continue; fi
  JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=$devices "${command[@]}" &
  pids+=($!)
done
status=0
for ((n = 0; n < ${#pids[@]}; n++)); do
  wait -n "${pids[@]}" || { code=$?; [ "$status" = 0 ] && status=$code; [ "$code" = 75 ] || stop; }
done
exit "$status"
