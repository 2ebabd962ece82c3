//! The host daemon's unit under systemd: what its end, whichever, does to runs. Of those that are to be left by a stop;
//! `tests/chaos/unit.sh` has the other ways to stop.

use skyclaw_tests::machine::Machine;
use skyclaw_tests::{LONG, Value, wait_until};

use super::{COORDINATOR, HOST, SOCKET, hang, installed, main_pid, skyctl, start, started_anew};

#[track_caller]
fn job(machine: &Machine, id: &str) -> Value {
    let got = skyctl(machine, &format!("job get {id} --format json")).ok();
    serde_json::from_str(&got).unwrap_or_else(|error| panic!("{error}: {got}"))
}

#[track_caller]
fn lives(machine: &Machine, pid: &str, after: &str) {
    assert_eq!(machine.run(&["kill", "-0", pid]).code, 0, "the run was ended by {after}");
}

#[track_caller]
fn status_is(machine: &Machine, wanted: &str) {
    wait_until(wanted, LONG, || (machine.property(HOST, "StatusText") == wanted).then_some(()));
}

#[test]
fn runs_live_through_its_stop_its_kill_and_its_hanging_and_are_taken_over() {
    let machine = installed();
    let _ = machine.run(&["systemctl", "enable", "--now", SOCKET, COORDINATOR]).ok();
    let _ = machine.run(&["systemctl", "enable", "--now", HOST]).ok();
    let submitted = skyctl(
        &machine,
        "job submit -- sh -c 'echo $$ > /run/pid; until [ -e /run/go ]; do sleep 0.05; done; exit 7'",
    );
    let id = submitted.ok().trim().to_owned();
    let pid = wait_until("it runs", LONG, || {
        let pid = machine.run(&["cat", "/run/pid"]).stdout.trim().to_owned();
        (!pid.is_empty()).then_some(pid)
    });
    status_is(&machine, "takes work; 1 running");

    let _ = machine.run(&["systemctl", "stop", HOST]).ok();
    assert_eq!(machine.property(HOST, "Result"), "success");
    lives(&machine, &pid, "a stop");
    start(&machine, HOST);
    status_is(&machine, "takes work; 1 running");

    let before = main_pid(&machine, HOST);
    let _ = machine.run(&["kill", "-KILL", &before]).ok();
    started_anew(&machine, HOST, &before);
    lives(&machine, &pid, "a kill of the daemon");

    hang(&machine, HOST);
    lives(&machine, &pid, "the end of a daemon that hung");
    status_is(&machine, "takes work; 1 running");

    // Whoever waits for a coordinator is not killed for it.
    let _ = machine.run(&["systemctl", "stop", SOCKET, COORDINATOR]).ok();
    let _ = machine.run(&["systemctl", "restart", HOST]).ok();
    status_is(&machine, "waits for a coordinator to register with; 1 running");
    lives(&machine, &pid, "a restart without a coordinator");
    start(&machine, SOCKET);
    status_is(&machine, "takes work; 1 running");

    let _ = machine.run(&["touch", "/run/go"]).ok();
    let ended = wait_until("its end is told", LONG, || {
        Some(job(&machine, &id)).filter(|job| job["status"] == "failed")
    });
    assert_eq!(ended["result"]["exitCode"], 7, "{ended}");
    assert_eq!(ended["attempts"], 1, "{ended}");
}
