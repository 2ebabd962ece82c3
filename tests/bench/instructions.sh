#!/usr/bin/env bash
# What an enqueue costs one coordinator, in instructions of the daemon and by function, counted by callgrind. That
# hardly depends on what else the machine does. Callgrind runs one thread at a time, some 50 times slower, and its
# processor has no instructions for hashes; the system's part is not in it.
#
#   tests/bench/instructions.sh [--skyclawd PATH] [--connections N] [--seconds N] [--top N]
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
skyclawd="" connections=64 seconds=10 top=40

while [ $# -gt 0 ]; do
    case $1 in
        --skyclawd) skyclawd=$(realpath "$2") ;;
        --connections) connections=$2 ;;
        --seconds) seconds=$2 ;;
        --top) top=$2 ;;
        *) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done
if [ -z "$skyclawd" ]; then
    (cd "$root" && cargo build --release --locked -p skyclawd >&2)
    skyclawd=$target/release/skyclawd
fi

mkdir -p "$target/tmp"
work=$(mktemp -d "$target/tmp/instructions.XXXXXX")
# shellcheck source=deploy/coordinators.sh
. "$root/deploy/coordinators.sh"
finish() { end_all; rm -rf "$work"; }
trap finish EXIT
trap 'exit 130' INT TERM
install_missing valgrind:valgrind wrk:wrk curl:curl jq:jq

export SKYCLAW_TOKEN=bench-token
counting() { exec valgrind --quiet --tool=callgrind --instr-atstart=no --callgrind-out-file="$work/counted" "$skyclawd"; }
free_port
start_coordinators counting "$work/data" "$port"
url=${urls[0]} pid=${pids[0]}

load() { wrk -t1 -c"$connections" -d"$1s" --timeout 30s -s "$here/put.lua" "$url" -- skyclaw "$2"; }
load 2 warm >/dev/null
callgrind_control -i on "$pid" >/dev/null
result=$(load "$seconds" meas | sed -n 's/^RESULT //p')
# What is written to the database a moment later belongs to it.
sleep 1
callgrind_control -i off "$pid" >/dev/null
callgrind_control -d "$pid" >/dev/null
requests=$(sed 's/.*"requests":\([0-9]*\).*/\1/' <<<"$result")
counted=$(ls "$work"/counted* | tail -n 1)
sed -n 's/^\(summary\|totals\): //p' "$counted" | tail -n 1 |
    awk -v n="$requests" '{ printf "%d requests, %.0f instructions each\n", n, $1 / n }'
callgrind_annotate --auto=no --threshold=100 "$counted" 2>/dev/null |
    awk -v n="$requests" -v top="$top" '/^ *[0-9][0-9,]* \(/ {
        count = $1; gsub(",", "", count)
        if (/PROGRAM TOTALS/ || seen++ >= top) next
        sub(/^ *[0-9,]+ \([^)]*\) */, ""); sub(/^.*\/registry\/src\/[^\/]*\//, "")
        printf "%8.0f  %s\n", count / n, substr($0, 1, 150)
    }'
