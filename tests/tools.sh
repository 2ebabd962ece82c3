#!/usr/bin/env bash
# Installs what the tests need of the system, where it is missing: networks that can be cut, disks that
# fail, clocks that jump, and a reader of databases that is not ours.
set -euo pipefail

if [ "$(id -u)" -ne 0 ]; then
    echo "$0: run it as root: the tests mount small disks and make network namespaces" >&2
    exit 1
fi
missing=()
need() { PATH="$PATH:/usr/sbin:/sbin:/usr/lib/podman:/usr/libexec/podman" command -v "$1" >/dev/null || missing+=("$2"); }
need ip iproute2
need nft nftables
need sqlite3 sqlite3
need mkfs.ext4 e2fsprogs
need modprobe kmod
need faketime faketime
# Containers, of the system and of a user: what Podman only recommends is needed as well.
need podman podman
need runc runc
need conmon conmon
need netavark netavark
need aardvark-dns aardvark-dns
need slirp4netns slirp4netns
need newuidmap uidmap
need catatonit catatonit
need iptables iptables
need busybox busybox-static
# The first process of machines that units are tried on, and what judges units.
need systemd-analyze systemd
# Where images are fetched from.
need docker-registry docker-registry
# What tries the document of the API is fetched from PyPI, into a folder of its own: tests/openapi/tool.sh.
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=("python3 python3-venv")
# SQLite and ring are compiled from source.
need cc "gcc libc6-dev"
if [ "${#missing[@]}" -gt 0 ]; then
    apt-get update -qq
    # shellcheck disable=SC2068 # one entry may name two packages
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ${missing[@]}
fi

# The user whose rootless Podman the tests use. Containers get the ids that go with it.
test_user=skyclaw-test
id "$test_user" >/dev/null 2>&1 || useradd --system --create-home --home-dir "/var/lib/$test_user" --shell /usr/sbin/nologin "$test_user"
for kind in uid gid; do
    grep -q "^$test_user:" "/etc/sub$kind" || usermod "--add-sub${kind}s" 1500000000-1500065535 "$test_user"
done

# What networks of a user's containers are made with; where nothing looks after devices, it is root's alone.
[ -c /dev/net/tun ] || { mkdir -p /dev/net && mknod /dev/net/tun c 10 200; }
chmod 0666 /dev/net/tun

"$(dirname "${BASH_SOURCE[0]}")/openapi/tool.sh" >/dev/null
