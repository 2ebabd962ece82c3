//! A run whose end the disk does not take: it is told all the same, and nobody is kept waiting for it.

use std::path::PathBuf;

use skyclaw_exec::{Ending, Running, stop_channel};
use skyclaw_tests::outside::SmallDisk;

use crate::{Bench, lives, sh, wait_for_file, wait_until};

const DISK: u64 = 1 << 20;

/// Starts a run that ends when it is let go, leaves it, and fills the disk of its record. Gives what lets it go.
async fn left_without_room(bench: &Bench, disk: &SmallDisk) -> (String, u32) {
    let (begun, go) = (bench.file("begun"), bench.file("go"));
    let script = format!("echo out; echo $$ > {begun}; until [ -e {go} ]; do sleep 0.02; done; exit 5");
    let running = bench.driver.start(sh(&script)).await.expect("it starts");
    let pid = running.pid();
    wait_for_file(&begun).await;
    // What it wrote is kept by then.
    wait_for_file(&the_run(disk).join("control/stdout.0").display().to_string()).await;
    running.leave();
    disk.fill("full");
    (go, pid)
}

fn the_run(disk: &SmallDisk) -> PathBuf {
    let runs = std::fs::read_dir(disk.path().join("runs")).expect("runs");
    runs.flatten().next().expect("a run").path()
}

fn on(disk: &SmallDisk) -> Bench {
    let runs = disk.path().join("runs");
    Bench::with(|config| config.runs_dir = runs)
}

/// Lets the run go, and waits until it is over.
async fn end(go: &str, pid: u32) {
    std::fs::write(go, "").expect("a file");
    wait_until("the run is over", || !lives(pid)).await;
}

async fn told(running: Running) -> (Ending, String) {
    let (_stopper, stop) = stop_channel();
    let outcome = running.wait(stop).await.forget().await;
    (outcome.ending, outcome.stdout)
}

#[tokio::test]
async fn an_end_that_nobody_heard_and_no_disk_took_is_told_to_the_next_daemon() {
    let disk = SmallDisk::mount(DISK);
    let bench = on(&disk);
    let (go, pid) = left_without_room(&bench, &disk).await;
    end(&go, pid).await;
    // The first dies with it, too, before it has told anybody: what it heard is still there.
    let mut found = bench.driver.recover().await.expect("it recovers");
    let running = found.running.pop().expect("its shim holds on to its end");
    let (_stopper, stop) = stop_channel();
    let first = running.wait(stop).await;
    assert_eq!(first.outcome().ending, Ending::Exited(5), "{:?}", first.outcome());
    drop(first);
    let mut found = bench.driver.recover().await.expect("it recovers");
    let running = found.running.pop().expect("its shim still holds on to it");
    assert_eq!(told(running).await, (Ending::Exited(5), "out\n".to_owned()));
    let left = bench.driver.recover().await.expect("it recovers");
    assert!(left.running.is_empty() && left.ended.is_empty() && left.lost.is_empty(), "{left:?}");
    disk.free("full");
    assert_eq!(std::fs::read_dir(disk.path().join("runs")).expect("runs").count(), 0, "nothing stays");
}

#[tokio::test]
async fn an_end_that_no_disk_took_is_written_as_soon_as_there_is_room() {
    let disk = SmallDisk::mount(DISK);
    let bench = on(&disk);
    let (go, pid) = left_without_room(&bench, &disk).await;
    end(&go, pid).await;
    disk.free("full");
    let runs = disk.path().join("runs");
    wait_for_file(&the_run(&disk).join("control/exit.json").display().to_string()).await;
    let mut found = bench.driver.recover().await.expect("it recovers");
    let outcome = found.ended.pop().expect("an end").forget().await;
    assert_eq!((outcome.ending, outcome.stdout.as_str()), (Ending::Exited(5), "out\n"));
    assert_eq!(std::fs::read_dir(&runs).expect("runs").count(), 0, "nothing stays");
}
