//! What is made ahead of a run, and that no run depends on it.

use std::path::PathBuf;

use nix::sys::signal::Signal;
use skyclaw_exec::{Driver, RunSpec, stop_channel};

use crate::nursery::{marked, marked_bench};
use crate::{Bench, config, lives, parent, send, sh, wait_until};

const SPARE: &str = "skyclaw-spare";

/// A driver that makes ahead, with its mark.
fn bench(name: &str) -> (String, Bench) {
    let (mark, bench) = marked_bench(&format!("berth-{name}"));
    bench.driver.prepare(&tokio_util::task::TaskTracker::new());
    (mark, bench)
}

/// The shim and the guard that wait for a run.
async fn spares(mark: &str, driver: &Driver) -> [u32; 2] {
    wait_until("it is prepared", || driver.is_prepared()).await;
    let spares = marked(mark, SPARE);
    match parent(spares[0]) == spares[1] {
        true => [spares[1], spares[0]],
        false => [spares[0], spares[1]],
    }
}

/// What happens to a shim and its guard before the run comes.
type Blow = fn(&Bench, [u32; 2]);

/// The directories of runs, and of what is made ahead of one.
fn places(bench: &Bench) -> Vec<PathBuf> {
    std::fs::read_dir(bench.file("runs")).expect("runs").flatten().map(|entry| entry.path()).collect()
}

#[tokio::test]
async fn a_run_takes_what_was_made_ahead_and_the_next_one_something_new() {
    let (mark, bench) = bench("taken");
    let [shim, guard] = spares(&mark, &bench.driver).await;
    let place = places(&bench);
    let script = "echo $PPID; dirname $(pwd)";
    let outcome = bench.run_beside(sh(script)).await;
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(lines, [&guard.to_string(), &place[0].display().to_string()], "{outcome:?}");
    wait_until("there is another", || bench.driver.is_prepared() && places(&bench).len() == 1).await;
    assert!(!spares(&mark, &bench.driver).await.contains(&shim));
    assert!(!place[0].exists(), "nothing of the run is left");
}

#[tokio::test]
async fn what_was_made_ahead_goes_with_its_driver() {
    let (mark, bench) = bench("dropped");
    let spares = spares(&mark, &bench.driver).await;
    let Bench { dir, driver } = bench;
    drop(driver);
    let runs = dir.path().join("runs");
    wait_until("it is gone", || {
        !spares.into_iter().any(lives) && std::fs::read_dir(&runs).expect("runs").count() == 0
    })
    .await;
}

#[tokio::test]
async fn a_run_begins_although_what_was_made_ahead_is_killed_frozen_or_removed() {
    let blows: [(&str, Blow); 5] = [
        ("the shim is killed", |_, [shim, _]| send(shim, Signal::SIGKILL)),
        ("the guard is killed", |_, [_, guard]| send(guard, Signal::SIGKILL)),
        ("the shim is frozen", |_, [shim, _]| send(shim, Signal::SIGSTOP)),
        ("the guard is frozen", |_, [_, guard]| send(guard, Signal::SIGSTOP)),
        ("the directory is removed", |bench, _| {
            std::fs::remove_dir_all(&places(bench)[0]).expect("it is there");
        }),
    ];
    for (at, (what, blow)) in blows.into_iter().enumerate() {
        let (mark, bench) = bench(&at.to_string());
        let spares = spares(&mark, &bench.driver).await;
        blow(&bench, spares);
        let outcome = bench.run_beside(sh("echo ran")).await;
        assert_eq!(outcome.stdout, "ran\n", "{what}: {outcome:?}");
        // Those that were frozen end too: nobody has use for them.
        wait_until(what, || !spares.into_iter().any(lives)).await;
    }
}

#[tokio::test]
async fn what_was_reserved_and_is_not_used_makes_way_for_another() {
    let (mark, bench) = bench("reserved");
    let first = spares(&mark, &bench.driver).await;
    let place = bench.driver.reserve();
    assert!(!bench.driver.is_prepared(), "it is taken");
    drop(place);
    wait_until("it is gone", || !first.into_iter().any(lives)).await;
    spares(&mark, &bench.driver).await;
    assert_eq!(places(&bench).len(), 1);
}

#[tokio::test]
async fn a_shim_that_was_called_long_before_its_run_gets_no_plan() {
    let (mark, bench) = bench("stale");
    let [shim, guard] = spares(&mark, &bench.driver).await;
    let called = std::time::Instant::now();
    let place = bench.driver.reserve();
    wait_until("it is called", || marked(&mark, "skyclaw-shim").contains(&shim)).await;
    send(shim, Signal::SIGSTOP);
    wait_until("its time is over", || called.elapsed() > std::time::Duration::from_millis(150)).await;
    let running = bench.driver.start_at(place, sh("echo ran")).await.expect("start");
    let (_stopper, stop) = stop_channel();
    let outcome = running.wait(stop).await.forget().await;
    assert_eq!(outcome.stdout, "ran\n", "{outcome:?}");
    send(shim, Signal::SIGCONT);
    wait_until("both end", || ![shim, guard].into_iter().any(lives)).await;
}

#[tokio::test]
async fn what_a_killed_daemon_had_made_ahead_is_removed_by_the_next() {
    let (mark, bench) = bench("left");
    spares(&mark, &bench.driver).await;
    let place = places(&bench).remove(0);
    // As another daemon finds it: the same directory, and the first one is not there to remove it.
    let later = Driver::new(config(bench.dir.path())).expect("driver");
    let left = later.recover().await.expect("recover");
    assert!(left.running.is_empty() && left.ended.is_empty());
    assert!(!place.exists());
}

#[tokio::test]
async fn a_run_of_an_agent_is_in_its_groups_and_not_in_those_made_ahead() {
    let (mark, bench) = bench("agent");
    spares(&mark, &bench.driver).await;
    let spec = RunSpec { agent: Some("a1".to_owned()), ..sh("cat /proc/self/cgroup") };
    let outcome = bench.run_beside(spec).await;
    let unified = outcome.stdout.lines().find_map(|line| line.strip_prefix("0::")).expect("a group");
    assert!(unified.contains("agent-a1/run-"), "{outcome:?}");
    let run = unified.rsplit('/').next().expect("a run").to_owned();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let trees =
        mounts.lines().filter(|line| line.contains(" - cgroup2")).filter_map(|it| it.split(' ').nth(4));
    for tree in trees {
        let left = std::process::Command::new("find").args([tree, "-name", &run]).output().expect("find");
        assert_eq!(String::from_utf8_lossy(&left.stdout), "", "no group of it is left");
    }
}
