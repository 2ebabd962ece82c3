//! How runs end, and that nothing of them lives on.

use std::time::{Duration, Instant};

use skyclaw_exec::{Capture, Ending, MARKER, RunSpec, Stop, stop_channel};

use crate::{Bench, LONG, lives, pid_in, sh, wait_for_file, wait_until};

#[tokio::test]
async fn exit_code_and_both_streams_are_reported() {
    let outcome = Bench::new().sh("echo out; echo err >&2; exit 3").await;
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!((outcome.exit_code, outcome.success), (3, false));
    assert_eq!(outcome.error.as_deref(), Some("exited with code 3"));
    let outcome = Bench::new().sh("true").await;
    assert_eq!((outcome.exit_code, outcome.success, outcome.error), (0, true, None));
}

#[tokio::test]
async fn an_end_by_signal_is_named() {
    let outcome = Bench::new().sh("kill -USR1 $$").await;
    assert_eq!(outcome.ending, Ending::Killed(10));
    assert_eq!(outcome.exit_code, 138);
    assert_eq!(outcome.error.as_deref(), Some("killed by signal 10 (SIGUSR1)"));
    let outcome = Bench::new().sh("kill -40 $$").await;
    assert_eq!(outcome.error.as_deref(), Some("killed by signal 40 (real-time)"));
}

#[tokio::test]
async fn a_timeout_ends_the_whole_group_and_lets_it_clean_up() {
    let bench = Bench::new();
    let (child, cleaned) = (bench.file("child"), bench.file("cleaned"));
    // The first process dies of the signal at once, its child takes its time.
    let script = format!(
        "sh -c 'trap \"sleep 0.2; echo done > {cleaned}; exit\" TERM; echo $$ > {child}; \
         while :; do sleep 0.05; done' & wait"
    );
    let mut spec = sh(&script);
    spec.timeout = Some(Duration::from_millis(1500));
    let outcome = bench.run(spec).await;
    assert_eq!(outcome.error.as_deref(), Some("timed out after 1500ms"));
    assert_eq!(outcome.ending, Ending::TimedOut(Duration::from_millis(1500)));
    assert!(!outcome.success && outcome.duration >= Duration::from_millis(1500));
    assert!(!lives(pid_in(&child)));
    assert_eq!(std::fs::read_to_string(cleaned).expect("the child cleaned up"), "done\n");
}

#[tokio::test]
async fn what_ignores_the_signal_is_killed_after_the_grace() {
    let bench = Bench::new();
    let child = bench.file("child");
    let script = format!("trap '' TERM; sh -c 'echo $$ > {child}; while :; do sleep 1; done' & wait; wait");
    let (stopper, stop) = stop_channel();
    let spec = RunSpec { grace: Duration::from_millis(100), ..sh(&script) };
    let running = bench.driver.start(spec).await.expect("start");
    let run = running.wait(stop);
    let stopping = async {
        wait_for_file(&child).await;
        stopper.stop(Stop::Because("host is shutting down".into()));
        stopper.stop(Stop::Cancelled);
    };
    let (ended, ()) = tokio::join!(run, stopping);
    let outcome = ended.forget().await;
    assert_eq!(outcome.error.as_deref(), Some("stopped: host is shutting down"));
    assert_eq!(outcome.exit_code, 137);
    assert!(!lives(pid_in(&child)));
}

#[tokio::test]
async fn a_stopped_process_is_ended_as_well() {
    let bench = Bench::new();
    let (stopper, stop) = stop_channel();
    let running = bench.driver.start(sh("kill -STOP $$; echo never")).await.expect("start");
    let stat = format!("/proc/{}/stat", running.pid());
    let stopping = async {
        wait_until("it is stopped", || std::fs::read_to_string(&stat).is_ok_and(|s| s.contains(") T ")))
            .await;
        stopper.stop(Stop::Cancelled);
    };
    let (ended, ()) = tokio::join!(running.wait(stop), stopping);
    let outcome = ended.forget().await;
    assert_eq!((outcome.error.as_deref(), outcome.exit_code), (Some("cancelled"), 143));
}

#[tokio::test]
async fn no_descendant_outlives_the_first_process() {
    for escape in ["", "setsid", "env -i setsid --fork env SKYCLAW_RUN_ID=$SKYCLAW_RUN_ID", "set -m; env -i"]
    {
        let bench = Bench::new();
        let pid = bench.file("pid");
        // It keeps the pipe open, too.
        let script = format!(
            "{escape} /bin/sh -c 'echo $$ > {pid}; exec sleep 1000' & until [ -s {pid} ]; do :; done; echo out"
        );
        let began = Instant::now();
        let outcome = bench.sh(&script).await;
        assert_eq!((outcome.stdout.as_str(), outcome.success), ("out\n", true), "{escape}");
        assert!(!lives(pid_in(&pid)), "{escape}");
        assert!(began.elapsed() < LONG);
    }
}

#[tokio::test]
async fn a_flood_of_output_is_cut_and_does_not_stop_the_run() {
    let bench = Bench::new();
    let outcome = bench.sh("head -c 50000000 /dev/zero; head -c 20000 /dev/zero >&2; echo end").await;
    assert!(outcome.success);
    for text in [&outcome.stdout, &outcome.stderr] {
        assert_eq!(text.len(), 10_000);
        assert!(text.ends_with(MARKER));
    }
    let mut spec = sh("head -c 50000000 /dev/zero; echo end");
    spec.capture = Capture::Tail(4);
    assert_eq!(bench.run(spec).await.stdout, "end\n");
}

#[tokio::test]
async fn a_run_that_is_dropped_is_killed() {
    let bench = Bench::new();
    let child = bench.file("child");
    let running = bench
        .driver
        .start(sh(&format!("sh -c 'echo $$ > {child}; exec sleep 1000' & wait")))
        .await
        .expect("start");
    wait_for_file(&child).await;
    drop(running);
    wait_until("the child is gone", || !lives(pid_in(&child))).await;
}

#[tokio::test]
async fn a_run_outlives_the_last_handle_of_its_driver() {
    let bench = Bench::new();
    let go = bench.file("go");
    let running = bench.driver.start(sh(&format!("until [ -e {go} ]; do sleep 0.01; done"))).await;
    let Bench { dir, driver } = bench;
    drop(driver);
    std::fs::write(&go, "").expect("write");
    let (_stopper, stop) = stop_channel();
    let ended = running.expect("start").wait(stop).await;
    assert_eq!(ended.outcome().ending, Ending::Exited(0));
    drop(dir);
}

#[tokio::test]
async fn what_an_earlier_driver_left_behind_is_killed_and_removed() {
    let bench = Bench::new();
    let left = bench.dir.path().join("runs/run-left");
    std::fs::create_dir(&left).expect("mkdir");
    let mut orphan = std::process::Command::new("sleep")
        .arg("1000")
        .env("SKYCLAW_RUN_ID", "run-left")
        .spawn()
        .expect("sleep");
    let found = bench.driver.recover().await.expect("recover");
    assert_eq!((found.lost.len(), found.running.len(), found.ended.len()), (1, 0, 0));
    assert!(!left.exists());
    assert!(!orphan.wait().expect("wait").success());
}
