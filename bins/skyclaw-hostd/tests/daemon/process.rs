//! The daemon as a process of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::json;

use crate::scripted::{Scripted, job, service};

/// The lease of a job that nobody renews.
const LEASE: Duration = Duration::from_secs(6);
const TOKEN: &str = "token-that-nobody-may-see";

/// A daemon that is killed when dropped.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn daemon(coordinator: &Scripted, state: &Path) -> Process {
    daemon_with(coordinator, state, &[])
}

pub(crate) fn daemon_with(coordinator: &Scripted, state: &Path, more: &[(&str, &str)]) -> Process {
    let child = Command::new(env!("CARGO_BIN_EXE_skyclaw-hostd"))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("SKYCLAW_COORDINATOR_URL", &coordinator.url)
        .env("SKYCLAW_STATE_DIR", state)
        .env("SKYCLAW_ALLOWED_COMMANDS", "sh")
        .env("SKYCLAW_HEARTBEAT_MS", "100")
        .env("SKYCLAW_STOP_GRACE_MS", "500")
        .env("SKYCLAW_TOKEN", TOKEN)
        .envs(more.iter().copied())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    Process(child)
}

#[tokio::test]
async fn the_token_reaches_the_coordinator_and_no_job_finds_it_in_any_process() {
    let state = tempfile::tempdir().expect("temp dir");
    let mut coordinator = Scripted::start(|_| None).await;
    // The job writes a needle of its own into its environment, so a search that finds nothing shows.
    let script = "export NEEDLE=needle-of-the-job; sh -c 'for f in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do \
                  tr \"\\0\" \"\\n\" < $f; echo; done 2>/dev/null'; ls -l /proc/$PPID/fd";
    coordinator.enqueue(job("job_1", 1, script));
    let process = daemon(&coordinator, state.path());
    assert_eq!(coordinator.next("register").await.token.as_deref(), Some(TOKEN));
    let done = coordinator.next("complete").await;
    let seen = done.body["stdout"].as_str().expect("stdout").to_owned();
    assert!(seen.contains("needle-of-the-job"), "{}", done.body);
    let environ = std::fs::read_to_string(format!("/proc/{}/environ", process.0.id())).expect("environ");
    assert!(environ.contains("SKYCLAW_COORDINATOR_URL") && !environ.contains(TOKEN), "{environ}");
    assert!(!seen.contains(TOKEN) && !seen.contains("memfd:"), "{seen}");
}

/// The processes whose ids are in a file.
pub(crate) fn pids(note: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(note).expect("the note");
    text.split_whitespace().map(|pid| pid.parse().expect("an id")).collect()
}

pub(crate) fn lives(pid: &u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| !text.contains(") Z "))
}

pub(crate) fn parent(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let rest = stat.rsplit_once(')').expect("a name").1;
    rest.split_whitespace().nth(1).expect("a parent").parse().expect("an id")
}

pub(crate) fn kill(pid: u32, signal: Signal) {
    nix::sys::signal::kill(Pid::from_raw(pid.cast_signed()), signal).expect("kill");
}

pub(crate) async fn exists(path: &Path) {
    until(&format!("{} is there", path.display()), || path.exists()).await;
}

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let patience = tokio::time::timeout(crate::LONG, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(patience.await.is_ok(), "must come true: {what}");
}

pub(crate) async fn nothing_is_left(state_dir: &Path) {
    let runs = state_dir.join("runs");
    until("the directories of runs are gone", || {
        std::fs::read_dir(&runs).is_ok_and(|mut entries| {
            // The one that waits for the next run has no label yet.
            let is_empty = |label: std::fs::Metadata| label.len() == 0;
            entries.all(|run| {
                run.is_ok_and(|run| run.path().join("control/label.json").metadata().is_ok_and(is_empty))
            })
        })
    })
    .await;
}

#[tokio::test]
async fn the_run_of_a_killed_daemon_goes_on_and_the_next_daemon_reports_it_once_with_all_it_wrote() {
    let state = tempfile::tempdir().expect("temp dir");
    let state_dir = state.path().join("s");
    let (note, go) = (state.path().join("pids"), state.path().join("go"));
    let mut coordinator = Scripted::start(|_| None).await;
    let script = format!(
        "echo before; echo $$ > {0}.new; mv {0}.new {0}; until [ -e {1} ]; do sleep 0.01; done; echo after; exit 7",
        note.display(),
        go.display()
    );
    coordinator.enqueue(job("job_1", 3, &script));
    let first = daemon(&coordinator, &state_dir);
    coordinator.next_where("heartbeat", |asked| asked.body["activeLeases"] == json!(1)).await;
    exists(&note).await;
    drop(first);
    assert!(pids(&note).iter().all(lives));
    for _ in 0..3 {
        let again = daemon(&coordinator, &state_dir);
        coordinator.next("register").await;
        // Renewed by its new daemon, under the same fence, before anything is claimed.
        let running = json!([{ "jobId": "job_1", "fence": 3 }]);
        coordinator.next_where("heartbeat", |asked| asked.body["running"] == running).await;
        drop(again);
    }
    let _last = daemon(&coordinator, &state_dir);
    std::fs::write(&go, "").expect("write");
    let done = coordinator.next("complete").await;
    assert_eq!((&done.body["exitCode"], &done.body["stdout"]), (&json!(7), &json!("before\nafter\n")));
    assert_eq!((&done.body["fence"], done.key.as_deref()), (&json!(3), Some("complete:job_1:3")));
    nothing_is_left(&state_dir).await;
}

#[tokio::test]
async fn a_run_that_ends_while_there_is_no_daemon_is_reported_by_the_next_before_it_claims() {
    let state = tempfile::tempdir().expect("temp dir");
    let (state_dir, go) = (state.path().join("s"), state.path().join("go"));
    let coordinator = Scripted::start(|_| None).await;
    let note = state.path().join("note");
    let script = format!(
        "echo $$ > {}; until [ -e {} ]; do sleep 0.01; done; echo done",
        note.display(),
        go.display()
    );
    coordinator.enqueue(job("job_1", 3, &script));
    let first = daemon(&coordinator, &state_dir);
    exists(&note).await;
    drop(first);
    std::fs::write(&go, "").expect("write");
    until("the run is over", || !pids(&note).iter().any(lives)).await;
    // The claims of the daemon that is dead were asked before.
    let mut coordinator = Scripted::start(|_| None).await;
    let _next = daemon(&coordinator, &state_dir);
    let told = loop {
        let asked = coordinator.first().await;
        assert_ne!(asked.what, "claim");
        if asked.what == "complete" {
            break asked;
        }
    };
    assert_eq!((&told.body["stdout"], &told.body["success"]), (&json!("done\n"), &json!(true)));
    nothing_is_left(&state_dir).await;
}

/// A job with a lease of six seconds that nobody renews, when it was claimed, and the processes of its run: first process, one
/// that left its session, shim, guard.
async fn doomed(coordinator: &mut Scripted, state: &Path) -> (Process, Instant, [u32; 4]) {
    let note = state.join("pids");
    let script = format!(
        "trap '' TERM; setsid sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' & \
         echo $$ $! > {0}.new; mv {0}.new {0}; while :; do sleep 0.05; done",
        note.display()
    );
    let mut short = job("job_1", 1, &script);
    short["leaseExpiresAt"] = json!("2026-01-01T00:00:06.000Z");
    coordinator.enqueue(short);
    let process = daemon(coordinator, &state.join("s"));
    // It was sent before; so the lease cannot end sooner than this long after it.
    coordinator.next("claim").await;
    let claimed = Instant::now();
    exists(&note).await;
    let seen = pids(&note);
    let guard = parent(seen[0]);
    (process, claimed, [seen[0], seen[1], parent(guard), guard])
}

#[tokio::test]
async fn whoever_of_its_keepers_is_killed_or_frozen_a_run_is_over_before_its_lease_is() {
    // By place: the daemon, the shim, the guard.
    let cases: [(&str, &[(usize, Signal)]); 9] = [
        ("daemon killed", &[(0, Signal::SIGKILL)]),
        ("daemon frozen", &[(0, Signal::SIGSTOP)]),
        ("shim killed", &[(1, Signal::SIGKILL)]),
        ("shim frozen", &[(1, Signal::SIGSTOP)]),
        ("guard killed", &[(2, Signal::SIGKILL)]),
        ("guard frozen", &[(2, Signal::SIGSTOP)]),
        ("daemon and shim frozen", &[(0, Signal::SIGSTOP), (1, Signal::SIGSTOP)]),
        ("daemon killed, guard frozen", &[(0, Signal::SIGKILL), (2, Signal::SIGSTOP)]),
        ("daemon and shim killed", &[(0, Signal::SIGKILL), (1, Signal::SIGKILL)]),
    ];
    for (case, done) in cases {
        let state = tempfile::tempdir().expect("temp dir");
        let mut coordinator = Scripted::start(|asked| {
            (asked.what == "heartbeat").then(|| (503, json!({ "error": "no", "code": "no_leader" })))
        })
        .await;
        let (process, claimed, [leader, other, shim, guard]) = doomed(&mut coordinator, state.path()).await;
        let keepers = [process.0.id(), shim, guard];
        for (who, signal) in done {
            kill(keepers[*who], *signal);
        }
        until(case, || ![leader, other].iter().any(lives)).await;
        assert!(claimed.elapsed() < LEASE, "{case}: {:?}", claimed.elapsed());
        drop(process);
        for keeper in [shim, guard] {
            let _ = nix::sys::signal::kill(Pid::from_raw(keeper.cast_signed()), Signal::SIGCONT);
        }
        until("its keepers are gone", || ![shim, guard].iter().any(lives)).await;
        let _next = daemon(&coordinator, &state.path().join("s"));
        nothing_is_left(&state.path().join("s")).await;
    }
}

#[tokio::test]
async fn with_daemon_shim_and_guard_frozen_the_kernel_ends_the_group_and_the_daemon_the_rest_as_it_wakes() {
    let state = tempfile::tempdir().expect("temp dir");
    let mut coordinator = Scripted::start(|asked| {
        (asked.what == "heartbeat").then(|| (503, json!({ "error": "no", "code": "no_leader" })))
    })
    .await;
    let (process, claimed, [leader, other, shim, guard]) = doomed(&mut coordinator, state.path()).await;
    for pid in [process.0.id(), shim, guard] {
        kill(pid, Signal::SIGSTOP);
    }
    until("what is left of the kernel's doing", || ![leader, shim, guard].iter().any(lives)).await;
    assert!(claimed.elapsed() < LEASE, "{:?}", claimed.elapsed());
    kill(process.0.id(), Signal::SIGCONT);
    until("the rest is gone", || !lives(&other)).await;
    nothing_is_left(&state.path().join("s")).await;
}

/// A job that goes on until a file is there, and the note of its process.
async fn patient(coordinator: &mut Scripted, state: &Path, mode: &str) -> (Process, u32) {
    let (note, go) = (state.join("pids"), state.join("go"));
    let script = format!(
        "echo $$ > {0}.new; mv {0}.new {0}; until [ -e {1} ]; do sleep 0.01; done; echo done",
        note.display(),
        go.display()
    );
    coordinator.enqueue(job("job_1", 3, &script));
    let process = daemon_with(coordinator, &state.join("s"), &[("SKYCLAW_STOP_MODE", mode)]);
    exists(&note).await;
    (process, pids(&note)[0])
}

/// Ends a daemon as an operator does.
async fn terminate(mut process: Process) {
    kill(process.0.id(), Signal::SIGTERM);
    let status = tokio::task::spawn_blocking(move || process.0.wait()).await.expect("join");
    assert!(status.expect("wait").success());
}

#[tokio::test]
async fn a_daemon_that_leaves_its_runs_is_followed_by_one_that_reports_them() {
    let state = tempfile::tempdir().expect("temp dir");
    let mut coordinator = Scripted::start(|_| None).await;
    let (process, pid) = patient(&mut coordinator, state.path(), "leave").await;
    terminate(process).await;
    assert!(lives(&pid));
    let _next = daemon(&coordinator, &state.path().join("s"));
    std::fs::write(state.path().join("go"), "").expect("write");
    let done = coordinator.next("complete").await;
    assert_eq!((&done.body["stdout"], &done.body["success"]), (&json!("done\n"), &json!(true)));
    nothing_is_left(&state.path().join("s")).await;
}

#[tokio::test]
async fn a_daemon_that_is_to_stop_its_runs_does_so_at_once() {
    let state = tempfile::tempdir().expect("temp dir");
    let mut coordinator = Scripted::start(|_| None).await;
    let (process, pid) = patient(&mut coordinator, state.path(), "stop").await;
    terminate(process).await;
    assert!(!lives(&pid));
    let done = coordinator.next("complete").await;
    assert_eq!(done.body["error"], json!("stopped: host is shutting down"));
    nothing_is_left(&state.path().join("s")).await;
}

#[tokio::test]
async fn a_service_of_a_killed_daemon_goes_on_and_is_reported_and_stopped_by_the_next() {
    let state = tempfile::tempdir().expect("temp dir");
    let (state_dir, note) = (state.path().join("s"), state.path().join("pids"));
    let mut coordinator = Scripted::start(|_| None).await;
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; while :; do sleep 0.05; done", note.display());
    coordinator.deploy(service("svc_1", &script));
    let more = [("SKYCLAW_SERVICE_HOST_PUBLIC_BASE_URL", "http://h"), ("SKYCLAW_SERVICE_BASE_PORT", "42300")];
    let first = daemon_with(&coordinator, &state_dir, &more);
    let before = coordinator.next("report").await;
    exists(&note).await;
    drop(first);
    let pid = pids(&note)[0];
    assert!(lives(&pid));
    let next = daemon_with(&coordinator, &state_dir, &more);
    let after = coordinator.next("report").await;
    assert_eq!(
        (&after.body["status"], &after.body["endpoint"]),
        (&json!("running"), &before.body["endpoint"])
    );
    coordinator.next_where("services/claim", |asked| asked.body["running"] == json!(["svc_1"])).await;
    terminate(next).await;
    assert!(!lives(&pid));
    nothing_is_left(&state_dir).await;
}

#[tokio::test]
async fn the_keepers_of_a_run_are_small() {
    let state = tempfile::tempdir().expect("temp dir");
    let mut coordinator = Scripted::start(|_| None).await;
    let (process, pid) = patient(&mut coordinator, state.path(), "stop").await;
    let guard = parent(pid);
    for keeper in [guard, parent(guard)] {
        let kib = || -> u64 {
            let status = std::fs::read_to_string(format!("/proc/{keeper}/status")).expect("status");
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
            line.trim().trim_end_matches(" kB").parse().expect("a number")
        };
        until("it has settled", || kib() <= 4096).await;
    }
    terminate(process).await;
}

#[tokio::test]
async fn a_second_daemon_over_the_same_directory_refuses_to_start() {
    let state = tempfile::tempdir().expect("temp dir");
    let mut coordinator = Scripted::start(|_| None).await;
    let _first = daemon(&coordinator, state.path());
    coordinator.next("register").await;
    let mut second = daemon(&coordinator, state.path());
    let status = tokio::task::spawn_blocking(move || second.0.wait()).await.expect("join");
    assert!(!status.expect("wait").success());
}
