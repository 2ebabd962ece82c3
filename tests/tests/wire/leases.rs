//! Leases that run out, and leases that are renewed.

use skyclaw_tests::mesh::id;
use skyclaw_tests::{Coordinator, LONG, Options, json, wait_until};

fn node(lease_ms: u32) -> Coordinator {
    Options::default().env("SKYCLAW_LEASE_MS", lease_ms.to_string()).start()
}

#[test]
fn a_lease_that_runs_out_is_requeued() {
    let node = node(300);
    let wire = node.wire();
    wire.host("h1", &[], 1);
    wire.host("h2", &[], 1);
    let job = id(&wire.enqueue());
    let first = wire.claim("h1");
    let queued = wait_until("the job is queued again", LONG, || {
        Some(wire.job(&job)).filter(|job| job["status"] == "queued")
    });
    for gone in ["assignedHostId", "leaseExpiresAt"] {
        assert!(queued.get(gone).is_none(), "{gone} in {queued}");
    }
    assert_eq!(queued["attempts"], 1);
    assert_eq!(wire.host_record("h1")["activeLeases"], 0);
    let second = wire.claim("h2");
    assert_eq!((&second["id"], &second["attempts"]), (&json!(job), &json!(2)));
    assert!(second["fence"].as_u64() > first["fence"].as_u64());
    wire.completion(&job, "h1").refused(409, &format!("job {job} is assigned to h2"));
}

#[test]
fn a_lease_still_runs_out_after_a_crash() {
    let mut node = node(300);
    let wire = node.wire();
    wire.host("h1", &[], 1);
    let job = id(&wire.enqueue());
    wire.claim("h1");
    node.kill9();
    node.restart();
    let wire = node.wire();
    wait_until("the job is queued again", LONG, || (wire.job(&job)["status"] == "queued").then_some(()));
}

#[test]
fn a_heartbeat_that_names_a_run_keeps_its_lease() {
    let node = node(1500);
    let wire = node.wire();
    wire.host("h1", &[], 2);
    let kept = id(&wire.enqueue());
    let lost = id(&wire.enqueue());
    let fence = wire.claim("h1")["fence"].clone();
    wire.claim("h1");
    let body = json!({"running": [{"jobId": kept, "fence": fence}]});
    // As soon as the one that is not named is requeued, the other has been kept for longer than its lease.
    wait_until("the lease that is not renewed runs out", LONG, || {
        wire.post("/v1/hosts/h1/heartbeat", &body).ok();
        (wire.job(&lost)["status"] == "queued").then_some(())
    });
    assert_eq!(wire.job(&kept)["status"], "leased");
    wire.completion(&kept, "h1").ok();
}

#[test]
fn a_heartbeat_tells_a_host_to_stop_what_is_not_its_own() {
    let node = node(60_000);
    let wire = node.wire();
    wire.host("h1", &[], 2);
    wire.host("h2", &[], 2);
    let job = id(&wire.enqueue());
    let fence = wire.claim("h1")["fence"].clone();
    let beat = |host: &str, job: &str| {
        let body = json!({"running": [{"jobId": job, "fence": fence}]});
        wire.post(&format!("/v1/hosts/{host}/heartbeat"), &body).ok()
    };
    assert!(beat("h1", &job).get("stop").is_none());
    assert_eq!(beat("h2", &job)["stop"], json!([{"jobId": job, "reason": "not_leased"}]));
    assert_eq!(beat("h1", "job_none")["stop"], json!([{"jobId": "job_none", "reason": "not_leased"}]));
}
