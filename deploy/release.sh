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
export SKYCLAW_TOKEN=profile

pgo=$target/pgo
mkdir -p "$pgo" "$out"
work=$(mktemp -d "$pgo/run.XXXXXX")
# shellcheck source=deploy/coordinators.sh
source deploy/coordinators.sh
trap 'end_all; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

host=$(rustc -vV | sed -n 's/^host: //p')
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
profdata() { # Where the tool is, if it is anywhere.
    local at
    for at in "$(rustc --print sysroot)/lib/rustlib/$host/bin" "/usr/lib/llvm-$llvm/bin"; do
        if [ -x "$at/llvm-profdata" ]; then echo "$at/llvm-profdata"; return; fi
    done
}
install_missing jq:jq curl:curl cc:gcc cc:libc6-dev nm:binutils
[ -n "$(profdata)" ] || apt_install "llvm-$llvm"

# A connection for each host.
ulimit -n "$(ulimit -Hn)"

# With a target named, flags are for the program and not for what is run to build it.
build() { # DIRECTORY FLAGS…
    local dir=$1
    shift
    CARGO_TARGET_DIR=$dir RUSTFLAGS="${RUSTFLAGS:-} $*" cargo build --release --locked --target "$host" -p skyclawd
}

skyctl() { "$target/release/skyctl" "$@"; }

start() { # DIRECTORY PORT…: coordinators of one cluster, each of which writes its profile as it ends
    LLVM_PROFILE_FILE=$work/profile-%m.profraw start_coordinators "$pgo/measured/$host/release/skyclawd" "$work/$1" "${@:2}"
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

free_port
start one "$port"
for clients in 1 16 64; do work_for "${urls[0]}" 4s $clients 256; done
# Very many hosts, most of which wait.
skyctl --coordinator "${urls[0]}" bench --yes --duration 16s --enqueuers 1 --hosts 5000 >&2
look "${urls[0]}"
end_all
# Its log is read, and its state, as after any start.
start one "$port"
end_all

ports=()
for _ in 1 2 3; do free_port; ports+=("$port"); done
start three "${ports[@]}"
# One of them leads, the others pass on what they are asked for.
for url in "${urls[@]}"; do
    for clients in 1 16 64; do work_for "$url" 4s $clients 256; done
    work_for "$url" 2s 8 16KiB
    look "$url"
done
end_all

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
