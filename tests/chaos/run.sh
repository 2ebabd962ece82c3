#!/usr/bin/env bash
# One of the long runs, against binaries built in release mode. Needs root, as tests/run.sh does.
#   tests/chaos/run.sh faults --minutes 10 --clients 32
#   tests/chaos/run.sh power-loss --times 20
#   tests/chaos/run.sh failover --times 20
#   tests/chaos/run.sh catch-up --jobs 1000000
#   tests/chaos/run.sh overlap --trials 100 --containers root
#   tests/chaos/run.sh host-kills --times 50
#   tests/chaos/run.sh freeze --times 5
# SKYCLAW_TEST_BINARIES names other binaries, SKYCLAW_TEST_SEED the seed of an earlier run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
tests/tools.sh
ulimit -n "$(ulimit -Hn)"
if [ -z "${SKYCLAW_TEST_BINARIES:-}" ]; then
    cargo build --release --locked --workspace --bins
    SKYCLAW_TEST_BINARIES="${CARGO_TARGET_DIR:-$PWD/target}/release"
fi
export SKYCLAW_TEST_BINARIES
cargo run --locked -p skyclaw-tests --example chaos -- "$@"
