#!/usr/bin/env bash
# Everything that must hold before a change is merged, from a clean clone on a Debian machine with a
# Rust toolchain (rustup takes the version from rust-toolchain.toml). Respects CARGO_TARGET_DIR.
# Arguments go to `cargo test`, for example: tests/run.sh -p skyclaw-tests wire::
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

step "what the tests need of the system"
tests/tools.sh

# The tests make hundreds of connections at once.
ulimit -n "$(ulimit -Hn)"

step format
cargo fmt --all --check

# The dev profile for everything, so that each dependency is built once.
step lints
cargo clippy --workspace --all-targets --locked -- -D warnings

step docs
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# Programs and tests at once: a feature that only tests turn on, of a crate that most others stand on, would have nearly
# everything built a second time.
step build
cargo build --workspace --bins --examples --tests --locked

step tests
if [ $# -gt 0 ]; then
    cargo test --locked "$@"
else
    cargo test --workspace --locked
    step "what the document of the API says"
    tests/openapi/run.sh --examples 3
fi

step "all is well"
