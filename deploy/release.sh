#!/usr/bin/env bash
# Builds the programs as they are meant to be shipped, into target/shipped: optimised as a whole, and skyclawd by a profile of its own
# work as well (docs/adr/0034-a-profile-of-its-own-work.md). Takes about three times as long as `cargo build --release`.
#
#   deploy/release.sh [--out DIR] [--only-skyclawd]
#
# Needs a Rust toolchain; on Debian a C compiler and the tool that reads the profile (llvm-profdata, of the LLVM that rustc
# has) are installed where they are missing. Nothing else should be at work here meanwhile: the profile is of what was measured.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")

out=$target/shipped only_skyclawd=""
usage() { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case $1 in
        --out) [ $# -ge 2 ] || usage; out=$2; shift 2 ;;
        --only-skyclawd) only_skyclawd=yes; shift ;;
        *) usage ;;
    esac
done
# What a user has set must not reach the coordinators that are measured.
for name in $(compgen -e SKYCLAW_ || true); do unset "$name"; done

fail() { echo "deploy/release.sh: $1" >&2; exit 1; }

host=$(rustc -vV | sed -n 's/^host: //p')
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
profdata() { # Where the tool is, if it is anywhere.
    local at
    for at in "$(rustc --print sysroot)/lib/rustlib/$host/bin" "/usr/lib/llvm-$llvm/bin"; do
        if [ -x "$at/llvm-profdata" ]; then echo "$at/llvm-profdata"; return; fi
    done
}
missing=()
command -v cc >/dev/null && command -v nm >/dev/null || missing+=(gcc libc6-dev binutils)
[ -n "$(profdata)" ] || missing+=("llvm-$llvm")
if [ ${#missing[@]} -gt 0 ]; then
    [ "$(id -u)" -eq 0 ] || fail "install ${missing[*]} (or the component llvm-tools of rustup), or run this as root"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi

# A connection for each host.
ulimit -n "$(ulimit -Hn)"

pgo=$target/pgo
mkdir -p "$pgo" "$out"
work=$(mktemp -d "$pgo/run.XXXXXX")
pids=()
stop() { # Each writes its profile as it ends.
    local pid
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    pids=()
}
trap 'stop; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# With a target named, flags are for the program and not for what is run to build it.
build() { # DIRECTORY FLAGS…
    local dir=$1
    shift
    CARGO_TARGET_DIR=$dir RUSTFLAGS="${RUSTFLAGS:-} $*" cargo build --release --locked --target "$host" -p skyclawd
}

# Ports that nobody listens on at the moment.
next_port=24790
free_port() {
    while (exec 3<>"/dev/tcp/127.0.0.1/$next_port") 2>/dev/null; do next_port=$((next_port + 1)); done
    port=$next_port
    next_port=$((next_port + 1))
}

skyctl() { SKYCLAW_TOKEN=profile "$target/release/skyctl" "$@"; }
in_time() { # WHAT COMMAND…
    local what=$1 pid
    shift
    for _ in $(seq 300); do
        if "$@" >/dev/null 2>&1; then return; fi
        for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || fail "a coordinator ended: $(tail -n 3 "$work"/*.log)"; done
        sleep 0.1
    done
    fail "30 s passed before $what: $(tail -n 3 "$work"/*.log)"
}

start() { # URL…: coordinators of one cluster
    local i url other
    i=0
    for url in "$@"; do
        local peers=""
        i=$((i + 1))
        for other in "$@"; do
            if [ "$other" != "$url" ]; then peers+="${peers:+,}$other"; fi
        done
        mkdir -p "$work/$#-$i"
        SKYCLAW_TOKEN=profile SKYCLAW_COORDINATOR_HOST=127.0.0.1 SKYCLAW_COORDINATOR_PORT=${url##*:} SKYCLAW_PEER_URLS=$peers \
            SKYCLAW_COORDINATOR_NODE_ID=n$i SKYCLAW_DB_PATH=$work/$#-$i/coordinator.db SKYCLAW_LOG=error \
            SKYCLAW_MIN_REPLICATIONS=$(($# / 2 + 1)) LLVM_PROFILE_FILE=$work/profile-%m.profraw \
            "$pgo/measured/$host/release/skyclawd" >>"$work/$#-$i.log" 2>&1 &
        pids+=($!)
    done
    for url in "$@"; do in_time "$url was ready" skyctl --coordinator "$url" bench --jobs 1 --yes; done
}

# What operators do, beside what agents and hosts do all day.
look() { # URL
    for _ in $(seq 20); do
        skyctl --coordinator "$1" job list -o json >/dev/null
        skyctl --coordinator "$1" cluster status >/dev/null
    done
    # Once each, as these go through everything.
    skyctl --coordinator "$1" events -o json >/dev/null
    skyctl --coordinator "$1" state export >/dev/null
    rm -f "$work/snapshot"
    skyctl --coordinator "$1" snapshot save "$work/snapshot" >/dev/null
}

work_for() { # URL TIME CLIENTS SIZE
    skyctl --coordinator "$1" bench --yes --duration "$2" --enqueuers "$3" --hosts "$3" --payload-bytes "$4" >&2
}

if [ -z "$only_skyclawd" ]; then
    cargo build --release --locked -p skyclaw-hostd
    cp "$target/release/skyclaw-hostd" "$out/"
fi
cargo build --release --locked -p skyctl
cp "$target/release/skyctl" "$out/"
# With the very settings of the other one: they are part of the names that functions are found by.
build "$pgo/measured" -Cprofile-generate

free_port; alone=http://127.0.0.1:$port
start "$alone"
for clients in 1 16 64; do work_for "$alone" 4s $clients 256; done
# Very many hosts, most of which wait.
skyctl --coordinator "$alone" bench --yes --duration 16s --enqueuers 1 --hosts 5000 >&2
look "$alone"
stop
# Its log is read, and its state, as after any start.
start "$alone"
stop

cluster=()
for _ in 1 2 3; do free_port; cluster+=("http://127.0.0.1:$port"); done
start "${cluster[@]}"
# One of them leads, the others pass on what they are asked for.
for url in "${cluster[@]}"; do
    for clients in 1 16 64; do work_for "$url" 4s $clients 256; done
    work_for "$url" 2s 8 16KiB
    look "$url"
done
stop

merged=$work/merged.profdata
"$(profdata)" merge -o "$merged" "$work"/profile-*.profraw
# Its name says what is in it, as cargo builds anew only when a flag differs.
profile=$pgo/$(sha256sum "$merged" | cut -c1-16).profdata
find "$pgo" -maxdepth 1 -name '*.profdata' -delete
mv "$merged" "$profile"

build "$pgo/shipped" -Cprofile-use="$profile"

# Functions are found in the profile by their names. Were they others, it would count for nothing, and nobody would say so.
names() { nm "$pgo/$1/$host/release/skyclawd" | awk '{ print $NF }' | sort -u; }
shared=$(comm -12 <(names measured) <(names shipped) | wc -l)
all=$(names shipped | wc -l)
[ $((shared * 2)) -gt "$all" ] || fail "of $all names in what is shipped only $shared are in what was measured"
cp "$pgo/shipped/$host/release/skyclawd" "$out/"
echo "The programs are in $out" >&2
