#!/usr/bin/env bash
# Puts what tries the document of the API (schemathesis, from PyPI, pinned with all it needs) into a folder of its own
# beside what cargo builds, where it is kept, and prints the path of the program.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
target="${CARGO_TARGET_DIR:-$here/../../target}"
wanted="$(sha256sum "$here/requirements.txt" | cut -c1-12)"
place="$target/schemathesis-$wanted"
if [ ! -e "$place/done" ]; then
    rm -rf "$place"
    mkdir -p "$target"
    python3 -m venv "$place"
    "$place/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$here/requirements.txt"
    touch "$place/done"
fi
echo "$place/bin/schemathesis"
