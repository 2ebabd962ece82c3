//! When and how often a job is run: for later, not too late, and again. (Ours.)

use std::time::{Duration, Instant};

use skyclaw_tests::fake_clock::FakeClock;
use skyclaw_tests::mesh::{id, success_of, with};
use skyclaw_tests::{Coordinator, LONG, Options, Value, Wire, json, shape, wait_until};

const HOUR: i64 = 3600;

fn node() -> Coordinator {
    Options::default().env("SKYCLAW_LEASE_MS", "600000").start()
}

/// A coordinator whose clock the test sets.
fn node_with(clock: &FakeClock) -> Coordinator {
    clock.given_to(Options::default().env("SKYCLAW_LEASE_MS", "600000")).start()
}

/// A time so many seconds from when the coordinator made a record.
fn after(wire: &Wire, seconds: i64) -> String {
    let made = wire.enqueue_with(&json!({"requirement": {"requiredCapabilities": ["nobody"]}}));
    let made: jiff::Timestamp = made["createdAt"].as_str().expect("a time").parse().expect("a time");
    format!("{:.3}", made + jiff::SignedDuration::from_secs(seconds))
}

fn status(wire: &Wire, job: &str, wanted: &str) -> Value {
    wait_until(&format!("the job is {wanted}"), LONG, || {
        Some(wire.job(job)).filter(|job| job["status"] == wanted)
    })
}

/// Claims until the job is given to `h1`.
fn claimed(wire: &Wire, job: &str) -> Value {
    let claim = wire.post("/v1/hosts/h1/claim", &json!({"waitMs": 30_000})).ok()["job"].take();
    assert_eq!(claim["id"], json!(job));
    claim
}

fn fail(wire: &Wire, job: &str) -> Value {
    let body = json!({"success": false, "exitCode": 3, "stdout": "so far", "error": "broke"});
    let path = format!("/v1/jobs/{job}/complete");
    wire.post(&path, &with(&success_of("h1"), &body)).ok()["job"].take()
}

fn retry(wire: &Wire, job: &str) -> skyclaw_tests::wire::Call {
    wire.post(&format!("/v1/jobs/{job}/retry"), &json!({"reason": "fixed", "by": "ann"}))
}

#[test]
fn what_a_job_says_of_time_is_kept_and_shown() {
    let node = node();
    let wire = node.wire();
    let plan = json!({
        "priority": 80, "labels": {"team": "a"}, "ttlMs": 60_000, "notBefore": "2126-01-01T01:00:00+01:00",
        "retry": {"maxAttempts": 5, "backoffMs": 250, "maxBackoffMs": 4000},
    });
    let job = wire.enqueue_with(&plan);
    shape::JOB.assert(&job);
    for name in ["priority", "labels", "ttlMs", "retry"] {
        assert_eq!(job[name], plan[name], "{name}");
    }
    assert_eq!(
        (&job["notBefore"], &job["claimableAt"]),
        (&json!("2126-01-01T00:00:00.000Z"), &job["notBefore"])
    );
    assert_eq!(job["expiresAt"], "2126-01-01T00:01:00.000Z", "counted from when it can be claimed");
    assert_eq!(wire.job(&id(&job)), job);
    let usual = wire.enqueue_with(&json!({"retry": {"maxAttempts": 2}}));
    assert_eq!(usual["retry"], json!({"maxAttempts": 2, "backoffMs": 1000, "maxBackoffMs": 300_000}));
    let plain = wire.enqueue();
    for name in
        ["ttlMs", "notBefore", "retry", "claimableAt", "expiresAt", "failedAttempts", "attemptResults"]
    {
        assert!(plain.get(name).is_none(), "{name}: what is not said is not there: {plain}");
    }
}

#[test]
fn a_job_for_later_wakes_a_claim_that_waits_within_moments_of_its_time() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 9);
    // By the coordinator's clock, which tells whole milliseconds.
    let (start, wait) = (Instant::now(), Duration::from_millis(1999));
    let job = id(&wire.enqueue_with(&json!({"notBefore": after(&wire, 2)})));
    let claim = claimed(&wire, &job);
    assert!(start.elapsed() >= wait, "not before its time");
    assert!(claim.get("claimableAt").is_none(), "{claim}");
}

#[test]
fn jobs_for_later_and_backoffs_survive_a_crash() {
    let clock = FakeClock::new();
    let mut node = node_with(&clock);
    let wire = node.wire();
    wire.host("h1", &[], 9);
    let failing = id(&wire.enqueue_with(
        &json!({"retry": {"maxAttempts": 2, "backoffMs": 3_600_000, "maxBackoffMs": 3_600_000}}),
    ));
    claimed(&wire, &failing);
    assert_eq!(fail(&wire, &failing)["status"], "queued");
    let later = id(&wire.enqueue_with(&json!({"notBefore": after(&wire, 2 * HOUR)})));
    let short = id(&wire
        .enqueue_with(&json!({"ttlMs": 3 * HOUR * 1000, "requirement": {"requiredCapabilities": ["x"]}})));
    let mut wire = wire;
    for (hours, due) in [(1, Some(&failing)), (2, Some(&later)), (3, None)] {
        assert!(wire.claim("h1").is_null(), "before {hours} hours are over");
        node.kill9();
        node.restart();
        wire = node.wire();
        clock.jump(hours * HOUR + 1);
        match due {
            Some(job) => drop(claimed(&wire, job)),
            None => drop(status(&wire, &short, "expired")),
        }
    }
    let error = "no host took it within the 10800000 ms that it was to wait at most";
    assert_eq!(wire.job(&short)["error"], error);
    assert_eq!(fail(&wire, &failing)["status"], "failed");
}

#[test]
fn a_run_that_fails_is_tried_again_and_each_result_is_kept() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 9);
    let job =
        id(&wire.enqueue_with(&json!({"retry": {"maxAttempts": 3, "backoffMs": 20, "maxBackoffMs": 20}})));
    for attempt in 1..=2 {
        claimed(&wire, &job);
        let failed = fail(&wire, &job);
        shape::JOB.assert(&failed);
        assert_eq!((&failed["status"], &failed["failedAttempts"]), (&json!("queued"), &json!(attempt)));
        assert!(failed["claimableAt"].is_string() && failed.get("result").is_none(), "{failed}");
    }
    claimed(&wire, &job);
    let last = fail(&wire, &job);
    assert_eq!((&last["status"], &last["attempts"]), (&json!("failed"), &json!(3)));
    assert_eq!(last["result"]["exitCode"], 3);
    let kept = last["attemptResults"].as_array().expect("results");
    assert_eq!(kept.len(), 2);
    let told = &kept[0];
    assert_eq!(
        (&told["attempt"], &told["status"], &told["hostId"]),
        (&json!(1), &json!("failed"), &json!("h1"))
    );
    assert_eq!(
        (&told["exitCode"], &told["stdout"], &told["error"]),
        (&json!(3), &json!("so far"), &json!("broke"))
    );
    let events = wire.get(&format!("/v1/jobs/{job}/events")).ok();
    let kinds: Vec<_> =
        events["events"].as_array().expect("events").iter().map(|e| e["kind"].clone()).collect();
    let again = ["claimed", "attempt_failed", "requeued"];
    assert_eq!(
        json!(kinds),
        json!([&["submitted"][..], &again[..], &again[..], &["claimed", "failed"][..]].concat())
    );
}

#[test]
fn a_job_that_ended_without_success_can_be_queued_again() {
    let mut node = node();
    let wire = node.wire();
    wire.host("h1", &[], 9);
    let job = id(&wire.enqueue());
    retry(&wire, &job).refused(409, &format!("job {job} is queued already"));
    claimed(&wire, &job);
    retry(&wire, &job).refused(409, &format!("job {job} has not ended: a host has it"));
    assert_eq!(fail(&wire, &job)["status"], "failed");
    // It is in the database alone by now.
    node.terminate();
    node.restart();
    let wire = node.wire();
    let again = retry(&wire, &job).key("once").ok();
    shape::JOB.assert(&again["job"]);
    assert_eq!((&again["job"]["status"], again["job"].get("result")), (&json!("queued"), None));
    assert_eq!(again["job"]["attemptResults"][0]["exitCode"], 3);
    node.kill9();
    node.restart();
    let wire = node.wire();
    assert_eq!(retry(&wire, &job).key("once").ok(), again, "once");
    claimed(&wire, &job);
    wire.completion(&job, "h1").ok();
    let refused = retry(&wire, &job).send();
    assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("not_retryable")));
    refused.refused(
        409,
        &format!("job {job} was done, and is not done a second time: submit another one if that is meant"),
    );
    retry(&wire, "job_none").refused(404, "unknown job: job_none");
    let cancelled = id(&wire.enqueue());
    wire.call("POST", &format!("/v1/jobs/{cancelled}/cancel")).ok();
    assert_eq!(retry(&wire, &cancelled).ok()["job"]["status"], "queued");
    claimed(&wire, &cancelled);
}

#[test]
fn what_is_due_is_not_kept_waiting_by_much_else_that_is() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 9);
    let time = after(&wire, 4);
    let jobs: Vec<_> =
        (0..1200).map(|_| id(&wire.enqueue_with(&json!({"notBefore": time, "ttlMs": 1})))).collect();
    // More than one command takes; each is either claimable for its one millisecond or expired.
    for job in jobs {
        status(&wire, &job, "expired");
    }
}
