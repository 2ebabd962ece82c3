//! The host's own switch, on a daemon as a process of its own, with a cluster and without.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::process::{daemon_with, exists, kill, lives, nothing_is_left, pids, until};
use crate::scripted::{Scripted, job, service};

/// What an operator says to the host.
fn operate(state_dir: &Path, args: &[&str]) -> Output {
    command(state_dir, args).output().expect("it runs")
}

fn command(state_dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skyclaw-hostd"));
    command.env_clear().env("PATH", "/usr/bin:/bin").args(args).arg("--state-dir").arg(state_dir);
    command
}

/// What it said, when it went well.
fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A script that notes its process and goes on for ever, not asked twice.
fn for_ever(note: &Path) -> String {
    format!("echo $$ > {0}.new; mv {0}.new {0}; while :; do sleep 0.05; done", note.display())
}

const QUICK: [(&str, &str); 2] = [("SKYCLAW_POLL_MS", "50"), ("SKYCLAW_STOP_MODE", "leave")];

fn frozen(body: &Value) -> bool {
    body["switch"]["frozen"].is_object()
}

#[tokio::test]
async fn a_frozen_host_stops_jobs_and_services_tells_why_and_claims_nothing_until_it_is_thawed() {
    let state = tempfile::tempdir().expect("temp dir");
    let (dir, note, served) = (state.path().join("s"), state.path().join("pid"), state.path().join("served"));
    let mut coordinator = Scripted::start(|_| None).await;
    coordinator.enqueue(job("job_1", 3, &for_ever(&note)));
    coordinator.deploy(service("svc_1", &for_ever(&served)));
    let _daemon = daemon_with(&coordinator, &dir, &QUICK);
    coordinator.next_where("heartbeat", |asked| !frozen(&asked.body)).await;
    exists(&note).await;
    exists(&served).await;
    let (run, host) = (pids(&note), pids(&served));
    let told = said(&operate(&dir, &["freeze", "--reason", "keys leaked"]));
    assert!(told.starts_with("frozen since ") && told.contains(": keys leaked; nothing runs"), "{told}");
    assert!(!run.iter().chain(&host).any(lives), "when it returns, nothing runs");
    let beat = coordinator.next_where("heartbeat", |asked| frozen(&asked.body)).await;
    let freeze = &beat.body["switch"]["frozen"];
    assert_eq!((&freeze["reason"], freeze["by"].is_string()), (&json!("keys leaked"), true), "{freeze}");
    let done = coordinator.next("complete").await;
    assert_eq!((&done.body["stopped"], &done.body["success"]), (&json!("frozen"), &json!(false)));
    assert_eq!(done.body["error"], "stopped: its host is frozen");
    let second = state.path().join("second");
    coordinator.enqueue(job("job_2", 4, &format!("echo $$ > {}", second.display())));
    for _ in 0..5 {
        coordinator.next_where("heartbeat", |asked| frozen(&asked.body)).await;
    }
    assert!(!second.exists(), "nothing begins");
    let status = said(&operate(&dir, &["status"]));
    assert!(status.contains("frozen since ") && status.contains("daemon  runs\nruns    0"), "{status}");
    said(&operate(&dir, &["thaw"]));
    let beat = coordinator.next_where("heartbeat", |asked| !frozen(&asked.body)).await;
    assert!(beat.body["switch"]["thawedBy"].is_string(), "{}", beat.body);
    let done = coordinator.next_where("complete", |asked| asked.path.contains("job_2")).await;
    assert_eq!(done.body["success"], true);
    assert!(said(&operate(&dir, &["thaw"])).contains("was not frozen"));
    assert!(said(&operate(&dir, &["status"])).starts_with("switch  not frozen"));
}

#[tokio::test]
async fn a_file_made_by_hand_stops_a_host_that_no_coordinator_answers() {
    let state = tempfile::tempdir().expect("temp dir");
    let (dir, note) = (state.path().join("s"), state.path().join("pid"));
    let cut = Arc::new(AtomicBool::new(false));
    let is_cut = cut.clone();
    let no = (503, json!({ "error": "no leader", "code": "no_leader" }));
    let mut coordinator = Scripted::start(move |_| is_cut.load(Ordering::Relaxed).then(|| no.clone())).await;
    coordinator.enqueue(job("job_1", 3, &for_ever(&note)));
    let _daemon = daemon_with(&coordinator, &dir, &QUICK);
    exists(&note).await;
    cut.store(true, Ordering::Relaxed);
    std::fs::write(dir.join("frozen"), "by hand\n").expect("touch");
    until("it is stopped", || !pids(&note).iter().any(lives)).await;
    cut.store(false, Ordering::Relaxed);
    let done = coordinator.next("complete").await;
    assert_eq!(done.body["stopped"], "frozen");
    coordinator.next_where("heartbeat", |asked| asked.body["switch"]["frozen"]["reason"] == "by hand").await;
    std::fs::remove_file(dir.join("frozen")).expect("rm");
    coordinator.next_where("heartbeat", |asked| !frozen(&asked.body)).await;
}

#[tokio::test]
async fn a_host_is_frozen_also_while_its_daemon_is_dead_or_frozen_itself_and_stays_so_over_a_restart() {
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        let state = tempfile::tempdir().expect("temp dir");
        let (dir, note) = (state.path().join("s"), state.path().join("pid"));
        let mut coordinator = Scripted::start(|_| None).await;
        coordinator.enqueue(job("job_1", 3, &for_ever(&note)));
        let daemon = daemon_with(&coordinator, &dir, &QUICK);
        exists(&note).await;
        kill(daemon.0.id(), signal);
        said(&operate(&dir, &["freeze"]));
        assert!(!pids(&note).iter().any(lives), "{signal}: its shim has ended it");
        drop(daemon);
        coordinator.enqueue(job("job_2", 4, "exit 0"));
        let _next = daemon_with(&coordinator, &dir, &QUICK);
        let done = coordinator.next("complete").await;
        assert_eq!((&done.body["stopped"], done.path.contains("job_1")), (&json!("frozen"), true));
        for _ in 0..3 {
            coordinator.next_where("heartbeat", |asked| frozen(&asked.body)).await;
        }
        nothing_is_left(&dir).await;
        said(&operate(&dir, &["thaw"]));
        coordinator.next_where("complete", |asked| asked.path.contains("job_2")).await;
    }
}

#[tokio::test]
async fn a_run_whose_shim_is_frozen_is_ended_by_the_next_daemon_before_any_coordinator_answers() {
    let state = tempfile::tempdir().expect("temp dir");
    let (dir, note) = (state.path().join("s"), state.path().join("pid"));
    let coordinator = Scripted::start(|_| None).await;
    coordinator.enqueue(job("job_1", 3, &for_ever(&note)));
    let first = daemon_with(&coordinator, &dir, &QUICK);
    exists(&note).await;
    drop(first);
    let shim = parent_of_parent(pids(&note)[0]);
    kill(shim, Signal::SIGSTOP);
    std::fs::write(dir.join("frozen"), "").expect("touch");
    let silent = Scripted::start(|_| Some((503, json!({ "error": "no", "code": "no_leader" })))).await;
    let _next = daemon_with(&silent, &dir, &QUICK);
    until("it is stopped", || !pids(&note).iter().any(lives)).await;
}

fn parent_of_parent(pid: u32) -> u32 {
    crate::process::parent(crate::process::parent(pid))
}

#[tokio::test]
async fn of_two_operators_at_once_one_freezes_the_host_and_both_find_it_frozen() {
    let state = tempfile::tempdir().expect("temp dir");
    let dir = state.path().join("s");
    let mut coordinator = Scripted::start(|_| None).await;
    let _daemon = daemon_with(&coordinator, &dir, &QUICK);
    coordinator.next("register").await;
    let both: Vec<_> = ["one", "other"]
        .map(|why| {
            command(&dir, &["freeze", "--reason", why]).stdout(Stdio::piped()).spawn().expect("it runs")
        })
        .into_iter()
        .map(|child| said(&child.wait_with_output().expect("output")))
        .collect();
    let first = both.iter().filter(|told| told.starts_with("frozen since")).count();
    assert_eq!((first, both.iter().filter(|told| told.starts_with("was frozen already")).count()), (1, 1));
    let since = |told: &String| told.split_once("since ").map(|(_, rest)| rest.to_owned());
    assert_eq!(since(&both[0]), since(&both[1]), "it is the same freeze");
}

#[test]
fn a_directory_of_no_host_is_refused_with_what_to_do() {
    let state = tempfile::tempdir().expect("temp dir");
    let refused = operate(state.path(), &["freeze"]);
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && text.contains("--state-dir"), "{text}");
    assert_eq!(std::fs::read_dir(state.path()).expect("list").count(), 0);
}
