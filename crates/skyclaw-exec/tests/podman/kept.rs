//! Runs that shims keep: what is told of them, and that they end with those who keep them.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use skyclaw_exec::podman::{Keep, Podman, Spec};
use skyclaw_exec::{
    Allowlist, BootTime, Capture, Config, Deadline, Driver, Ended, Ending, Event, Halt, Openclaw, Outcome,
    Running, Shim, Stop, StopSignal, What, stop_channel,
};
use skyclaw_tests::podman::{IMAGE, Service};
use skyclaw_tests::{LONG, wait_until};

use super::kit::{Kit, sh};

super::with_both!(
    what_a_kept_run_did_is_told_as_of_a_process,
    all_that_was_written_is_kept_however_soon_the_end_comes,
    a_kept_run_ends_when_it_was_asked_to_or_took_too_long,
    a_deadline_that_is_not_extended_ends_a_kept_run,
    a_kept_run_ends_with_its_keepers_whoever_of_them_is_killed,
    a_kept_run_ends_in_time_whoever_of_its_keepers_is_frozen,
    a_kept_run_without_its_monitor_is_killed_and_told_as_lost,
    a_kept_run_whose_shim_is_frozen_is_ended_by_its_hosts_switch,
    a_kept_run_goes_on_without_its_daemon_and_its_service,
    a_job_can_do_nothing_to_the_first_process_of_its_container,
);

/// The program that keeps runs.
pub(crate) const SHIM: &str = env!("CARGO_BIN_EXE_skyclaw-shim-under-test");
/// What a lease would give.
const SLACK: Duration = Duration::from_secs(2);

/// A deadline that passes in a test: later than a busy machine takes to start a container.
pub(crate) const SOON: Duration = Duration::from_secs(6);

/// A driver whose shims keep the runs of a test.
struct Bench<'a> {
    podman: &'a Podman,
    driver: Driver,
}

impl<'a> Bench<'a> {
    fn new(kit: &'a Kit) -> Self {
        let driver = Driver::new(config(kit.service.dir(), SHIM)).expect("a driver");
        Self { podman: &kit.podman, driver }
    }

    async fn start(&self, spec: Spec, keep: Keep) -> Running {
        self.podman.start_kept(spec, keep, &self.driver).await.expect("it starts")
    }

    async fn run(&self, script: &str, keep: Keep) -> Outcome {
        let (_stopper, stop) = stop_channel();
        let running = self.start(sh(script), keep).await;
        self.end(running, stop).await
    }

    async fn end(&self, running: Running, stop: StopSignal) -> Outcome {
        self.forget(running.wait(stop).await).await
    }

    /// Forgets a run and clears it away, as a daemon does.
    async fn forget(&self, ended: Ended) -> Outcome {
        let container = ended.container().expect("a container").to_owned();
        let outcome = ended.forget().await;
        self.podman.clear(&container).await.expect("it is cleared away");
        let runs = self.driver.config().runs_dir.read_dir().expect("runs").count();
        assert_eq!(runs, 0, "its directory is gone");
        outcome
    }
}

pub(crate) fn config(dir: &Path, shim: &str) -> Config {
    let runs_dir = dir.join("kept");
    Config {
        owner: format!("kept.{}", dir.display()),
        allowlist: Allowlist::new(["sh"], std::ffi::OsStr::new("/bin")),
        openclaw: Openclaw { command: "sh".into(), args: vec![] },
        runs_dir,
        base_dir: dir.to_owned(),
        default_timeout: LONG,
        stop_grace: Duration::from_secs(20),
        max_output_bytes: 10_000,
        shim: Shim { program: shim.into(), args: vec![] },
        user: None,
        writable: None,
        max_file_bytes: None,
        best_effort: false,
        halt: None,
    }
}

pub(crate) fn keep() -> Keep {
    Keep {
        deadline: None,
        extended: None,
        timeout: None,
        grace: Duration::from_secs(20),
        capture: Capture::Head(4 << 20),
        hint: None,
        label: serde_json::json!({ "mine": 1 }),
    }
}

pub(crate) fn within(time: Duration, grace: Duration) -> Keep {
    let deadline = Deadline { at: BootTime::now().after(time), slack: SLACK, why: "no more time".into() };
    Keep { deadline: Some(deadline), grace, ..keep() }
}

/// Shim and guard of a run, as the shim wrote them down.
fn keepers(bench: &Bench<'_>) -> [u32; 2] {
    let runs = bench.driver.config().runs_dir.read_dir().expect("runs").flatten();
    let dir = runs.map(|run| run.path()).next().expect("a run");
    let noted = wait_until("its processes are noted", LONG, || {
        std::fs::read(dir.join("control/processes.json")).ok()
    });
    let noted: serde_json::Value = serde_json::from_slice(&noted).expect("they are noted");
    ["shim", "guard"].map(|who| {
        let pid = noted[who]["pid"].as_u64().expect("an id");
        u32::try_from(pid).expect("an id")
    })
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("kill");
}

async fn gone(pid: u32) {
    let patience = tokio::time::timeout(LONG, async {
        while Service::is_alive(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    patience.await.expect("the container must end");
}

fn kinds(events: &[Event]) -> Vec<String> {
    let kind = |event: &Event| {
        format!("{:?}", event.what).split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
    };
    events.iter().map(kind).collect()
}

async fn what_a_kept_run_did_is_told_as_of_a_process(kit: &mut Kit) {
    let bench = Bench::new(kit);
    let outcome = bench.run("echo one; echo two >&2; echo $SKYCLAW_RUN_ID; exit 7", keep()).await;
    assert_eq!((outcome.exit_code, outcome.stderr.as_str()), (7, "two\n"), "{outcome:?}");
    assert!(outcome.stdout.starts_with("one\nrun-"), "{outcome:?}");
    assert_eq!(outcome.error.as_deref(), Some("exited with code 7"));
    assert_eq!(kinds(&outcome.events), ["Image", "Prepared", "InForce", "Started", "Exited", "Used"]);
    let image = outcome.events.iter().find_map(|event| match &event.what {
        What::Image { name, ahead, .. } => Some((name.clone(), *ahead)),
        _ => None,
    });
    assert_eq!(image, Some((IMAGE.to_owned(), false)));
    assert_eq!(bench.run("kill -9 $$", keep()).await.exit_code, 137);
    let missing = Spec { command: Some("no-such-program".to_owned()), ..sh("") };
    let (_stopper, stop) = stop_channel();
    let missing = bench.end(bench.start(missing, keep()).await, stop).await;
    assert_eq!(missing.exit_code, 127);
    assert!(missing.stderr.contains("not found in the image"), "{missing:?}");
}

async fn all_that_was_written_is_kept_however_soon_the_end_comes(kit: &mut Kit) {
    let bench = Bench::new(kit);
    for _ in 0..3 {
        let outcome = bench.run("head -c 1000000 /dev/zero | tr '\\0' x; echo end >&2", keep()).await;
        assert_eq!((outcome.stdout.len(), outcome.stderr.as_str()), (1_000_000, "end\n"));
    }
}

async fn a_kept_run_ends_when_it_was_asked_to_or_took_too_long(kit: &mut Kit) {
    let bench = Bench::new(kit);
    let (stopper, mut stop) = stop_channel();
    let script = "trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = bench.start(sh(script), keep()).await;
    let kept = bench.driver.config().runs_dir.clone();
    let ready = async {
        let written =
            || kept.read_dir().ok()?.flatten().next()?.path().join("control/stdout.0").metadata().ok();
        while written().is_none_or(|file| file.len() == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = running.watch(&mut stop) => panic!("it ended"),
        () = ready => {}
    }
    stopper.stop(Stop::Cancelled);
    let outcome = bench.end(running, stop).await;
    assert_eq!((outcome.ending, outcome.exit_code), (Ending::Stopped(Stop::Cancelled), 3));
    assert_eq!(outcome.stdout, "ready\nasked\n");
    let heedless =
        Keep { timeout: Some(Duration::from_millis(300)), grace: Duration::from_millis(100), ..keep() };
    let outcome = bench.run("trap '' TERM; while :; do sleep 1000; done", heedless).await;
    assert_eq!(outcome.ending, Ending::TimedOut(Duration::from_millis(300)));
    assert!(kinds(&outcome.events).contains(&"Killed".to_owned()), "{outcome:?}");
}

async fn a_deadline_that_is_not_extended_ends_a_kept_run(kit: &mut Kit) {
    let bench = Bench::new(kit);
    let (soon, grace) = (SOON, Duration::from_millis(100));
    let outcome = bench.run("trap '' TERM; while :; do sleep 1000; done", within(soon, grace)).await;
    assert_eq!(outcome.ending, Ending::Stopped(Stop::Because("no more time".into())));
    let (stopper, stop) = stop_channel();
    let running = bench.start(sh("sleep 7; exit 5"), within(soon, grace)).await;
    stopper.extend(BootTime::now().after(LONG));
    assert_eq!(bench.end(running, stop).await.ending, Ending::Exited(5));
}

async fn a_kept_run_ends_with_its_keepers_whoever_of_them_is_killed(kit: &mut Kit) {
    let bench = Bench::new(kit);
    for (which, why) in [
        (&[0][..], "its shim was killed"),
        (&[1], "its guard was killed"),
        (&[0, 1], "its shim and its guard were killed; nothing of it is left"),
    ] {
        let (_stopper, stop) = stop_channel();
        let running = bench.start(sh("trap '' TERM; while :; do sleep 1000; done"), keep()).await;
        let (first, keepers) = (running.pid(), keepers(&bench));
        // Nobody of the daemon's does anything about it: those who keep it are on their own.
        for at in which {
            send(keepers[*at], Signal::SIGKILL);
        }
        gone(first).await;
        let outcome = bench.end(running, stop).await;
        assert_eq!((outcome.error.as_deref(), outcome.success), (Some(why), false));
        assert!(!keepers.iter().any(|pid| Service::is_alive(*pid)));
    }
}

async fn a_kept_run_ends_in_time_whoever_of_its_keepers_is_frozen(kit: &mut Kit) {
    let bench = Bench::new(kit);
    let (soon, grace) = (SOON, Duration::from_millis(100));
    for which in [&[0][..], &[1], &[0, 1]] {
        let keep = within(soon, grace);
        let end =
            keep.deadline.as_ref().map(|deadline| deadline.at.after(grace).after(SLACK)).expect("an end");
        let running = bench.start(sh("trap '' TERM; while :; do sleep 1000; done"), keep).await;
        let (first, keepers) = (running.pid(), keepers(&bench));
        for at in which {
            send(keepers[*at], Signal::SIGSTOP);
        }
        // The daemon is as good as frozen: it does nothing about its runs here.
        gone(first).await;
        assert!(BootTime::now() < end, "it ended after its lease: {which:?} frozen");
        let (_stopper, stop) = stop_channel();
        let outcome = bench.end(running, stop).await;
        assert!(!outcome.success, "{outcome:?}");
        for pid in keepers {
            gone(pid).await;
        }
    }
}

async fn a_kept_run_without_its_monitor_is_killed_and_told_as_lost(kit: &mut Kit) {
    let bench = Bench::new(kit);
    let (_stopper, stop) = stop_channel();
    let running = bench.start(sh("trap '' TERM; while :; do sleep 1000; done"), keep()).await;
    let name = running.container().expect("a container").to_owned();
    let monitor = kit.service.podman_ok(&["inspect", "--format", "{{.State.ConmonPid}}", &name]);
    send(monitor.parse().expect("an id"), Signal::SIGKILL);
    let first = running.pid();
    let outcome = bench.end(running, stop).await;
    assert_eq!(outcome.ending, Ending::Failed);
    assert!(outcome.error.as_deref().is_some_and(|error| error.contains("conmon")), "{outcome:?}");
    assert!(!Service::is_alive(first));
}

async fn a_kept_run_whose_shim_is_frozen_is_ended_by_its_hosts_switch(kit: &mut Kit) {
    const WHY: &str = "its host is frozen";
    let file = kit.service.dir().join("frozen");
    let halt = Some(Halt { file: file.clone(), why: WHY.to_owned() });
    let driver = Driver::new(Config { halt, ..config(kit.service.dir(), SHIM) }).expect("a driver");
    let bench = Bench { podman: &kit.podman, driver };
    let soon = Keep { grace: Duration::from_millis(100), ..keep() };
    let running = bench.start(sh("trap '' TERM; while :; do sleep 1000; done"), soon).await;
    let (first, [shim, guard]) = (running.pid(), keepers(&bench));
    running.leave();
    send(shim, Signal::SIGSTOP);
    std::fs::write(&file, "").expect("a file");
    gone(first).await;
    send(shim, Signal::SIGCONT);
    for pid in [shim, guard] {
        gone(pid).await;
    }
    let mut found = bench.driver.recover().await.expect("it recovers");
    let outcome = bench.forget(found.ended.pop().expect("its end")).await;
    assert_eq!(outcome.ending, Ending::Stopped(Stop::Because(WHY.into())), "{outcome:?}");
}

async fn a_kept_run_goes_on_without_its_daemon_and_its_service(kit: &mut Kit) {
    let driver = Driver::new(config(kit.service.dir(), SHIM)).expect("a driver");
    let script = "i=0; while [ $i -lt 20 ]; do echo line $i; i=$((i+1)); sleep 0.05; done; exit 9";
    for _ in 0..2 {
        kit.podman.start_kept(sh(script), keep(), &driver).await.expect("it starts").leave();
    }
    kit.service.kill();
    // Another daemon over the same folders.
    let later = Driver::new(config(kit.service.dir(), SHIM)).expect("a driver");
    let found = later.recover().await.expect("it recovers");
    assert_eq!((found.running.len() + found.ended.len(), found.lost.len()), (2, 0));
    let mut ended = found.ended;
    for running in found.running {
        assert!(running.has_begun());
        let (_stopper, stop) = stop_channel();
        ended.push(running.wait(stop).await);
    }
    let want: String = (0..20).map(|line| format!("line {line}\n")).collect();
    let mut containers = Vec::new();
    for one in ended {
        assert_eq!((one.outcome().exit_code, one.outcome().stdout.as_str()), (9, want.as_str()));
        assert_eq!(one.label(), &serde_json::json!({ "mine": 1 }));
        containers.push(one.container().expect("a container").to_owned());
        one.forget().await;
    }
    let away = kit.podman.clear(&containers[0]).await.expect_err("nobody answers");
    assert!(away.is_passing(), "{away}");
    kit.service.serve();
    // What could not be cleared away is swept, as nobody knows of it.
    kit.podman.clear(&containers[1]).await.expect("it is cleared away");
    let swept = kit.podman.sweep(&std::collections::BTreeSet::new()).await.expect("a sweep");
    assert_eq!(swept.containers, [containers[0].clone()]);
}

async fn a_job_can_do_nothing_to_the_first_process_of_its_container(kit: &mut Kit) {
    let bench = Bench::new(kit);
    let script = "kill -9 1; kill -STOP 1; cat /proc/1/environ /proc/1/mem 2>&1 | head -c 100 >&2; \
                  (sleep 0.1; exit 0) & wait; echo x > /.skyclaw/run/life; echo $?; exit 6";
    let outcome = bench.run(script, keep()).await;
    assert_eq!(outcome.exit_code, 6, "{outcome:?}");
    assert_eq!(outcome.stdout, "1\n", "the pipe that keeps it is not its own: {outcome:?}");
    assert!(outcome.stderr.contains("ermission denied"), "{outcome:?}");
}
