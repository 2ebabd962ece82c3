//! Jobs: from the queue over a host to the end.

use skyclaw_tests::mesh::{id, shell_job, success_of, with, without};
use skyclaw_tests::{Coordinator, Options, json, shape};

fn node() -> Coordinator {
    Options::default().start()
}

#[test]
fn a_new_job_is_queued_and_says_what_was_sent() {
    let node = node();
    let payload = json!({
        "kind": "shell", "command": "bash", "args": ["-lc", "echo hi"], "cwd": "/tmp",
        "env": {"A": "1", "b": ""}, "timeoutMs": 5000,
    });
    let body = json!({"payload": payload, "requirement": {"requiredCapabilities": ["b ", "a"]}, "submittedBy": "me"});
    let job = node.wire().post("/v1/jobs", &body).ok()["job"].take();
    shape::JOB.assert(&job);
    assert!(shape::is_id(&id(&job), "job_"), "{job}");
    assert_eq!(job["payload"], payload);
    assert_eq!(job["requirement"], json!({"requiredCapabilities": ["a", "b"]}));
    assert_eq!((&job["status"], &job["attempts"]), (&json!("queued"), &json!(0)));
    assert_eq!((&job["submittedBy"], &job["updatedBy"]), (&json!("me"), &json!("node-a")));
    assert_eq!(job["createdAt"], job["updatedAt"]);
    for absent in ["leaseExpiresAt", "assignedHostId", "result", "error"] {
        assert!(job.get(absent).is_none(), "{absent} in {job}");
    }
}

#[test]
fn an_openclaw_job_keeps_its_own_fields() {
    let node = node();
    let payload = json!({"kind": "openclaw-run", "args": [], "openclawDir": "/srv/oc", "timeoutMs": 1});
    let job = node.wire().post("/v1/jobs", &json!({"payload": payload})).ok()["job"].take();
    assert_eq!(job["payload"], payload);
    let bare = json!({"kind": "openclaw-run"});
    let job = node.wire().post("/v1/jobs", &json!({"payload": bare})).ok()["job"].take();
    assert_eq!(job["payload"], bare);
}

#[test]
fn a_payload_is_required() {
    let node = node();
    for body in [json!({}), json!({"payload": null}), json!({"payload": {}}), json!({"submittedBy": "me"})] {
        node.wire().post("/v1/jobs", &body).refused(400, "payload is required");
    }
}

#[test]
fn a_claim_leases_the_job_to_the_host() {
    let node = Options::default().env("SKYCLAW_LEASE_MS", "60000").start();
    let wire = node.wire();
    let host = wire.host("h1", &["shell"], 1);
    let queued = wire.enqueue();
    let leased = wire.claim(&host);
    shape::JOB.assert(&leased);
    assert_eq!(leased["id"], queued["id"]);
    assert_eq!((&leased["status"], &leased["attempts"]), (&json!("leased"), &json!(1)));
    assert_eq!(leased["assignedHostId"], "h1");
    assert!(leased["leaseExpiresAt"].as_str() > leased["updatedAt"].as_str());
    assert!(leased["version"].as_u64() > queued["version"].as_u64());
    assert_eq!(wire.host_record("h1")["activeLeases"], 1);
}

#[test]
fn a_claim_that_finds_nothing_says_null() {
    let node = node();
    node.wire().host("h1", &[], 1);
    assert_eq!(node.wire().post("/v1/hosts/h1/claim", &json!({})).ok(), json!({"job": null}));
}

#[test]
fn the_oldest_job_that_fits_is_claimed_first() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &["a", "b"], 10);
    let needs = |caps: &[&str]| json!({"requirement": {"requiredCapabilities": caps}});
    let _foreign = wire.enqueue_with(&needs(&["gpu"]));
    let first = wire.enqueue_with(&needs(&["b"]));
    let second = wire.enqueue_with(&needs(&[]));
    let third = wire.enqueue_with(&needs(&["a", "b"]));
    for want in [first, second, third] {
        assert_eq!(wire.claim("h1")["id"], want["id"]);
    }
    assert!(wire.claim("h1").is_null());
}

#[test]
fn a_host_that_holds_as_many_as_it_may_gets_none() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 2);
    let jobs: Vec<_> = (0..3).map(|_| id(&wire.enqueue())).collect();
    assert!(wire.claim("h1").is_object());
    assert!(wire.claim("h1").is_object());
    assert!(wire.claim("h1").is_null());
    wire.completion(&jobs[0], "h1").ok();
    assert_eq!(wire.claim("h1")["id"], json!(jobs[2]));
}

#[test]
fn a_completion_ends_the_job_and_frees_the_host() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    let job = id(&wire.enqueue());
    wire.claim("h1");
    let done = wire.completion(&job, "h1").ok()["job"].take();
    shape::JOB.assert(&done);
    assert_eq!(done["status"], "completed");
    assert!(done.get("leaseExpiresAt").is_none() && done.get("error").is_none(), "{done}");
    let result = without(&done["result"], "finishedAt");
    assert_eq!(result, json!({"durationMs": 7, "exitCode": 0, "stdout": "out", "stderr": ""}));
    assert!(done["result"]["finishedAt"].is_string());
    assert_eq!(wire.host_record("h1")["activeLeases"], 0);
    assert_eq!(wire.job(&job), done);
}

#[test]
fn a_run_that_went_wrong_is_failed_and_keeps_its_error() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    let job = id(&wire.enqueue());
    wire.claim("h1");
    let body = with(&success_of("h1"), &json!({"success": false, "exitCode": 3, "error": "it broke"}));
    let done = wire.post(&format!("/v1/jobs/{job}/complete"), &body).ok()["job"].take();
    assert_eq!((&done["status"], &done["error"]), (&json!("failed"), &json!("it broke")));
    assert_eq!(done["result"]["exitCode"], 3);
}

#[test]
fn a_completion_by_who_does_not_hold_the_job_is_refused() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    wire.host("h2", &[], 1);
    let job = id(&wire.enqueue());
    wire.completion("job_none", "h1").refused(404, "unknown job: job_none");
    wire.completion(&job, "h9").refused(404, "unknown host: h9");
    wire.completion(&job, "h1").refused(409, &format!("job {job} is assigned to nobody"));
    wire.claim("h1");
    wire.completion(&job, "h2").refused(409, &format!("job {job} is assigned to h1"));
    wire.completion(&job, "h1").ok();
    wire.completion(&job, "h1").refused(409, &format!("job {job} is not leased"));
}

#[test]
fn each_field_of_a_completion_is_required() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    let job = id(&wire.enqueue());
    wire.claim("h1");
    for field in ["hostId", "success", "durationMs", "exitCode", "stdout", "stderr"] {
        let body = without(&success_of("h1"), field);
        wire.post(&format!("/v1/jobs/{job}/complete"), &body).refused(400, &format!("{field} is required"));
    }
    assert_eq!(wire.job(&job)["status"], "leased");
}

#[test]
fn a_fence_grows_with_each_claim_and_a_stale_one_is_refused() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 2);
    let (first, second) = (id(&wire.enqueue()), id(&wire.enqueue()));
    let fence = |job: &skyclaw_tests::Value| job["fence"].as_u64().expect("a fence");
    let (one, two) = (fence(&wire.claim("h1")), fence(&wire.claim("h1")));
    assert!(two > one);
    let complete = |job: &str, fence: u64| {
        let body = with(&success_of("h1"), &json!({"fence": fence}));
        wire.post(&format!("/v1/jobs/{job}/complete"), &body).send()
    };
    let stale = complete(&second, one);
    assert_eq!((stale.status, &stale.json()["code"]), (409, &json!("stale_fence")));
    complete(&second, two).ok();
    complete(&first, one).ok();
}

#[test]
fn a_queued_job_that_is_cancelled_is_never_claimed() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    let job = id(&wire.enqueue());
    let cancelled = wire.call("POST", &format!("/v1/jobs/{job}/cancel")).ok()["job"].take();
    shape::JOB.assert(&cancelled);
    assert_eq!(cancelled["status"], "cancelled");
    assert!(wire.claim("h1").is_null());
    wire.call("POST", "/v1/jobs/job_none/cancel").refused(404, "unknown job: job_none");
}

#[test]
fn a_leased_job_that_is_cancelled_waits_for_its_host_to_confirm() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    let job = id(&wire.enqueue());
    wire.claim("h1");
    let asked = wire.call("POST", &format!("/v1/jobs/{job}/cancel")).ok()["job"].take();
    assert_eq!(asked["status"], "leased");
    assert!(asked["cancelRequestedAt"].is_string());
    let body = with(&success_of("h1"), &json!({"success": false, "exitCode": 143, "error": "cancelled"}));
    let done = wire.post(&format!("/v1/jobs/{job}/complete"), &body).ok()["job"].take();
    assert_eq!(done["status"], "cancelled");
    assert_eq!(wire.host_record("h1")["activeLeases"], 0);
}

#[test]
fn a_job_that_has_ended_cannot_be_cancelled() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    let job = id(&wire.enqueue());
    wire.claim("h1");
    wire.completion(&job, "h1").ok();
    let reply = wire.call("POST", &format!("/v1/jobs/{job}/cancel")).send();
    assert_eq!((reply.status, &reply.json()["code"]), (409, &json!("job_finished")));
    assert_eq!(wire.job(&job)["status"], "completed");
}

#[test]
fn a_job_with_a_higher_priority_is_claimed_first() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 3);
    let usual = wire.enqueue();
    let low = wire.enqueue_with(&json!({"priority": 0}));
    let high = wire.enqueue_with(&json!({"priority": 100}));
    for want in [high, usual, low] {
        assert_eq!(wire.claim("h1")["id"], want["id"]);
    }
}

#[test]
fn text_of_any_alphabet_and_control_characters_come_back_as_sent() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    let job = id(&wire.enqueue());
    wire.claim("h1");
    let text = "naïve \u{1F980} 日本\u{0} \u{1b}[31m \u{FFFD} \" \\ \r\n";
    let body = with(&success_of("h1"), &json!({"stdout": text}));
    let done = wire.post(&format!("/v1/jobs/{job}/complete"), &body).ok();
    assert_eq!(done["job"]["result"]["stdout"], text);
    assert_eq!(wire.job(&job)["result"]["stdout"], text);
}

#[test]
fn the_state_shows_everything_oldest_first() {
    let node = node();
    let wire = node.wire();
    assert_eq!(
        wire.get("/v1/state").ok(),
        json!({"nodeId": "node-a", "hosts": [], "jobs": [], "services": []})
    );
    wire.host("h1", &[], 1);
    let jobs: Vec<_> = (0..3).map(|_| wire.enqueue()["id"].clone()).collect();
    wire.post("/v1/services", &json!({"name": "api", "command": "node"})).ok();
    wire.claim("h1");
    wire.completion(jobs[0].as_str().expect("an id"), "h1").ok();
    let state = wire.get("/v1/state").ok();
    let ids = state["jobs"].as_array().expect("jobs").iter().map(|job| job["id"].clone());
    assert_eq!(ids.collect::<Vec<_>>(), jobs);
    for job in state["jobs"].as_array().expect("jobs") {
        shape::JOB.assert(job);
    }
    shape::HOST.assert(&state["hosts"][0]);
    shape::SERVICE.assert(&state["services"][0]);
}

#[test]
fn everything_is_there_after_a_restart_and_after_a_crash() {
    let mut node = node();
    let wire = node.wire();
    wire.host("h1", &["x"], 2);
    let (done, leased, queued) = (id(&wire.enqueue()), id(&wire.enqueue()), id(&wire.enqueue()));
    wire.claim("h1");
    wire.claim("h1");
    wire.completion(&done, "h1").ok();
    wire.post("/v1/services", &json!({"name": "api", "command": "node"})).ok();
    let seen = |node: &Coordinator| {
        let state = node.wire().get("/v1/state").ok();
        // When a host was last seen is known to the running daemon alone.
        let hosts = state["hosts"].as_array().expect("hosts").iter().map(|host| without(host, "lastSeenAt"));
        (hosts.collect::<Vec<_>>(), state["jobs"].clone(), state["services"].clone())
    };
    let before = seen(&node);
    node.kill9();
    node.restart();
    assert_eq!(seen(&node), before);
    node.terminate();
    node.restart();
    assert_eq!(seen(&node), before);
    let wire = node.wire();
    wire.completion(&leased, "h1").ok();
    assert_eq!(wire.claim("h1")["id"], json!(queued));
    let fresh = wire.post("/v1/jobs", &shell_job(&json!({}))).ok();
    assert!(fresh["job"]["version"].as_u64() > before.1[0]["version"].as_u64());
}
