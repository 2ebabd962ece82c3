//! Jobs from claim to completion.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use crate::Daemon;
use crate::scripted::{Scripted, job};

#[tokio::test]
async fn a_job_is_claimed_run_and_completed_under_its_fence() {
    let state = tempfile::tempdir().expect("temp dir");
    let mut coordinator = Scripted::start(|_| None).await;
    coordinator.enqueue(job("job_1", 7, "echo $SKYCLAW_JOB_ID $SKYCLAW_FENCE $SKYCLAW_HOST_ID; exit 3"));
    let daemon = Daemon::start(&coordinator, state.path(), &[("SKYCLAW_MAX_PARALLEL", "4")]);
    let registered = coordinator.first().await;
    assert_eq!((registered.what, &registered.body["hostId"]), ("register", &json!("host_1")));
    assert_eq!(registered.body["enforces"]["can"][0], json!("process"));
    assert!(registered.body["enforces"]["unavailable"]["process.tmpfs"].is_string());
    let claim = coordinator.next("claim").await;
    assert_eq!(claim.body, json!({ "waitMs": 25_000, "max": 4 }));
    let done = coordinator.next("complete").await;
    assert_eq!(done.path, "/v1/jobs/job_1/complete");
    assert_eq!(done.key.as_deref(), Some("complete:job_1:7"));
    let mut body = done.body;
    assert!(body["durationMs"].take().is_u64());
    let usage = body["usage"].take();
    assert!(usage["cpuMs"].is_u64() && usage["peakMemoryBytes"].as_u64() > Some(0), "{usage}");
    let events = body["events"].take();
    let kinds = events.as_array().into_iter().flatten().filter_map(|event| event["kind"].as_str());
    assert_eq!(kinds.collect::<Vec<_>>(), ["prepared", "limits", "started", "exited", "usage"], "{events}");
    let want = json!({
        "hostId": "host_1", "success": false, "durationMs": null, "exitCode": 3, "fence": 7,
        "stdout": "job_1 7 host_1\n", "stderr": "", "error": "exited with code 3",
        "usage": null, "events": null,
    });
    assert_eq!(body, want);
    daemon.end().await;
}

#[tokio::test]
async fn jobs_run_side_by_side_up_to_the_limit() {
    let state = tempfile::tempdir().expect("temp dir");
    let mut coordinator = Scripted::start(|_| None).await;
    // Each waits for the other: one after the other they would never end.
    let meet = |mine: &str, other: &str| {
        let dir = state.path().display();
        format!("touch {dir}/{mine}; until [ -e {dir}/{other} ]; do sleep 0.01; done")
    };
    coordinator.enqueue(job("job_a", 1, &meet("a", "b")));
    coordinator.enqueue(job("job_b", 2, &meet("b", "a")));
    let daemon = Daemon::start(&coordinator, &state.path().join("s"), &[("SKYCLAW_MAX_PARALLEL", "2")]);
    for _ in 0..2 {
        assert_eq!(coordinator.next("complete").await.body["success"], json!(true));
    }
    daemon.end().await;
}

#[tokio::test]
async fn a_completion_is_repeated_until_it_is_heard_and_a_refused_one_is_dropped() {
    let state = tempfile::tempdir().expect("temp dir");
    let tries = AtomicU32::new(0);
    let mut coordinator = Scripted::start(move |asked| match asked.what {
        "complete" if tries.fetch_add(1, Ordering::Relaxed) < 2 => {
            Some((503, json!({ "error": "replication target not met", "code": "outcome_unknown" })))
        }
        "complete" if asked.path.contains("job_2") => {
            Some((409, json!({ "error": "job job_2 is not leased", "code": "not_leased" })))
        }
        _ => None,
    })
    .await;
    coordinator.enqueue(job("job_1", 1, "echo once"));
    coordinator.enqueue(job("job_2", 2, "true"));
    coordinator.enqueue(job("job_3", 3, "true"));
    let daemon = Daemon::start(&coordinator, state.path(), &[]);
    let first = coordinator.next("complete").await;
    for _ in 0..2 {
        let again = coordinator.next("complete").await;
        assert_eq!((&again.body, &again.key), (&first.body, &first.key));
    }
    for id in ["job_2", "job_3"] {
        assert!(coordinator.next("complete").await.path.contains(id));
    }
    daemon.end().await;
    let spool = std::fs::read_dir(state.path().join("completions")).expect("spool");
    assert_eq!(spool.count(), 0, "nothing heard or refused stays");
}

#[tokio::test]
async fn an_outcome_nobody_heard_is_told_after_a_restart_before_anything_is_claimed() {
    let state = tempfile::tempdir().expect("temp dir");
    let mut deaf = Scripted::start(|asked| {
        (asked.what == "complete").then(|| (503, json!({ "error": "no", "code": "no_leader" })))
    })
    .await;
    deaf.enqueue(job("job_1", 1, "echo kept"));
    let daemon = Daemon::start(&deaf, state.path(), &[]);
    let first = deaf.next("complete").await;
    daemon.end_now().await;

    let mut coordinator = Scripted::start(|_| None).await;
    let daemon = Daemon::start(&coordinator, state.path(), &[]);
    let told = loop {
        let asked = coordinator.first().await;
        assert_ne!(asked.what, "claim");
        if asked.what == "complete" {
            break asked;
        }
    };
    assert_eq!((told.body, told.key), (first.body, first.key));
    coordinator.next("claim").await;
    daemon.end().await;
}

#[tokio::test]
async fn an_unanswered_claim_is_repeated_with_the_same_key_and_body() {
    let state = tempfile::tempdir().expect("temp dir");
    let tries = AtomicU32::new(0);
    let mut coordinator = Scripted::start(move |asked| {
        let lost = asked.what == "claim" && tries.fetch_add(1, Ordering::Relaxed) < 2;
        lost.then(|| (503, json!({ "error": "lost", "code": "outcome_unknown" })))
    })
    .await;
    let daemon = Daemon::start(&coordinator, state.path(), &[]);
    let mut claims = Vec::new();
    for _ in 0..3 {
        let claim = coordinator.next("claim").await;
        claims.push((claim.key, claim.body));
    }
    assert!(claims[0].0.is_some() && claims[1..].iter().all(|claim| *claim == claims[0]), "{claims:?}");
    daemon.end().await;
}

#[tokio::test]
async fn a_coordinator_that_answers_at_once_is_polled_and_told_of_no_fences() {
    let state = tempfile::tempdir().expect("temp dir");
    let mut coordinator = Scripted::reference().await;
    let daemon = Daemon::start(&coordinator, state.path(), &[]);
    let first = coordinator.next("claim").await;
    let second = coordinator.next("claim").await;
    assert_ne!(first.key, second.key, "each question is a new one");
    let mut plain = job("job_1", 0, "while [ -z \"$SKYCLAW_FENCE\" ]; do sleep 0.01; done");
    plain.as_object_mut().expect("an object").remove("fence");
    coordinator.enqueue(plain);
    let beat = coordinator.next_where("heartbeat", |asked| asked.body["activeLeases"] == json!(1)).await;
    assert_eq!(beat.body["running"], json!([]));
    daemon.end_now().await;
    let done = coordinator.next("complete").await;
    assert_eq!(done.body["error"], json!("stopped: host is shutting down"));
    assert_eq!(done.body.get("fence"), None);
}

#[tokio::test]
async fn a_soft_end_lets_runs_finish() {
    let state = tempfile::tempdir().expect("temp dir");
    let go = state.path().join("go");
    let mut coordinator = Scripted::start(|_| None).await;
    coordinator.enqueue(job("job_1", 1, &format!("until [ -e {} ]; do sleep 0.01; done", go.display())));
    let daemon = Daemon::start(&coordinator, &state.path().join("s"), &[]);
    coordinator.next_where("heartbeat", |asked| asked.body["activeLeases"] == json!(1)).await;
    daemon.soft.cancel();
    // It is still renewed after the daemon was told to end.
    coordinator.next("heartbeat").await;
    let beat = coordinator.next("heartbeat").await;
    assert_eq!(beat.body["running"], json!([{ "jobId": "job_1", "fence": 1 }]));
    std::fs::write(&go, "").expect("write");
    assert_eq!(coordinator.next("complete").await.body["success"], json!(true));
    daemon.ended().await;
}
