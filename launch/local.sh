#!/usr/bin/env bash
# Several processes on this machine, as on several hosts: to try a multi-host run where there is one.
#
#   launch/local.sh [--dry-run] PROCESSES DEVICES_EACH --config=... --workdir=...
#
# Each process gets DEVICES_EACH virtual CPU devices. When one fails, the others are asked to stop, and its status is
# the script's; it is 75 when the processes were asked to stop and saved, and 0 when all are done.
# PYTHON (python) and PORT (a free one) come from the environment.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dry=""
if [ "${1:-}" = "--dry-run" ]; then dry=1; shift; fi
if [ $# -lt 3 ]; then sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
processes=$1 devices=$2
shift 2
python=${PYTHON:-python}
port=${PORT:-$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}

status=0
running=()
stopped=""
stop() {
  stopped=1
  kill -TERM ${running[@]+"${running[@]}"} 2>/dev/null || true
}
trap stop INT TERM
for ((i = 0; i < processes; i++)); do
  command=(env JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES="$devices" "$python" "$here/train.py" "$@"
    --coordinator="127.0.0.1:$port" --processes="$processes" --process="$i")
  if [ -n "$dry" ]; then printf '%q ' "${command[@]}"; echo; continue; fi
  # without the rest, those that have begun would wait for them in vain
  if [ -n "$stopped" ]; then status=143; stop; break; fi
  "${command[@]}" &
  running+=($!)
done
while [ ${#running[@]} -gt 0 ]; do
  # a signal, too, ends this wait; so ask who is left, whatever it returned
  wait -n || true
  left=()
  for pid in "${running[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then left+=("$pid"); continue; fi
    code=0
    wait "$pid" || code=$?
    case $code in
      0) ;;
      75) [ "$status" != 0 ] || status=75 ;;
      *)
        if [ "$status" = 0 ] || [ "$status" = 75 ]; then status=$code; fi
        stop
        ;;
    esac
  done
  running=(${left[@]+"${left[@]}"})
done
exit "$status"
