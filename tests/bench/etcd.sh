#!/usr/bin/env bash
# How fast are replicated writes beside those of etcd, on this machine, at this moment? See README.md.
#
#   tests/bench/etcd.sh --nodes 1|3 [--connections "1 16 64 256"] [--rounds N] [--seconds N] [--warmup N]
#                       [--only enqueue|cycle] [--dir DIR] [--out FILE] [--skyclawd FILE] [--cycle FILE]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}

nodes=1 connections="1 16 64 256" rounds=3 seconds=5 warmup=2 only="" dir="$target/tmp/bench" out="" hosts=64
skyclawd="" cycle=""
usage() { sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case $1 in
        --nodes) nodes=$2 ;;
        --connections) connections=$2 ;;
        --rounds) rounds=$2 ;;
        --seconds) seconds=$2 ;;
        --warmup) warmup=$2 ;;
        --only) only=$2 ;;
        --dir) dir=$2 ;;
        --out) out=$2 ;;
        --skyclawd) skyclawd=$2 ;;
        --cycle) cycle=$2 ;;
        *) usage ;;
    esac
    shift 2
done
case $nodes in 1 | 3) ;; *) usage ;; esac

if [ -z "$skyclawd" ]; then
    (cd "$root" && cargo build --release --locked -p skyclawd >&2)
    skyclawd=$target/release/skyclawd
fi
if [ -z "$cycle" ] && [ "$only" != enqueue ] && [ "$nodes" = 3 ]; then
    (cd "$root" && cargo build --release --locked -p skyclaw-tests --example cycle >&2)
    cycle=$target/release/examples/cycle
fi

export SKYCLAW_TOKEN=bench-token
mkdir -p "$dir"
work=$(mktemp -d "$dir/run.XXXXXX")
results=$work/results
: >"$results"
leader=""
# shellcheck source=deploy/coordinators.sh
. "$root/deploy/coordinators.sh"
finish() { end_all; rm -rf "$work"; }
trap finish EXIT
trap 'exit 130' INT TERM
install_missing etcd:etcd-server wrk:wrk jq:jq curl:curl

start_etcd() {
    local clients=() peers=() cluster="" i
    for i in $(seq "$nodes"); do
        free_port; clients+=("http://127.0.0.1:$port")
        free_port; peers+=("http://127.0.0.1:$port")
        cluster+="${cluster:+,}e$i=${peers[i - 1]}"
    done
    for i in $(seq "$nodes"); do
        local at=${clients[i - 1]} peer=${peers[i - 1]}
        etcd --name "e$i" --data-dir "$work/data/e$i" --log-level error --quota-backend-bytes 8589934592 \
            --listen-client-urls "$at" --advertise-client-urls "$at" \
            --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
            --initial-cluster "$cluster" --initial-cluster-state new >"$work/log.e$i" 2>&1 &
        pids+=($!)
    done
    for at in "${clients[@]}"; do in_time "etcd was ready" curl -fsS "$at/health"; done
    for at in "${clients[@]}"; do
        if curl -fsS "$at/v3/maintenance/status" -d '{}' | jq -e '.leader == .header.member_id' >/dev/null; then
            leader=$at
        fi
    done
}

start_skyclaw() {
    local ports=()
    for _ in $(seq "$nodes"); do free_port; ports+=("$port"); done
    start_coordinators "$skyclawd" "$work/data" "${ports[@]}"
    leader=$(leader_of "${urls[0]}" "$nodes")
}

# One figure: a fresh system, warmed up, under one load.
measure() { # SYSTEM LOAD CONNECTIONS
    local system=$1 load=$2 many=$3 result
    if [ "$system" = etcd ]; then start_etcd; else start_skyclaw; fi
    if [ "$load" = cycle ] && [ "$system" = skyclaw ]; then
        result=$("$cycle" --url "$leader" --token "$SKYCLAW_TOKEN" --hosts "$many" --warmup "$warmup" --seconds "$seconds") || fail "cycle failed"
    else
        local threads=$((many < 2 ? 1 : 2))
        wrk -t$threads -c"$many" -d"${warmup}s" -s "$here/put.lua" "$leader" -- "$system" warm >/dev/null
        result=$(wrk -t$threads -c"$many" -d"${seconds}s" --latency -s "$here/put.lua" "$leader" -- "$system" meas)
    fi
    result=$(sed -n 's/^RESULT //p' <<<"$result")
    [ -n "$result" ] || fail "no result of $system at $many"
    end_all
    rm -rf "$work/data"
    jq -nc --arg system "$system" --arg load "$load" --argjson many "$many" --argjson r "$result" \
        '{system: $system, load: $load, connections: $many} + $r' | tee -a "$results" >&2
}

for round in $(seq "$rounds"); do
    echo "round $round of $rounds" >&2
    if [ "$only" != cycle ]; then
        for many in $connections; do
            measure etcd enqueue "$many"
            measure skyclaw enqueue "$many"
        done
    fi
    if [ "$only" != enqueue ] && [ "$nodes" = 3 ]; then
        measure etcd cycle "$hosts"
        measure skyclaw cycle "$hosts"
    fi
done

summary=$(jq -s --argjson nodes "$nodes" --argjson seconds "$seconds" --argjson rounds "$rounds" '
    def median: sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
    def of($name): map(select(.system == $name));
    def goal($load; $many): (if $load == "cycle" then {"64": 1}
        elif $nodes == 1 then {"1": 2, "16": 3.5, "64": 5, "256": 5}
        else {"1": 1.1, "16": 2.3, "64": 4, "256": 4.5} end)[$many | tostring];
    {nodes: $nodes, seconds: $seconds, rounds: $rounds, rows: (group_by([.load, .connections]) | sort_by(.[0].load == "cycle")
        | map(. as $all | .[0].load as $load | .[0].connections as $many
        | ($all | of("etcd") | map(.per_second)) as $etcd | ($all | of("skyclaw") | map(.per_second)) as $ours
        | {load: $load, connections: $many, etcd: ($etcd | median), skyclaw: ($ours | median),
           ratio: (($ours | median) / ($etcd | median) * 100 | round / 100),
           ratio_by_round: [range($ours | length) | ($ours[.] / $etcd[.] * 100 | round / 100)],
           goal: goal($load; $many),
           p50_us: {etcd: ($all | of("etcd") | map(.p50_us) | median), skyclaw: ($all | of("skyclaw") | map(.p50_us) | median)},
           p99_us: {etcd: ($all | of("etcd") | map(.p99_us) | median), skyclaw: ($all | of("skyclaw") | map(.p99_us) | median)},
           failed: {etcd: ($all | of("etcd") | map(.failed) | add), skyclaw: ($all | of("skyclaw") | map(.failed) | add)}}))}' "$results")
[ -z "$out" ] || printf '%s\n' "$summary" >"$out"
printf '%s\n' "$summary"
{
    echo "load conns etcd/s skyclaw/s ratio goal by-round etcd-p99-ms skyclaw-p99-ms failed"
    jq -r '.rows[] | [.load, .connections, (.etcd | round), (.skyclaw | round), .ratio, (.goal // "-"),
        (.ratio_by_round | map(tostring) | join("/")), (.p99_us.etcd / 1000 * 10 | round / 10),
        (.p99_us.skyclaw / 1000 * 10 | round / 10), "\(.failed.etcd)+\(.failed.skyclaw)"] | join(" ")' <<<"$summary"
} | column -t
