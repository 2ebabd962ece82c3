//! A host's switch and those of its keepers that are frozen: whoever of them is not ends the run.

use std::time::Duration;

use nix::sys::signal::Signal;
use skyclaw_exec::{Ending, Halt, RunSpec, Stop, stop_channel};

use crate::{Bench, lives, parent, send, sh, wait_for_file, wait_until};

const WHY: &str = "its host is frozen";

/// A driver whose runs end when the file is there.
fn bench() -> Bench {
    Bench::with(|config| {
        let file = config.base_dir.join("frozen");
        config.halt = Some(Halt { file, why: WHY.to_owned() });
    })
}

#[tokio::test]
async fn a_run_whose_daemon_does_nothing_and_whose_shim_is_frozen_is_ended_by_its_guard() {
    // The shim alive again, and not: who writes the record is another.
    for shim_returns in [true, false] {
        let bench = bench();
        let begun = bench.file("begun");
        let script = format!(
            "trap '' TERM; setsid --fork sh -c 'while :; do sleep 0.05; done # {begun}'; echo $$ > {begun}; \
             while :; do sleep 0.05; done"
        );
        let spec = RunSpec { grace: Duration::from_millis(100), ..sh(&script) };
        let running = bench.driver.start(spec).await.expect("it starts");
        wait_for_file(&begun).await;
        let (leader, guard) = (running.pid(), parent(running.pid()));
        let shim = parent(guard);
        running.leave();
        send(shim, Signal::SIGSTOP);
        std::fs::write(bench.file("frozen"), "").expect("a file");
        wait_until("it is ended", || !lives(leader)).await;
        wait_until("and all it had started", || {
            !skyclaw_tests::process::command_lines().iter().any(|line| line.contains(&begun))
        })
        .await;
        send(shim, if shim_returns { Signal::SIGCONT } else { Signal::SIGKILL });
        wait_until("its keepers are gone", || !lives(shim) && !lives(guard)).await;
        let mut found = bench.driver.recover().await.expect("it recovers");
        let outcome = found.ended.pop().expect("its end").forget().await;
        assert_eq!(outcome.ending, Ending::Stopped(Stop::Because(WHY.to_owned())), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_run_whose_guard_is_frozen_is_ended_by_its_shim() {
    let bench = bench();
    let spec =
        RunSpec { grace: Duration::from_millis(100), ..sh("trap '' TERM; while :; do sleep 0.05; done") };
    let running = bench.driver.start(spec).await.expect("it starts");
    let (leader, guard) = (running.pid(), parent(running.pid()));
    send(guard, Signal::SIGSTOP);
    std::fs::write(bench.file("frozen"), "").expect("a file");
    let (_stopper, stop) = stop_channel();
    let outcome = running.wait(stop).await.forget().await;
    assert_eq!(outcome.ending, Ending::Stopped(Stop::Because(WHY.to_owned())), "{outcome:?}");
    assert!(!lives(leader) && !lives(guard));
}
