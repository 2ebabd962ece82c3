#!/usr/bin/env bash
# Tries the document of the API: starts a coordinator and asks it for what its /openapi.json says, and for what it does
# not, with data that schemathesis makes. No 5xx but 503, no status, header or body that is not in the document, nothing
# refused that it allows, nothing taken that it does not.
#
#   tests/openapi/run.sh                       # 15 examples for each operation and phase, the same each time
#   tests/openapi/run.sh --examples 1000 --random
#
# --examples N    how many examples for each operation, in each phase that makes examples up
# --random        other examples each time, and following links between operations; else the same ones, without
# --report FILE   where to write what was tried, as JSON
# --              what follows is for schemathesis, such as --include-operation-id enqueueJob
# SKYCLAWD names the coordinator; the one that was built last otherwise.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
examples=15 random=false report=""
while [ $# -gt 0 ]; do
    case "$1" in
        --examples) examples="$2"; shift 2 ;;
        --random) random=true; shift ;;
        --report) report="$(realpath "$2")"; shift 2 ;;
        --) shift; break ;;
        *) sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
    esac
done
skyclawd="${SKYCLAWD:-${CARGO_TARGET_DIR:-$here/../../target}/debug/skyclawd}"
[ -x "$skyclawd" ] || { echo "$skyclawd is not there: cargo build -p skyclawd" >&2; exit 1; }
schemathesis="$("$here/tool.sh")"

dir="$(mktemp -d)"
daemon=""
ending() {
    if [ -n "$daemon" ]; then kill -KILL "$daemon" 2>/dev/null || true; wait "$daemon" 2>/dev/null || true; fi
    rm -rf "$dir"
}
trap ending EXIT
trap 'exit 130' INT TERM

SKYCLAW_TRIED_TOKEN="$(cat /proc/sys/kernel/random/uuid)"
SKYCLAW_TRIED_KEY="$(cat /proc/sys/kernel/random/uuid)"
export SKYCLAW_TRIED_TOKEN SKYCLAW_TRIED_KEY
# Nothing of whoever runs this reaches the coordinator.
env -i PATH="$PATH" SKYCLAW_TOKEN="$SKYCLAW_TRIED_TOKEN" SKYCLAW_PUBLIC_API_KEYS="$SKYCLAW_TRIED_KEY:tried:a|b:shell" \
    SKYCLAW_COORDINATOR_HOST=127.0.0.1 SKYCLAW_COORDINATOR_PORT=0 SKYCLAW_MIN_REPLICATIONS=1 \
    SKYCLAW_BOOTSTRAP_EXPECT=1 SKYCLAW_PEER_DISCOVERY=0 SKYCLAW_DB_PATH="$dir/coordinator.db" \
    "$skyclawd" --config /dev/null >"$dir/out" 2>"$dir/log" &
daemon=$!
until grep -q '^listening on ' "$dir/out"; do
    kill -0 "$daemon" 2>/dev/null || { echo "the coordinator did not start:" >&2; cat "$dir/log" >&2; exit 1; }
    sleep 0.05
done
url="$(sed -n 's/^listening on //p' "$dir/out")"

arguments=(--max-examples "$examples" --workers 1 --wait-for-schema 20)
if $random; then
    arguments+=(--phases examples,coverage,fuzzing,stateful)
else
    # What links lead to depends on ids that the coordinator makes up, and with it how often: not the same each time.
    arguments+=(--phases examples,coverage,fuzzing --generation-deterministic --seed 1)
fi
tried="$dir/tried.json"
status=0
# From a copy: it looks for the hooks where it runs, and leaves there what it remembers of faults.
mkdir "$dir/trying"
cp "$here/hooks.py" "$here/schemathesis.toml" "$dir/trying"
(cd "$dir/trying" && SKYCLAW_EXAMPLES="$tried" "$schemathesis" --config-file schemathesis.toml run "$url/openapi.json" \
    "${arguments[@]}" "$@") || status=$?
if [ -n "$report" ] && [ -e "$tried" ]; then cp "$tried" "$report"; fi

if ! kill -0 "$daemon" 2>/dev/null; then
    echo "the coordinator has ended:" >&2
    tail -n 20 "$dir/log" >&2
    exit 1
fi
if grep -E ' (ERROR|panic)' "$dir/log" >&2; then
    echo "the coordinator logged faults of its own" >&2
    exit 1
fi
python3 - "$tried" <<'PY'
import json, sys
tried = json.load(open(sys.argv[1]))
least = min(tried, key=lambda label: tried[label]["examples"])
total = sum(of["examples"] for of in tried.values())
print(f"{total} examples of {len(tried)} operations; the fewest, {tried[least]['examples']}, of {least}")
PY
exit "$status"
