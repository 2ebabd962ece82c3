//! The units of systemd: what they say of themselves, and the daemons under a systemd that is the first process of a
//! machine of its own.

mod coordinator;
mod host;
mod said;

use skyclaw_tests::machine::Machine;
use skyclaw_tests::{LONG, TOKEN, wait_until};

const COORDINATOR: &str = "skyclawd.service";
const SOCKET: &str = "skyclawd.socket";
const HOST: &str = "skyclaw-hostd.service";

/// A machine with everything installed as docs/systemd.md says, and nothing started.
fn installed() -> Machine {
    let machine = Machine::boot();
    for unit in [COORDINATOR, SOCKET, HOST] {
        machine.install(&format!("deploy/systemd/{unit}"), &format!("/etc/systemd/system/{unit}"));
    }
    machine.install("deploy/systemd/skyclaw.sysusers.conf", "/etc/sysusers.d/skyclaw.conf");
    machine.install("deploy/systemd/skyclawd.env", "/etc/skyclaw/skyclawd.env");
    machine.install("deploy/systemd/hostd.env", "/etc/skyclaw/hostd.env");
    machine.write_secret("/etc/skyclaw/token", TOKEN);
    // Whoever stops answering is noticed while the test waits; ten times what a busy machine takes.
    with(&machine, COORDINATOR, "WatchdogSec=10");
    // A container has no right to raise its limits.
    with(&machine, HOST, "WatchdogSec=10\nLimitNOFILE=4096");
    let _ = machine.run(&["systemd-sysusers"]).ok();
    machine
}

/// Changes a unit as an operator would.
fn with(machine: &Machine, unit: &str, lines: &str) {
    machine.write(&format!("/etc/systemd/system/{unit}.d/test.conf"), &format!("[Service]\n{lines}\n"));
    let _ = machine.run(&["systemctl", "daemon-reload"]).ok();
}

#[track_caller]
fn start(machine: &Machine, unit: &str) {
    let started = machine.run(&["systemctl", "start", unit]);
    assert_eq!(started.code, 0, "{}\n{}", started.stderr, machine.journal(unit));
}

#[track_caller]
fn main_pid(machine: &Machine, unit: &str) -> String {
    machine.property(unit, "MainPID")
}

/// Waits until systemd has started it anew, as another process than `before`.
#[track_caller]
fn started_anew(machine: &Machine, unit: &str, before: &str) {
    wait_until(&format!("{unit} is started anew"), LONG, || {
        let is_other = ![before, "0"].contains(&main_pid(machine, unit).as_str());
        (is_other && machine.property(unit, "ActiveState") == "active").then_some(())
    });
}

/// Has it hang, and waits until systemd has noticed.
#[track_caller]
fn hang(machine: &Machine, unit: &str) {
    let before = main_pid(machine, unit);
    let _ = machine.run(&["kill", "-STOP", &before]).ok();
    started_anew(machine, unit, &before);
    let journal = machine.journal(unit);
    assert!(journal.contains(&format!("{unit}: Watchdog timeout")), "{journal}");
}

fn skyctl(machine: &Machine, args: &str) -> skyclaw_tests::ctl::Ran {
    machine.script(&format!("SKYCLAW_TOKEN={TOKEN} skyctl {args}"))
}
