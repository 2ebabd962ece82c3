#!/usr/bin/env bash
# Do disk and memory of a coordinator stay flat when many times more jobs go through it than it keeps? See README.md.
#
#   tests/bench/retention.sh [--bound N] [--times N] [--hosts N] [--enqueuers N] [--payload-bytes N] [--margin PERCENT]
#                            [--dir DIR] [--skyclawd FILE] [--skyctl FILE]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}

bound=20000 times=12 hosts=16 enqueuers=16 payload=256 margin=15 dir="$target/tmp/bench" skyclawd="" skyctl=""
usage() { sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case $1 in
        --bound) bound=$2 ;;
        --times) times=$2 ;;
        --hosts) hosts=$2 ;;
        --enqueuers) enqueuers=$2 ;;
        --payload-bytes) payload=$2 ;;
        --margin) margin=$2 ;;
        --dir) dir=$2 ;;
        --skyclawd) skyclawd=$2 ;;
        --skyctl) skyctl=$2 ;;
        *) usage ;;
    esac
    shift 2
done
[ "$times" -ge 9 ] || { echo "retention.sh: --times must be at least 9" >&2; exit 2; }
if [ -z "$skyclawd" ] || [ -z "$skyctl" ]; then
    (cd "$root" && cargo build --release --locked -p skyclawd -p skyctl >&2)
    skyclawd=${skyclawd:-$target/release/skyclawd} skyctl=${skyctl:-$target/release/skyctl}
fi

mkdir -p "$dir"
work=$(mktemp -d "$dir/retention.XXXXXX")
# shellcheck source=deploy/coordinators.sh
. "$root/deploy/coordinators.sh"
sampler=""
finish() {
    if [ -n "$sampler" ]; then kill "$sampler" 2>/dev/null || true; fi
    end_all
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM
install_missing jq:jq curl:curl

export SKYCLAW_TOKEN=bench-token
# All that is kept has a bound which is passed early: jobs, events (some four a job), and answers to keys.
export SKYCLAW_JOB_RETENTION_MAX=$bound SKYCLAW_EVENT_RETENTION_MAX=$bound SKYCLAW_IDEMPOTENCY_TTL_MS=5000 SKYCLAW_LOG=warn
free_port
start_coordinators "$skyclawd" "$work/data" "$port"
url=${urls[0]} daemon=${pids[0]}

bytes() { stat -c %s "$@" 2>/dev/null | awk '{ n += $1 } END { print n + 0 }'; }
# Database, write-ahead log, replicated log, resident memory.
sample() {
    local db=$work/data/s1/coordinator.db log
    log=$(du -s --block-size=1 "$db.log" 2>/dev/null | cut -f1)
    echo "$(bytes "$db") $(bytes "$db-wal") ${log:-0} $(awk '/^VmRSS:/ { print $2 * 1024 }' "/proc/$daemon/status")"
}
metric() { curl -fsS -H "x-skyclaw-token: $SKYCLAW_TOKEN" "$url/metrics" | awk -v name="$1" '$1 == name || index($1, name "{") == 1 { n += $2 } END { print n + 0 }'; }

jobs=$bound
echo "bound $bound, $((jobs * times)) jobs in $times parts, $enqueuers enqueuers and $hosts hosts; the most of each part in MiB"
printf '%5s %9s %8s %8s %8s %8s %8s %10s %10s\n' part jobs/s db wal log disk memory kept pruned
results=$work/results
: >"$results"
for part in $(seq "$times"); do
    : >"$work/samples"
    (while :; do sample >>"$work/samples"; sleep 0.2; done) &
    sampler=$!
    "$skyctl" --coordinator "$url" bench --yes --jobs "$jobs" --hosts "$hosts" --enqueuers "$enqueuers" \
        --payload-bytes "$payload" -o json >"$work/bench.json" 2>"$work/bench.err" \
        || { cat "$work/bench.err" >&2; fail "the load of part $part failed"; }
    kill "$sampler"; wait "$sampler" 2>/dev/null || true
    sampler=""
    rate=$(jq -r '.completed * 1000 / .elapsedMs | floor' "$work/bench.json")
    kept=$(metric skyclaw_jobs_finished) pruned=$(metric skyclaw_jobs_pruned_total)
    awk -v part="$part" -v rate="$rate" -v kept="$kept" -v pruned="$pruned" -v out="$results" '
        function most(a, b) { return a > b ? a : b }
        { db = most(db, $1); wal = most(wal, $2); log_ = most(log_, $3); disk = most(disk, $1 + $2 + $3); rss = most(rss, $4) }
        END {
            m = 1048576
            printf "%5d %9s %8.1f %8.1f %8.1f %8.1f %8.1f %10d %10d\n", part, rate, db/m, wal/m, log_/m, disk/m, rss/m, kept, pruned
            print db, disk, rss >> out
        }' "$work/samples"
done

# What is left is forgotten within seconds.
for _ in $(seq 600); do
    pruned=$(metric skyclaw_jobs_pruned_total)
    [ "$pruned" -ge $((jobs * (times - 1))) ] && break
    sleep 0.1
done
[ "$pruned" -ge $((jobs * (times - 1))) ] || fail "only $pruned jobs were forgotten after a minute"
echo "at rest: $pruned of $((jobs * times)) jobs are forgotten"
# The first third fills what has a bound: the log until it is compacted for the first time, and caches. What grows
# without one goes on growing from the second third to the last. Median, as the log is cut in steps.
median() { tail -n +"$2" "$results" | head -n "$3" | cut -d' ' -f"$1" | sort -n | awk '{ n[NR] = $1 } END { print (n[int((NR + 1) / 2)] + n[int(NR / 2) + 1]) / 2 }'; }
third=$((times / 3)) flat=yes
column=0
for what in database disk memory; do
    column=$((column + 1))
    second=$(median $column $((times - 2 * third + 1)) $third) last=$(median $column $((times - third + 1)) $third)
    awk -v what=$what -v second="$second" -v last="$last" -v margin="$margin" 'BEGIN {
        printf "%-8s last third over second %.2f (at most %.2f)\n", what, last / second, 1 + margin / 100
        exit last / second > 1 + margin / 100
    }' || flat=no
done
[ $flat = yes ] || fail "it is not flat"
