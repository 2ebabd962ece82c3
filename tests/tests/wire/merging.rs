//! `/v1/replicate/snapshot`: the records of a reference coordinator, the newer of two wins.

use skyclaw_tests::mesh::with;
use skyclaw_tests::{Coordinator, LONG, Options, Value, Wire, json, wait_until};

/// One that does not forget what ended long ago.
fn node() -> Coordinator {
    Options::default().env("SKYCLAW_JOB_RETENTION_MS", "never").start()
}

fn merge(wire: &Wire, state: &Value) -> bool {
    let body = wire.post("/v1/replicate/snapshot", state).ok();
    assert_eq!((&body["ok"], &body["nodeId"]), (&json!(true), &json!("node-a")));
    body["changed"].as_bool().expect("changed")
}

fn job(extra: &Value) -> Value {
    let record = json!({
        "id": "job_ref", "createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:05.000Z",
        "updatedBy": "ref", "version": 5, "status": "queued", "attempts": 0,
        "requirement": {"requiredCapabilities": []},
        "payload": {"kind": "shell", "command": "echo", "args": ["hi"]},
    });
    with(&record, extra)
}

fn host(extra: &Value) -> Value {
    let record = json!({
        "id": "h-ref", "name": "ref", "capabilities": ["shell"], "maxParallel": 1, "activeLeases": 0,
        "lastSeenAt": "2026-01-01T00:00:00.000Z", "registeredAt": "2026-01-01T00:00:00.000Z",
        "updatedBy": "ref", "version": 2,
    });
    with(&record, extra)
}

fn service(extra: &Value) -> Value {
    let record = json!({
        "id": "svc_ref", "name": "api", "command": "node", "args": [], "replicas": 1,
        "requiredCapabilities": ["service-host"], "status": "pending",
        "createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z",
        "updatedBy": "ref", "version": 1, "assignments": [],
    });
    with(&record, extra)
}

fn state(jobs: &[Value]) -> Value {
    json!({"nodeId": "ref", "hosts": [], "jobs": jobs, "services": []})
}

#[test]
fn records_are_adopted_as_they_are_and_merging_them_again_changes_nothing() {
    let node = node();
    let wire = node.wire();
    let whole = json!({
        "nodeId": "ref", "hosts": [host(&json!({}))], "jobs": [job(&json!({}))], "services": [service(&json!({}))],
    });
    assert!(merge(&wire, &whole));
    assert!(!merge(&wire, &whole));
    let kept = wire.job("job_ref");
    for field in ["createdAt", "updatedAt", "updatedBy", "version", "status", "attempts", "payload"] {
        assert_eq!(kept[field], job(&json!({}))[field], "{field}");
    }
    assert_eq!(wire.host_record("h-ref")["version"], 2);
    assert_eq!(wire.get("/v1/services/svc_ref").ok()["service"]["version"], 1);
}

#[test]
fn the_newer_record_wins_by_version_then_time_then_node() {
    // What comes second, and whether it wins over version 5 of 00:00:05 by `ref`.
    let table = [
        (json!({"version": 6, "updatedAt": "2020-01-01T00:00:00.000Z", "updatedBy": "a"}), true),
        (json!({"version": 4, "updatedAt": "2030-01-01T00:00:00.000Z", "updatedBy": "z"}), false),
        (json!({"updatedAt": "2026-01-01T00:00:05.001Z", "updatedBy": "a"}), true),
        (json!({"updatedAt": "2026-01-01T00:00:04.999Z", "updatedBy": "z"}), false),
        (json!({"updatedBy": "reg"}), true),
        (json!({"updatedBy": "ree"}), false),
        (json!({}), false),
    ];
    let node = node();
    let wire = node.wire();
    for (i, (second, wins)) in table.iter().enumerate() {
        let id = json!({"id": format!("job_{i}")});
        assert!(merge(&wire, &state(&[job(&id)])));
        let rival = with(&with(&job(&id), second), &json!({"submittedBy": "rival"}));
        assert_eq!(merge(&wire, &state(&[rival])), *wins, "{second}");
        assert_eq!(wire.job(&format!("job_{i}"))["submittedBy"] == "rival", *wins, "{second}");
    }
}

#[test]
fn an_adopted_job_is_claimed_and_what_changes_it_is_newer() {
    let node = node();
    let wire = node.wire();
    merge(&wire, &state(&[job(&json!({"version": 1_000_000}))]));
    wire.host("h1", &[], 1);
    let leased = wire.claim("h1");
    assert_eq!(leased["id"], "job_ref");
    assert!(leased["version"].as_u64() > Some(1_000_000), "{leased}");
    wire.completion("job_ref", "h1").ok();
    assert!(!merge(&wire, &state(&[job(&json!({"version": 1_000_000}))])), "an old copy must not come back");
    assert_eq!(wire.job("job_ref")["status"], "completed");
}

#[test]
fn an_adopted_lease_runs_out_like_any_other() {
    let node = Options::default().env("SKYCLAW_LEASE_MS", "300").start();
    let wire = node.wire();
    let leased = json!({
        "status": "leased", "attempts": 1, "assignedHostId": "h-ref", "leaseExpiresAt": "2026-01-01T00:01:00.000Z",
    });
    merge(
        &wire,
        &json!({"nodeId": "ref", "hosts": [host(&json!({}))], "jobs": [job(&leased)], "services": []}),
    );
    wait_until("the job is queued", LONG, || (wire.job("job_ref")["status"] == "queued").then_some(()));
}

#[test]
fn an_adopted_result_is_shown_and_the_job_is_not_run_again() {
    let node = node();
    let wire = node.wire();
    let result = json!({
        "finishedAt": "2026-01-01T00:00:05.000Z", "durationMs": 9, "exitCode": 0, "stdout": "hi\n", "stderr": "",
    });
    let done = json!({"status": "completed", "attempts": 1, "assignedHostId": "h-ref", "result": result});
    merge(&wire, &state(&[job(&done)]));
    wire.host("h1", &[], 1);
    assert!(wire.claim("h1").is_null());
    assert_eq!(wire.job("job_ref")["result"], result);
}

#[test]
fn what_is_no_state_is_400_and_changes_nothing() {
    let node = node();
    let wire = node.wire();
    let table = [
        (json!({"nodeId": "ref", "jobs": "none"}), "jobs"),
        (json!({"nodeId": "ref", "jobs": [job(&json!({})), {"id": "job_x"}]}), "jobs[1]"),
        (json!({"nodeId": "ref", "jobs": [job(&json!({"status": "fine"}))]}), "jobs[0]"),
        (json!({"nodeId": "ref", "jobs": [job(&json!({"version": -1}))]}), "version"),
        (json!({"nodeId": "ref", "hosts": [host(&json!({"lastSeenAt": "yesterday"}))]}), "lastSeenAt"),
    ];
    for (body, mention) in table {
        let reply = wire.post("/v1/replicate/snapshot", &body).send();
        assert_eq!(reply.status, 400, "{body}: {}", reply.text);
        assert!(reply.error().contains(mention), "{mention} is not in {}", reply.error());
    }
    assert_eq!(wire.get("/v1/state").ok()["jobs"], json!([]));
}

#[test]
fn a_snapshot_may_be_larger_than_other_bodies() {
    let node = node();
    let wire = node.wire();
    let filler = "x".repeat(1000);
    let jobs: Vec<_> = (0..3000)
        .map(|i| job(&json!({"id": format!("job_{i}"), "payload": {"kind": "shell", "command": filler}})))
        .collect();
    let body = state(&jobs);
    assert!(body.to_string().len() > 3 * 1024 * 1024);
    assert!(merge(&wire, &body));
    assert_eq!(wire.get("/v1/state").ok()["jobs"].as_array().map(Vec::len), Some(3000));
}
