#!/usr/bin/env bash
# Installs what the tests need of the system, where it is missing: networks that can be cut, disks that
# fail, clocks that jump, and a reader of databases that is not ours.
set -euo pipefail

if [ "$(id -u)" -ne 0 ]; then
    echo "$0: run it as root: the tests mount small disks and make network namespaces" >&2
    exit 1
fi
missing=()
need() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null || missing+=("$2"); }
need ip iproute2
need nft nftables
need sqlite3 sqlite3
need mkfs.ext4 e2fsprogs
need modprobe kmod
need faketime faketime
# SQLite and ring are compiled from source.
need cc "gcc libc6-dev"
if [ "${#missing[@]}" -gt 0 ]; then
    apt-get update -qq
    # shellcheck disable=SC2068 # one entry may name two packages
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ${missing[@]}
fi
