//! Jobs whose host was lost: retried, failed, or held until somebody decides. (Ours.)

use skyclaw_tests::mesh::{id, success_of, with};
use skyclaw_tests::{Coordinator, LONG, Options, Value, Wire, json, shape, wait_until};

fn node() -> Coordinator {
    Options::default().env("SKYCLAW_LEASE_MS", "300").start()
}

/// A job of this kind that a host took and never reported on.
fn lost(wire: &Wire, on_lost: &str) -> (String, Value) {
    wire.host("h1", &[], 4);
    wire.host("h2", &[], 4);
    let job = id(&wire.enqueue_with(&json!({"onLost": on_lost})));
    let claimed = wire.claim("h1");
    assert_eq!(claimed["id"], json!(job));
    let over = wait_until("its lease has run out", LONG, || {
        Some(wire.job(&job)).filter(|job| job["status"] != "leased")
    });
    (job, with(&over, &json!({"fence": claimed["fence"]})))
}

fn resolve(wire: &Wire, job: &str, body: &Value) -> skyclaw_tests::Reply {
    wire.post(&format!("/v1/jobs/{job}/resolve"), body).send()
}

#[test]
fn a_job_says_what_happens_when_its_host_is_lost() {
    let node = node();
    let wire = node.wire();
    let (job, over) = lost(&wire, "retry");
    assert_eq!(over["status"], "queued");
    assert_eq!(wire.claim("h2")["id"], json!(job));
    wire.completion(&job, "h2").ok();
    let (_, over) = lost(&wire, "fail");
    assert_eq!(over["status"], "failed");
    assert_eq!(over["error"], "its host h1 was lost: the lease ran out, and it is not to be run again");
    let (job, over) = lost(&wire, "hold");
    shape::JOB.assert(&over);
    assert_eq!((&over["status"], &over["onLost"]), (&json!("lost"), &json!("hold")));
    assert_eq!(over["assignedHostId"], "h1");
    assert!(over["lostAt"].is_string() && over.get("leaseExpiresAt").is_none(), "{over}");
    assert_eq!(over["error"], "its host h1 was lost: the lease ran out");
    for host in ["h1", "h2"] {
        assert_ne!(wire.claim(host)["id"], json!(job), "nobody is given what may have been done");
    }
}

#[test]
fn somebody_decides_about_a_lost_job_once() {
    let node = node();
    let wire = node.wire();
    let (job, _) = lost(&wire, "hold");
    let decision = json!({"action": "requeue", "reason": "it never began", "by": "ann"});
    let reply = resolve(&wire, &job, &decision).ok();
    assert_eq!(reply["job"]["status"], "queued");
    let again = resolve(&wire, &job, &decision);
    again.refused(409, &format!("job {job} is not lost but queued"));
    assert_eq!(again.json()["code"], "not_lost");
    assert_eq!(wire.claim("h2")["id"], json!(job));
    wire.completion(&job, "h2").ok();

    let (job, _) = lost(&wire, "hold");
    let failed = resolve(&wire, &job, &json!({"action": "fail", "reason": "half done"})).ok();
    assert_eq!(failed["job"]["status"], "failed");
    let error = failed["job"]["error"].as_str().expect("a reason");
    assert!(error.ends_with("and it was found to have failed: half done"), "{error}");

    let (job, _) = lost(&wire, "hold");
    let found = json!({"action": "complete", "result": {"exitCode": 0, "stdout": "sold", "durationMs": 7}});
    let done = resolve(&wire, &job, &found).ok();
    assert_eq!(
        (&done["job"]["status"], &done["job"]["result"]["stdout"]),
        (&json!("completed"), &json!("sold"))
    );
    resolve(&wire, "job_none", &json!({"action": "fail"})).refused(404, "unknown job: job_none");
    let fault = resolve(&wire, &job, &json!({"action": "shrug"}));
    fault.refused(400, "action must be \"requeue\", \"fail\" or \"complete\"");
    assert_eq!(fault.json()["details"], json!({"field": "action"}));
}

#[test]
fn the_host_of_a_lost_job_may_still_say_that_it_was_done() {
    let node = node();
    let wire = node.wire();
    let (job, over) = lost(&wire, "hold");
    let path = format!("/v1/jobs/{job}/complete");
    wire.post(&path, &success_of("h1")).refused(409, &format!("job {job} is not leased"));
    wire.post(&path, &with(&success_of("h2"), &json!({"fence": over["fence"]})))
        .refused(409, &format!("job {job} is assigned to h1"));
    let stale = wire.post(&path, &with(&success_of("h1"), &json!({"fence": 0}))).send();
    assert_eq!((stale.status, &stale.json()["code"]), (409, &json!("stale_fence")));
    let stopped = json!({"fence": over["fence"], "success": false, "stopped": "lease"});
    let told = wire.post(&path, &with(&success_of("h1"), &stopped)).ok();
    assert_eq!(told["job"]["status"], "lost", "that it was stopped does not say how far it came");
    let done = wire.post(&path, &with(&success_of("h1"), &json!({"fence": over["fence"]}))).ok();
    assert_eq!(done["job"]["status"], "completed");
}

#[test]
fn a_lost_job_can_be_called_off_and_found_in_lists_also_after_a_crash() {
    let mut node = node();
    let (job, _) = lost(&node.wire(), "hold");
    node.kill9();
    node.restart();
    let wire = node.wire();
    let listed = wire.get("/v1/jobs?status=lost").ok();
    assert_eq!(listed["jobs"][0]["id"], json!(job));
    assert!(wire.claim("h2").is_null());
    let cancelled = wire.call("POST", &format!("/v1/jobs/{job}/cancel")).ok();
    assert_eq!(cancelled["job"]["status"], "cancelled");
}
