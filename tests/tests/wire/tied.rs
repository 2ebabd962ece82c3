//! Jobs that depend on others, share a limit, or are unique, and why one does not run. (Ours.)

use skyclaw_tests::mesh::{id, shell_job};
use skyclaw_tests::{Coordinator, Options, Value, Wire, json, shape};

const KEYS: &str = "key-ann:ann:shell:shell,key-bob:bob:shell:shell";

fn node() -> Coordinator {
    Options::default().env("SKYCLAW_LEASE_MS", "60000").env("SKYCLAW_PUBLIC_API_KEYS", KEYS).start()
}

fn after(wire: &Wire, on: &[&str]) -> String {
    id(&wire.enqueue_with(&json!({"dependsOn": on})))
}

fn submit(node: &Coordinator, key: &str, extra: &Value) -> skyclaw_tests::Reply {
    let wire = node.wire().without_token();
    wire.post("/v1/public/jobs", &shell_job(extra)).header("x-api-key", key).send()
}

fn codes(wire: &Wire, job: &str) -> Vec<String> {
    let told = wire.get(&format!("/v1/jobs/{job}/explain")).ok();
    shape::assert_conventions(&told);
    assert_eq!(told["jobId"], job);
    let reasons = told["reasons"].as_array().cloned().unwrap_or_default();
    assert!(reasons.iter().all(|reason| reason["message"].as_str().is_some_and(|text| !text.is_empty())));
    reasons.iter().map(|reason| reason["code"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn what_ties_a_job_to_others_is_kept_and_shown() {
    let node = node();
    let wire = node.wire();
    let first = id(&wire.enqueue());
    let ties = json!({
        "dependsOn": [first], "onDependencyFailure": "skip", "concurrencyKey": "db", "concurrencyLimit": 2,
        "uniqueKey": "nightly",
    });
    let job = wire.enqueue_with(&ties);
    shape::JOB.assert(&job);
    for (name, value) in ties.as_object().expect("an object") {
        assert_eq!(&job[name], value, "{name}");
    }
    assert_eq!(job["waitsFor"], json!([first]));
    assert_eq!(wire.job(&id(&job)), job);
    let plain = wire.enqueue_with(&json!({"dependsOn": []}));
    for name in ties.as_object().expect("an object").keys().map(String::as_str).chain(["waitsFor"]) {
        assert!(plain.get(name).is_none(), "{name}: what is not said is not there: {plain}");
    }
}

#[test]
fn a_job_waits_for_those_it_depends_on_also_across_a_restart() {
    let mut node = node();
    let wire = node.wire();
    wire.host("h1", &[], 9);
    let (a, b) = (id(&wire.enqueue()), id(&wire.enqueue()));
    let c = after(&wire, &[&a, &b]);
    assert_eq!((wire.claim("h1")["id"].as_str(), wire.claim("h1")["id"].as_str()), (Some(&*a), Some(&*b)));
    assert!(wire.claim("h1").is_null());
    assert_eq!(codes(&wire, &c), ["dependencies"]);
    wire.completion(&a, "h1").ok();
    node.kill9();
    node.restart();
    let wire = node.wire();
    assert_eq!(wire.job(&c)["waitsFor"], json!([b]));
    assert!(wire.claim("h1").is_null());
    wire.completion(&b, "h1").ok();
    let claimed = wire.claim("h1");
    assert_eq!(claimed["id"], json!(c));
    assert!(claimed.get("waitsFor").is_none(), "{claimed}");
}

#[test]
fn a_claim_that_waits_is_woken_when_the_last_dependency_is_completed() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 9);
    wire.host("h2", &[], 9);
    let a = id(&wire.enqueue());
    let b = after(&wire, &[&a]);
    assert_eq!(wire.claim("h1")["id"], json!(a));
    let claimed = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let body = json!({"waitMs": 30_000});
            wire.post("/v1/hosts/h2/claim", &body).ok()["job"].take()
        });
        wire.completion(&a, "h1").ok();
        waiting.join().expect("an answer")
    });
    assert_eq!(claimed["id"], json!(b));
}

#[test]
fn a_job_nobody_knows_cannot_be_depended_on() {
    let node = node();
    let refused = node.wire().post("/v1/jobs", &shell_job(&json!({"dependsOn": ["job_x"]}))).send();
    refused.refused(
        409,
        "dependsOn names job job_x, which is not known here: submit it first, and the jobs that depend on it after it",
    );
    assert_eq!(refused.json()["code"], "unknown_dependency");
    let many: Vec<String> = (0..65).map(|n| format!("j{n}")).collect();
    let refused = node.wire().post("/v1/jobs", &shell_job(&json!({"dependsOn": many}))).send();
    refused.refused(400, "dependsOn must have at most 64 entries");
}

#[test]
fn what_fails_fails_or_skips_those_who_depend_on_it() {
    let node = node();
    let wire = node.wire();
    let a = id(&wire.enqueue());
    let b = after(&wire, &[&a]);
    let c = id(&wire.enqueue_with(&json!({"dependsOn": [b], "onDependencyFailure": "skip"})));
    wire.post(&format!("/v1/jobs/{a}/cancel"), &json!({})).ok();
    let (b, c) = (wire.job(&b), wire.job(&c));
    assert_eq!((&b["status"], &c["status"]), (&json!("failed"), &json!("cancelled")));
    assert_eq!(b["error"], json!(format!("job {a}, which it depends on, was cancelled")));
    let late = wire.enqueue_with(&json!({"dependsOn": [a]}));
    assert_eq!(late["status"], "failed", "as if it had come before");
    assert!(codes(&wire, &id(&late)).is_empty());
}

#[test]
fn more_dependents_than_one_command_tells_are_all_told() {
    let node = node();
    let wire = node.wire();
    let a = id(&wire.enqueue());
    let all: Vec<String> = (0..300).map(|_| after(&wire, &[&a])).collect();
    wire.post(&format!("/v1/jobs/{a}/cancel"), &json!({})).ok();
    skyclaw_tests::wait_until("all have failed", skyclaw_tests::LONG, || {
        all.iter().all(|job| wire.job(job)["status"] == "failed").then_some(())
    });
}

#[test]
fn only_so_many_with_a_concurrency_key_are_claimed_at_once() {
    let mut node = node();
    let wire = node.wire();
    wire.host("h1", &[], 9);
    let shared = json!({"concurrencyKey": "db", "concurrencyLimit": 2});
    let all: Vec<String> = (0..4).map(|_| id(&wire.enqueue_with(&shared))).collect();
    let claimed = wire.post("/v1/hosts/h1/claim", &json!({"max": 9})).ok()["jobs"].take();
    let ids: Vec<_> = claimed.as_array().expect("jobs").iter().map(id).collect();
    assert_eq!(ids, all[..2]);
    assert_eq!(codes(&wire, &all[2]), ["concurrency"]);
    node.kill9();
    node.restart();
    let wire = node.wire();
    assert!(wire.claim("h1").is_null(), "what ran before a restart runs after it");
    wire.completion(&all[1], "h1").ok();
    assert_eq!(wire.claim("h1")["id"], json!(all[2]));
    assert!(wire.claim("h1").is_null());
}

#[test]
fn a_unique_key_answers_with_the_job_that_has_it() {
    let mut node = node();
    let wire = node.wire();
    let unique = shell_job(&json!({"uniqueKey": "nightly"}));
    let first = wire.post("/v1/jobs", &unique).ok();
    assert!(first.get("existing").is_none(), "{first}");
    let second = wire.post("/v1/jobs", &unique).key("k").ok();
    assert_eq!(second, json!({"job": first["job"], "existing": true}));
    node.kill9();
    node.restart();
    let wire = node.wire();
    assert_eq!(wire.post("/v1/jobs", &unique).ok()["existing"], true);
    wire.post(&format!("/v1/jobs/{}/cancel", id(&first["job"])), &json!({})).ok();
    assert_eq!(wire.post("/v1/jobs", &unique).key("k").ok(), second, "the same request has the same answer");
    let third = wire.post("/v1/jobs", &unique).ok();
    assert_ne!(third["job"]["id"], first["job"]["id"]);
}

#[test]
fn the_keys_and_jobs_of_others_do_not_exist_for_a_public_caller() {
    let node = node();
    let unique = json!({"uniqueKey": "nightly"});
    let core = id(&node.wire().enqueue_with(&unique));
    let ann = submit(&node, "key-ann", &unique).ok();
    let bob = submit(&node, "key-bob", &unique).ok();
    assert!(ann.get("existing").is_none() && bob.get("existing").is_none());
    let again = submit(&node, "key-ann", &unique).ok();
    assert_eq!((&again["existing"], &again["job"]), (&json!(true), &ann["job"]));
    assert!(again["job"].get("submittedBy").is_none());
    for other in [&core, &id(&bob["job"])] {
        let refused = submit(&node, "key-ann", &json!({"dependsOn": [other]}));
        assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("unknown_dependency")));
    }
    submit(&node, "key-ann", &json!({"dependsOn": [id(&ann["job"])]})).ok();
}

#[test]
fn an_explanation_says_what_keeps_a_job_from_running() {
    let node = node();
    let wire = node.wire();
    wire.get("/v1/jobs/job_x/explain").refused(404, "unknown job: job_x");
    let job = id(&wire.enqueue_with(&json!({"requirement": {"requiredCapabilities": ["gpu"]}})));
    assert_eq!(codes(&wire, &job), ["no_host"]);
    wire.host("h1", &[], 1);
    let told = wire.get(&format!("/v1/jobs/{job}/explain")).ok();
    assert_eq!(told["reasons"][0]["code"], "no_capable_host");
    assert_eq!(told["reasons"][0]["missing"], json!(["the capability \"gpu\""]));
    wire.host("h2", &["gpu"], 1);
    assert_eq!(codes(&wire, &job), ["claimable"]);
    let first = id(&wire.enqueue_with(&json!({"priority": 90})));
    assert_eq!(codes(&wire, &job), ["queue"]);
    assert_eq!(wire.claim("h2")["id"], json!(first));
    assert_eq!(codes(&wire, &job), ["hosts_full"]);
    wire.completion(&first, "h2").ok();
    wire.post("/v1/hosts/h2/drain", &json!({})).ok();
    assert_eq!(codes(&wire, &job), ["hosts_draining"]);
    wire.post("/v1/hosts/h2/undrain", &json!({})).ok();
    wire.post("/v1/freezes", &json!({})).ok();
    assert_eq!(codes(&wire, &job), ["frozen"]);
}
