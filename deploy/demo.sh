#!/usr/bin/env bash
# Builds a coordinator, a host and the command line, starts a mesh of one node in a temporary directory,
# runs `echo hello from skyclaw` on it as a real job, and shows its output and its record.
# Needs a Rust toolchain; on Debian a missing C compiler is installed. Respects CARGO_TARGET_DIR.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# SQLite and ring are compiled from source.
if ! command -v cc >/dev/null; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "deploy/demo.sh: there is no C compiler: install gcc and libc6-dev, or run this as root" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev
fi

# A debug build: it shows the same and is there minutes earlier.
cargo build --locked -p skyclawd -p skyclaw-hostd -p skyctl
exec "${CARGO_TARGET_DIR:-target}/debug/skyctl" demo
