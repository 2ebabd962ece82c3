//! The daemon as a process of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::scripted::{Scripted, job};

const TOKEN: &str = "token-that-nobody-may-see";

/// A daemon that is killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn daemon(coordinator: &Scripted, state: &Path) -> Process {
    let child = Command::new(env!("CARGO_BIN_EXE_skyclaw-hostd"))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("SKYCLAW_COORDINATOR_URL", &coordinator.url)
        .env("SKYCLAW_STATE_DIR", state)
        .env("SKYCLAW_ALLOWED_COMMANDS", "sh")
        .env("SKYCLAW_HEARTBEAT_MS", "100")
        .env("SKYCLAW_TOKEN", TOKEN)
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

#[tokio::test]
async fn a_killed_daemon_takes_its_runs_along_and_the_next_one_sweeps_the_rest() {
    let state = tempfile::tempdir().expect("temp dir");
    let note = state.path().join("pids").display().to_string();
    let mut coordinator = Scripted::start(|_| None).await;
    let script = format!("setsid sleep 1000 & echo $$ $! > {note}.new; mv {note}.new {note}; wait");
    coordinator.enqueue(job("job_1", 1, &script));
    let state_dir = state.path().join("s");
    let process = daemon(&coordinator, &state_dir);
    while !Path::new(&note).exists() {
        coordinator.next("heartbeat").await;
    }
    let pids = std::fs::read_to_string(&note).expect("the note");
    let stats: Vec<String> = pids.split_whitespace().map(|pid| format!("/proc/{pid}/stat")).collect();
    let lives = |stat: &String| std::fs::read_to_string(stat).is_ok_and(|text| !text.contains(") Z "));
    assert!(stats.len() == 2 && stats.iter().all(lives));
    drop(process);
    let _next = daemon(&coordinator, &state_dir);
    // Registered: the sweep comes before.
    coordinator.next("register").await;
    assert!(!stats.iter().any(lives));
    assert_eq!(std::fs::read_dir(state_dir.join("runs")).expect("runs").count(), 0);
    let again = coordinator.next("heartbeat").await;
    assert_eq!(again.body["running"], json!([]));
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
