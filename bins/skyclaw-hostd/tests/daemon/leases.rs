//! What heartbeats keep and what they stop.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::Daemon;
use crate::scripted::{Scripted, host, job};

const FOREVER: &str = "while :; do sleep 0.05; done";

fn stopping(reason: &'static str) -> impl Fn(&crate::scripted::Asked) -> Option<(u16, serde_json::Value)> {
    move |asked| {
        let named = asked.what == "heartbeat" && asked.body["running"] != json!([]);
        let stop = json!([{ "jobId": "job_1", "reason": reason }]);
        named.then(|| (200, json!({ "host": host(), "stop": stop })))
    }
}

#[tokio::test]
async fn a_job_that_is_called_off_is_stopped_and_completed() {
    let state = tempfile::tempdir().expect("temp dir");
    let mut coordinator = Scripted::start(stopping("cancelled")).await;
    coordinator.enqueue(job("job_1", 1, FOREVER));
    let daemon = Daemon::start(&coordinator, state.path(), &[]);
    let done = coordinator.next("complete").await;
    assert_eq!((&done.body["error"], &done.body["exitCode"]), (&json!("cancelled"), &json!(143)));
    daemon.end().await;
}

/// Its coordinator decides by that whether it is done again.
#[tokio::test]
async fn what_is_stopped_for_a_reason_of_the_hosts_is_told_so() {
    for (reason, stopped) in
        [("frozen", "frozen"), ("draining", "draining"), ("cancelled", "cancelled"), ("not_leased", "lease")]
    {
        let state = tempfile::tempdir().expect("temp dir");
        let mut coordinator = Scripted::start(stopping(reason)).await;
        coordinator.enqueue(job("job_1", 1, FOREVER));
        let daemon = Daemon::start(&coordinator, state.path(), &[]);
        let done = coordinator.next("complete").await;
        assert_eq!(
            (&done.body["success"], &done.body["stopped"]),
            (&json!(false), &json!(stopped)),
            "{reason}"
        );
        daemon.end().await;
    }
}

#[tokio::test]
async fn a_job_that_is_no_longer_this_hosts_is_stopped() {
    let state = tempfile::tempdir().expect("temp dir");
    let mut coordinator = Scripted::start(stopping("not_leased")).await;
    coordinator.enqueue(job("job_1", 1, FOREVER));
    let daemon = Daemon::start(&coordinator, state.path(), &[]);
    let done = coordinator.next("complete").await;
    assert_eq!(done.body["error"], json!("stopped: this host no longer holds its lease"));
    daemon.end().await;
}

#[tokio::test]
async fn a_run_whose_lease_cannot_be_renewed_is_stopped_before_the_lease_ends() {
    let state = tempfile::tempdir().expect("temp dir");
    let mut coordinator = Scripted::start(|asked| {
        (asked.what == "heartbeat").then(|| (503, json!({ "error": "no", "code": "no_leader" })))
    })
    .await;
    let mut short = job("job_1", 1, FOREVER);
    short["leaseExpiresAt"] = json!("2026-01-01T00:00:02.000Z");
    coordinator.enqueue(short);
    let daemon = Daemon::start(&coordinator, state.path(), &[]);
    coordinator.next("claim").await;
    let claimed = std::time::Instant::now();
    let done = coordinator.next("complete").await;
    assert_eq!(done.body["error"], json!("stopped: its lease could not be renewed in time"));
    assert!(claimed.elapsed().as_millis() < 2000, "{:?}", claimed.elapsed());
    daemon.end().await;
}

#[tokio::test]
async fn a_short_lease_is_renewed_as_often_as_it_needs() {
    let state = tempfile::tempdir().expect("temp dir");
    let mut coordinator = Scripted::start(|_| None).await;
    let mut short = job("job_1", 1, "sleep 3.5");
    short["leaseExpiresAt"] = json!("2026-01-01T00:00:02.000Z");
    coordinator.enqueue(short);
    let daemon = Daemon::start(&coordinator, state.path(), &[("SKYCLAW_HEARTBEAT_MS", "60000")]);
    assert_eq!(coordinator.next("complete").await.body["error"], json!(null));
    daemon.end().await;
}

#[tokio::test]
async fn a_job_that_was_given_out_anew_is_run_anew_after_the_old_run_is_gone() {
    let state = tempfile::tempdir().expect("temp dir");
    let mut coordinator = Scripted::start(|_| None).await;
    // Holds a directory as long as it runs; a second run beside it would find it.
    let held = state.path().join("held").display().to_string();
    let script = format!(
        "mkdir {held} || exit 9; trap 'rmdir {held}; exit 1' TERM; \
         until [ $SKYCLAW_FENCE = 2 ]; do sleep 0.01; done; rmdir {held}"
    );
    coordinator.enqueue(job("job_1", 1, &script));
    let daemon = Daemon::start(&coordinator, &state.path().join("s"), &[("SKYCLAW_MAX_PARALLEL", "2")]);
    coordinator.next_where("heartbeat", |asked| asked.body["activeLeases"] == json!(1)).await;
    while !std::path::Path::new(&held).exists() {
        coordinator.next("heartbeat").await;
    }
    coordinator.enqueue(job("job_1", 2, &script));
    let old = coordinator.next("complete").await;
    assert_eq!((&old.body["fence"], &old.body["exitCode"]), (&json!(1), &json!(1)));
    let new = coordinator.next("complete").await;
    assert_eq!((&new.body["fence"], &new.body["exitCode"]), (&json!(2), &json!(0)));
    daemon.end().await;
}

#[tokio::test]
async fn a_host_that_was_forgotten_registers_again_and_its_runs_go_on() {
    let state = tempfile::tempdir().expect("temp dir");
    let forgot = AtomicBool::new(false);
    let mut coordinator = Scripted::start(move |asked| {
        let named = asked.what == "heartbeat" && asked.body["running"] != json!([]);
        let unknown = named && !forgot.swap(true, Ordering::Relaxed);
        unknown.then(|| (404, json!({ "error": "unknown host: host_1", "code": "not_found" })))
    })
    .await;
    let go = state.path().join("go");
    coordinator.enqueue(job("job_1", 1, &format!("until [ -e {} ]; do sleep 0.01; done", go.display())));
    let daemon = Daemon::start(&coordinator, &state.path().join("s"), &[]);
    coordinator.next("register").await;
    coordinator.next("register").await;
    let beat = coordinator.next("heartbeat").await;
    assert_eq!(beat.body["running"], json!([{ "jobId": "job_1", "fence": 1 }]));
    std::fs::write(&go, "").expect("write");
    assert_eq!(coordinator.next("complete").await.body["success"], json!(true));
    daemon.end().await;
}
