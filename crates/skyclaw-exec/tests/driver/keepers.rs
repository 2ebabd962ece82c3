//! Shim and guard: what they cost, what they keep, and what ends with them.

use std::time::Duration;

use nix::sys::signal::Signal;
use skyclaw_exec::{BootTime, Deadline, Ending, RunSpec, Running, Stop, What, stop_channel};

use crate::{Bench, lives, parent, pid_in, send, sh, wait_for_file, wait_until};

const LARGEST_KIB: u64 = 4096;

/// Shim and guard of a run.
fn keepers(running: &Running) -> [u32; 2] {
    let guard = parent(running.pid());
    [parent(guard), guard]
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A deadline that passes in a test: later than a busy machine takes to start a process.
const SOON: Duration = Duration::from_secs(2);

fn within(spec: RunSpec, time: Duration) -> RunSpec {
    let deadline = Deadline {
        at: BootTime::now().after(time),
        slack: Duration::from_secs(2),
        why: "no more time".into(),
    };
    RunSpec { deadline: Some(deadline), ..spec }
}

#[tokio::test]
async fn shim_and_guard_are_small_and_gone_when_the_run_is_over() {
    let bench = Bench::new();
    let (stopper, stop) = stop_channel();
    let running = bench.driver.start(sh("head -c 5000000 /dev/zero; while :; do sleep 0.05; done")).await;
    let running = running.expect("start");
    let keepers = keepers(&running);
    for pid in keepers {
        wait_until("it has settled", || resident_kib(pid) <= LARGEST_KIB).await;
    }
    stopper.stop(Stop::Cancelled);
    running.wait(stop).await.forget().await;
    assert!(!keepers.iter().any(|pid| lives(*pid)));
}

#[tokio::test]
async fn what_happened_to_a_run_and_what_it_used_is_told() {
    let bench = Bench::new();
    let outcome = bench.sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 3").await;
    let kinds: Vec<String> = outcome
        .events
        .iter()
        .map(|event| format!("{:?}", event.what).split(['(', ' ']).next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(kinds, ["Prepared", "InForce", "Started", "Exited", "Used"]);
    assert!(outcome.events.is_sorted_by_key(|event| event.at));
    assert!(outcome.usage.cpu > Duration::ZERO && outcome.usage.peak_memory_bytes > 100_000);
    let mut stopped = sh("sleep 1000");
    stopped.timeout = Some(Duration::from_millis(100));
    let events = bench.run(stopped).await.events;
    let asked = What::StopAsked { by: "shim".into(), why: "timed out".into() };
    assert!(events.iter().any(|event| event.what == asked), "{events:?}");
}

#[tokio::test]
async fn a_run_that_is_left_is_found_again_with_its_label_and_can_be_stopped() {
    let bench = Bench::new();
    let pid = bench.file("pid");
    let spec = RunSpec {
        label: serde_json::json!({ "mine": 1 }),
        ..sh(&format!("echo $$ > {pid}; echo begun; while :; do sleep 0.05; done"))
    };
    bench.driver.start(spec).await.expect("start").leave();
    wait_for_file(&pid).await;
    let mut found = bench.driver.recover().await.expect("recover");
    let running = found.running.pop().expect("a run");
    assert_eq!((running.pid(), running.label()), (pid_in(&pid), &serde_json::json!({ "mine": 1 })));
    let (stopper, stop) = stop_channel();
    stopper.stop(Stop::Cancelled);
    let outcome = running.wait(stop).await.forget().await;
    assert_eq!((outcome.error.as_deref(), outcome.stdout.as_str()), (Some("cancelled"), "begun\n"));
    assert!(bench.driver.recover().await.expect("recover").running.is_empty());
}

#[tokio::test]
async fn the_outcome_of_a_run_stays_until_it_is_forgotten() {
    let bench = Bench::new();
    let (_stopper, stop) = stop_channel();
    let running = bench.driver.start(sh("echo out; exit 5")).await.expect("start");
    drop(running.wait(stop).await);
    let mut found = bench.driver.recover().await.expect("recover");
    let outcome = found.ended.pop().expect("an ended run").forget().await;
    assert_eq!((outcome.exit_code, outcome.stdout.as_str()), (5, "out\n"));
    assert!(bench.driver.recover().await.expect("recover").ended.is_empty());
}

#[tokio::test]
async fn a_deadline_that_is_not_extended_ends_the_run_and_one_that_is_does_not() {
    let bench = Bench::new();
    let outcome = bench.run(within(sh("sleep 1000"), SOON)).await;
    assert_eq!(outcome.ending, Ending::Stopped(Stop::Because("no more time".into())));
    let (stopper, stop) = stop_channel();
    let running = bench.driver.start(within(sh("sleep 3"), SOON)).await.expect("start");
    stopper.extend(BootTime::now().after(crate::LONG));
    assert_eq!(running.wait(stop).await.forget().await.ending, Ending::Exited(0));
    let late = within(sh("true"), Duration::ZERO);
    let error = bench.driver.start(late).await.expect_err("too late");
    assert!(matches!(error, skyclaw_exec::Error::TooLate), "{error}");
}

#[tokio::test]
async fn a_run_ends_with_its_shim_and_with_its_guard_and_so_does_what_left_its_session() {
    for (place, who) in [(0, "its shim was killed"), (1, "its guard was killed")] {
        let bench = Bench::new();
        let pid = bench.file("pid");
        let script = format!(
            "env -i setsid --fork sh -c 'env -i setsid --fork sh -c \"echo \\$\\$ > {pid}; exec sleep 1000\"'; \
             while :; do sleep 0.05; done"
        );
        let (_stopper, stop) = stop_channel();
        let running = bench.driver.start(sh(&script)).await.expect("start");
        wait_for_file(&pid).await;
        let (leader, keepers) = (running.pid(), keepers(&running));
        send(keepers[place], Signal::SIGKILL);
        let outcome = running.wait(stop).await.forget().await;
        assert_eq!((outcome.error.as_deref(), outcome.success), (Some(who), false));
        for pid in [leader, pid_in(&pid), keepers[0], keepers[1]] {
            assert!(!lives(pid), "{who}");
        }
    }
}

#[tokio::test]
async fn a_shim_that_is_frozen_is_taken_for_dead_when_it_is_found() {
    let bench = Bench::new();
    let running = bench.driver.start(sh("while :; do sleep 0.05; done")).await.expect("start");
    let (leader, keepers) = (running.pid(), keepers(&running));
    running.leave();
    send(keepers[0], Signal::SIGSTOP);
    let mut found = bench.driver.recover().await.expect("recover");
    let outcome = found.ended.pop().expect("an ended run").forget().await;
    assert_eq!(outcome.error.as_deref(), Some("its shim was killed"));
    assert!(![leader, keepers[0], keepers[1]].iter().any(|pid| lives(*pid)));
}

#[tokio::test]
async fn a_run_can_give_its_own_shim_no_orders() {
    let bench = Bench::new();
    // Connects to its shim's socket and writes an order that would lengthen its life.
    let script = "cd ../control && [ -S shim.sock ] || exit 9; \
                  perl -MIO::Socket::UNIX -e '$SIG{PIPE} = q(IGNORE); $s = IO::Socket::UNIX->new(\"shim.sock\") or exit 8; \
                  $j = q({\"extend\":{\"deadline\":9000000000000000000}}); print $s pack(\"V\", length $j), $j; \
                  $s->flush; exit(<$s> ? 7 : 0)'; echo $? > ../../../said; sleep 1000";
    let outcome = bench.run(within(sh(script), Duration::from_secs(4))).await;
    assert_eq!(outcome.ending, Ending::Stopped(Stop::Because("no more time".into())));
    let said = std::fs::read_to_string(bench.file("said")).unwrap_or_default();
    assert_eq!(said.trim(), "0", "it could connect, and was told nothing");
}

#[tokio::test]
async fn a_flood_of_ten_gibibytes_takes_no_more_disk_than_its_bound() {
    let bench = Bench::new();
    let (_stopper, stop) = stop_channel();
    let running = bench.driver.start(sh("head -c 10737418240 /dev/zero; echo end >&2")).await.expect("start");
    let [shim, _] = keepers(&running);
    let size = || -> u64 {
        let runs = std::fs::read_dir(bench.file("runs")).expect("runs").flatten();
        let files = runs.flat_map(|run| std::fs::read_dir(run.path().join("control")).into_iter().flatten());
        files.flatten().filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
    };
    let watch = async {
        while lives(shim) {
            assert!(size() < 64 * 1024, "{}", size());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (ended, ()) = tokio::join!(running.wait(stop), watch);
    let outcome = ended.forget().await;
    assert_eq!((outcome.success, outcome.stderr.as_str(), outcome.stdout.len()), (true, "end\n", 10_000));
    wait_until("the shim is gone", || !lives(shim)).await;
}
