# Coordinators on this machine for as long as a script runs that measures them: to be sourced by it.
#
# Who sources it has set `work`, a directory that is his own, and SKYCLAW_TOKEN in what `start_coordinators` is to be asked
# with. What was started is in `pids`, and `end_all` ends it; what it said is in $work/log.*.
# shellcheck shell=bash

pids=()

fail() {
    echo "$0: $1" >&2
    tail -n 5 "$work"/log.* >&2 2>/dev/null || true
    exit 1
}

install_missing() { # COMMAND:PACKAGE…
    local need missing=()
    for need in "$@"; do
        command -v "${need%%:*}" >/dev/null || missing+=("${need##*:}")
    done
    [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

apt_install() { # PACKAGE…
    [ "$(id -u)" -eq 0 ] || fail "install $*, or run this as root"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# A port that nobody listens on at the moment, into `port`.
next_port=23790
free_port() {
    while (exec 3<>"/dev/tcp/127.0.0.1/$next_port") 2>/dev/null; do next_port=$((next_port + 1)); done
    port=$next_port
    next_port=$((next_port + 1))
}

in_time() { # WHAT COMMAND…: waits until the command succeeds
    local what=$1 pid
    shift
    for _ in $(seq 600); do
        if "$@" >/dev/null 2>&1; then return; fi
        for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || fail "a process ended before $what"; done
        sleep 0.1
    done
    fail "a minute passed before $what"
}

# The coordinators of one cluster, one for each port, with their data in DIRECTORY. Into `urls`, where they are.
start_coordinators() { # PROGRAM DIRECTORY PORT…
    local program=$1 directory=$2 i other
    shift 2
    urls=("${@/#/http://127.0.0.1:}")
    for i in $(seq $#); do
        local peers=""
        for other in "${urls[@]}"; do
            if [ "$other" != "${urls[i - 1]}" ]; then peers+="${peers:+,}$other"; fi
        done
        mkdir -p "$directory/s$i"
        SKYCLAW_COORDINATOR_HOST=127.0.0.1 SKYCLAW_COORDINATOR_PORT=${!i} SKYCLAW_PEER_URLS=$peers \
            SKYCLAW_COORDINATOR_NODE_ID=s$i SKYCLAW_DB_PATH=$directory/s$i/coordinator.db \
            SKYCLAW_MIN_REPLICATIONS=$(($# / 2 + 1)) SKYCLAW_LOG=${SKYCLAW_LOG:-error} \
            "$program" >>"$work/log.s$i" 2>&1 &
        pids+=($!)
    done
    local url
    for url in "${urls[@]}"; do in_time "skyclawd was ready" curl -fsS "$url/readyz"; done
    in_time "skyclawd had a leader of $#" leader_of "${urls[0]}" $#
}

# The leader of a cluster of so many, as it is known to its peers; where there is but one it has no address for them.
leader_of() { # URL NODES
    local leader
    leader=$(curl -fsS -H "x-skyclaw-token: $SKYCLAW_TOKEN" "$1/v1/cluster" | jq -er --argjson n "$2" \
        '[.members[] | select(.role != "learner")] as $m | select($m | length == $n)
         | $m[] | select(.role == "leader") | .url // ""') || return 1
    echo "${leader:-$1}"
}

# Ends what was started, by its number alone.
end_all() {
    local pid
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do
        # A minute, as what is written at the end may be much.
        for _ in $(seq 600); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    pids=()
}
