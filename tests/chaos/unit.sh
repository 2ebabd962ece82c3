#!/usr/bin/env bash
# The host daemon's unit under a systemd of its own: what a stop, a restart and a kill of the unit do to runs, for each
# SKYCLAW_STOP_MODE. Makes a Debian in a privileged container. Needs root, Podman, debootstrap and a Debian mirror; takes
# minutes the first time.
#   tests/chaos/unit.sh [FOLDER]     FOLDER keeps the Debian for the next time; /var/tmp/skyclaw-unit if not given
# SKYCLAW_TEST_BINARIES names other binaries than those built in release mode.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=${1:-/var/tmp/skyclaw-unit}
root=$folder/root
if [ -z "${SKYCLAW_TEST_BINARIES:-}" ]; then
    cargo build --release --locked -p skyclawd -p skyclaw-hostd -p skyctl
    SKYCLAW_TEST_BINARIES="${CARGO_TARGET_DIR:-$PWD/target}/release"
fi

if [ ! -x "$root/sbin/init" ]; then
    if ! command -v debootstrap >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >&2
    fi
    rm -rf "$root"
    mkdir -p "$folder"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps,ca-certificates bookworm "$root" http://deb.debian.org/debian
fi
install -m 755 "$SKYCLAW_TEST_BINARIES"/{skyclawd,skyclaw-hostd,skyctl} "$root/usr/bin/"
install -m 644 deploy/systemd/skyclaw-hostd.service "$root/etc/systemd/system/"
# Of an earlier trial.
rm -rf "$root"/var/lib/coordinator* "$root/var/lib/skyclaw"
mkdir -p "$root/etc/skyclaw"
token=token-of-the-unit-trial
(umask 077 && printf %s "$token" >"$root/etc/skyclaw/token")

# A Podman of its own, so that nothing of the machine's is touched.
# Limits are those that need no rights over the machine's; the unit asks for more open files. Credentials are handed out
# through mounts, which a container does not share by itself; `tests/tests/units` tries them.
mkdir -p "$root/etc/systemd/system/skyclaw-hostd.service.d"
printf '[Service]\nLimitNOFILE=4096\nLoadCredential=\nEnvironment=SKYCLAW_TOKEN_FILE=/etc/skyclaw/token\n' >"$root/etc/systemd/system/skyclaw-hostd.service.d/trial.conf"
cat >"$folder/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=2048:2048"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
CONF
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s"\nrunroot = "%s"\n' "$folder/store" "$folder/run" >"$folder/storage.conf"
export CONTAINERS_CONF=$folder/containers.conf CONTAINERS_STORAGE_CONF=$folder/storage.conf
name=skyclaw-unit-$$
clear_away() { podman rm --force --time 0 "$name" >/dev/null 2>&1 || true; }
trap clear_away EXIT
podman run --detach --name "$name" --privileged --systemd=always --network none --rootfs "$root" /sbin/init >/dev/null

inside() { podman exec "$name" "$@"; }
fail() {
    echo "FAILED: $*" >&2
    inside journalctl --no-pager -u skyclaw-hostd -n 60 >&2 || true
    exit 1
}
# Asks again and again; 60 s are far more than anything here takes.
until_true() {
    local what=$1 end=$((SECONDS + 60))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "waited in vain until $what"
        sleep 0.1
    done
}
ctl() { inside env SKYCLAW_COORDINATOR_URL=http://127.0.0.1:8787 SKYCLAW_TOKEN=$token skyctl "$@"; }
status() { ctl job get "$1" --format json | tr -d ' \n' | grep -o '"status":"[a-z]*"' | head -1 | cut -d '"' -f 4; }
is() { [ "$(status "$1")" = "$2" ]; }
lives() { inside kill -0 "$1"; }
is_gone() { ! lives "$1"; }

until_true "systemd is up" inside sh -c 'systemctl is-system-running | grep -qE "running|degraded"'
inside systemd-run --quiet --unit=coordinator --setenv=SKYCLAW_TOKEN=$token --setenv=SKYCLAW_MIN_REPLICATIONS=1 \
    --setenv=SKYCLAW_DB_PATH=/var/lib/coordinator.db --setenv=SKYCLAW_LEASE_MS=60000 skyclawd
until_true "the coordinator answers" ctl host list

# A job that notes its process, waits for a file, and ends with 7.
submit() {
    ctl job submit -- sh -c "echo \$\$ > /tmp/$1; until [ -e /tmp/go-$1 ]; do sleep 0.05; done; echo done; exit 7"
}
start() {
    printf 'SKYCLAW_STOP_MODE=%s\nSKYCLAW_HEARTBEAT_MS=1000\nSKYCLAW_DRAIN_MS=20000\nSKYCLAW_MAX_PARALLEL=4\n' "$1" \
        >"$root/etc/skyclaw/hostd.env"
    inside systemctl start skyclaw-hostd
}
begun() { [ -s "$root/tmp/$1" ] || inside test -s "/tmp/$1"; }
pid() { inside cat "/tmp/$1"; }
shims() { inside pgrep --count '^skyclaw-[sg]' || true; }

echo "== leave: runs go on without the daemon, through a stop, a kill and a restart, and are told by the next"
start leave
job=$(submit left)
until_true "it runs" begun left
run=$(pid left)
inside systemctl stop skyclaw-hostd
lives "$run" || fail "a run was ended with its unit"
[ "$(shims)" = 2 ] || fail "its keepers were ended with its unit: $(shims)"
inside systemctl start skyclaw-hostd
inside systemctl restart skyclaw-hostd
lives "$run" || fail "a run was ended by a restart"
inside systemctl kill --signal=KILL --kill-who=main skyclaw-hostd
until_true "systemd has started it again" inside systemctl is-active skyclaw-hostd
lives "$run" || fail "a run was ended by a kill of the daemon"
inside systemctl stop skyclaw-hostd
inside touch /tmp/go-left
until_true "it has ended without a daemon" is_gone "$run"
inside systemctl start skyclaw-hostd
until_true "its end is told" is "$job" failed
ctl job get "$job" | grep -q 'exited with code 7' || fail "$(ctl job get "$job")"
ctl job get "$job" --format json | tr -d ' \n' | grep -q '"attempts":1[,}]' || fail "it ran more than once"
inside systemctl stop skyclaw-hostd

echo "== stop: nothing is left"
start stop
job=$(submit stopped)
until_true "it runs" begun stopped
run=$(pid stopped)
inside systemctl stop skyclaw-hostd
is_gone "$run" || fail "a run goes on"
[ "$(shims)" = 0 ] || fail "keepers are left: $(shims)"
is "$job" queued || fail "it is not given back: $(status "$job")"
[ -z "$(inside ls /var/lib/skyclaw/host/runs)" ] || fail "folders are left"
ctl job cancel "$job" >/dev/null

echo "== drain: a run may end first"
start drain
job=$(submit drained)
until_true "it runs" begun drained
inside systemctl stop --no-block skyclaw-hostd
until_true "it is stopping" inside sh -c '[ "$(systemctl is-active skyclaw-hostd)" = deactivating ]'
inside touch /tmp/go-drained
until_true "the unit has stopped" inside sh -c '[ "$(systemctl is-active skyclaw-hostd)" = inactive ]'
is "$job" failed || fail "it was not let end: $(status "$job")"
ctl job get "$job" | grep -q 'exited with code 7' || fail "$(ctl job get "$job")"
[ "$(shims)" = 0 ] || fail "keepers are left: $(shims)"
echo "all is as it must be"
