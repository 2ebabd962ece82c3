//! Where shims come from, and that no run depends on it.

use nix::sys::signal::Signal;
use skyclaw_exec::{Stop, stop_channel};

use crate::{Bench, send, sh, wait_for_file, wait_until};

/// The processes of this name that have the mark in their command line.
pub(crate) fn marked(mark: &str, name: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").expect("processes").flatten().map(|entry| entry.path());
    let is_it = |process: &std::path::PathBuf| {
        let read = |file: &str| std::fs::read_to_string(process.join(file)).unwrap_or_default();
        read("comm").trim() == name && read("cmdline").contains(mark)
    };
    all.filter(is_it).filter_map(|process| process.file_name()?.to_str()?.parse().ok()).collect()
}

/// The nurseries of this mark. What one of them has just forked bears its name too, until it takes its own.
fn nurseries(mark: &str) -> Vec<u32> {
    let ours = format!("PPid:\t{}\n", std::process::id());
    let is_ours = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| status.contains(&ours))
    };
    marked(mark, "skyclaw-nursery").into_iter().filter(is_ours).collect()
}

/// A driver whose shims have a mark of its own in their command line.
pub(crate) fn marked_bench(name: &str) -> (String, Bench) {
    let mark = format!("mark-of-{name}-{}", std::process::id());
    let bench = Bench::with(|config| config.shim.args.push(mark.clone()));
    (mark, bench)
}

#[tokio::test]
async fn shims_of_many_runs_come_from_one_nursery_which_ends_with_its_driver() {
    let (mark, bench) = marked_bench("many");
    bench.driver.prepare(&tokio_util::task::TaskTracker::new());
    wait_until("the nursery is there before any run", || nurseries(&mark).len() == 1).await;
    let nursery = nurseries(&mark);
    let outcomes = tokio::join!(bench.run_beside(sh("echo 1")), bench.run_beside(sh("echo 2")));
    assert_eq!((outcomes.0.stdout.as_str(), outcomes.1.stdout.as_str()), ("1\n", "2\n"));
    assert_eq!(nurseries(&mark), nursery);
    let running = bench.driver.start(sh("sleep 1000")).await.expect("start");
    assert_eq!(marked(&mark, "skyclaw-shim").len(), 1);
    let Bench { dir, driver } = bench;
    drop(driver);
    wait_until("the nursery is gone", || nurseries(&mark).is_empty()).await;
    assert_eq!(marked(&mark, "skyclaw-shim").len(), 1, "what came from it goes on");
    let (stopper, stop) = stop_channel();
    stopper.stop(Stop::Cancelled);
    running.wait(stop).await.forget().await;
    drop(dir);
}

#[tokio::test]
async fn a_killed_nursery_takes_no_run_with_it_and_keeps_none_from_beginning() {
    let (mark, bench) = marked_bench("killed");
    let (begun, go) = (bench.file("begun"), bench.file("go"));
    let first = bench
        .run_beside(sh(&format!("echo 1 > {begun}; until [ -e {go} ]; do sleep 0.01; done; echo first")));
    let second = async {
        wait_for_file(&begun).await;
        let nursery = nurseries(&mark);
        send(nursery[0], Signal::SIGKILL);
        let second = bench.run_beside(sh("echo second")).await;
        std::fs::write(&go, "").expect("write");
        assert!(!nurseries(&mark).contains(&nursery[0]));
        second
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.stdout.as_str(), second.stdout.as_str()), ("first\n", "second\n"));
}

#[tokio::test]
async fn a_frozen_nursery_keeps_no_run_from_beginning_and_starts_nothing_when_it_wakes() {
    let (mark, bench) = marked_bench("frozen");
    let lines = bench.file("lines");
    bench.run(sh("true")).await;
    let nursery = nurseries(&mark);
    send(nursery[0], Signal::SIGSTOP);
    let outcome = bench.run(sh(&format!("echo ran >> {lines}"))).await;
    assert!(outcome.success, "{outcome:?}");
    send(nursery[0], Signal::SIGCONT);
    wait_until("it has ended, as nobody has use for it", || {
        !nurseries(&mark).contains(&nursery[0]) && marked(&mark, "skyclaw-shim").is_empty()
    })
    .await;
    assert_eq!(std::fs::read_to_string(&lines).expect("lines"), "ran\n");
    assert!(bench.run(sh("true")).await.success);
}
