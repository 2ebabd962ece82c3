//! Hosts that are drained, removed, and heard of no more. (Ours.)

use std::time::{Duration, Instant};

use skyclaw_tests::mesh::{id, success_of, with};
use skyclaw_tests::{Coordinator, LONG, Options, Value, Wire, json, shape, wait_until};

const AT_ONCE: Duration = Duration::from_secs(15);

fn node() -> Coordinator {
    Options::default().env("SKYCLAW_LEASE_MS", "60000").start()
}

fn ask(wire: &Wire, what: &str, body: &Value) -> Value {
    wire.post(&format!("/v1/hosts/h1/{what}"), body).ok()["host"].take()
}

fn beat(wire: &Wire, job: &Value, wait_ms: u64) -> Value {
    let running = json!([{"jobId": job["id"], "fence": job["fence"]}]);
    wire.post("/v1/hosts/h1/heartbeat", &json!({"running": running, "waitMs": wait_ms})).ok()
}

#[test]
fn a_drained_host_is_given_no_more_until_it_is_undrained() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 9);
    let up = wire.get("/v1/hosts/h1").ok()["host"].take();
    shape::HOST.assert(&up);
    assert_eq!((&up["state"], &up["stateSince"]), (&json!("up"), &up["registeredAt"]));
    wire.enqueue();
    let running = wire.claim("h1");
    let drained = ask(&wire, "drain", &json!({"reason": "new disk", "by": "ann"}));
    shape::HOST.assert(&drained);
    assert_eq!((&drained["state"], &drained["stateReason"]), (&json!("draining"), &json!("new disk")));
    assert_eq!(drained["drain"]["by"], "ann");
    wire.enqueue();
    assert!(wire.claim("h1").is_null());
    wire.host("h1", &[], 9);
    assert!(wire.claim("h1").is_null(), "registering anew does not undo it");
    assert!(beat(&wire, &running, 0).get("stop").is_none(), "what runs may end by itself");
    assert_eq!(wire.completion(&id(&running), "h1").ok()["job"]["status"], "completed");
    assert_eq!(wire.get("/v1/hosts").ok()["hosts"][0]["state"], "draining");
    let up = ask(&wire, "undrain", &json!({}));
    assert_eq!(up["state"], "up");
    assert!(up.get("drain").is_none(), "{up}");
    assert!(wire.claim("h1").is_object());
}

#[test]
fn at_the_deadline_what_still_runs_is_told_to_stop_and_goes_its_way() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 9);
    wire.host("h2", &[], 9);
    wire.enqueue();
    let job = wire.claim("h1");
    let drained = ask(&wire, "drain", &json!({"deadlineMs": 1000}));
    assert!(drained["drain"]["deadlineAt"].as_str() > drained["drain"]["since"].as_str());
    let start = Instant::now();
    let told = beat(&wire, &job, 30_000);
    assert!(start.elapsed() < AT_ONCE, "it slept through");
    assert_eq!(told["stop"], json!([{"jobId": job["id"], "reason": "draining"}]));
    let stopped = json!({"success": false, "fence": job["fence"], "stopped": "draining"});
    let path = format!("/v1/jobs/{}/complete", id(&job));
    assert_eq!(wire.post(&path, &with(&success_of("h1"), &stopped)).ok()["job"]["status"], "queued");
    assert_eq!(wire.claim("h2")["id"], job["id"]);
}

#[test]
fn services_leave_a_drained_host_at_once() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &["service-host"], 1);
    let service = id(&wire.post("/v1/services", &json!({"name": "api", "command": "node"})).ok()["service"]);
    let claim = |host: &str| {
        wire.post(&format!("/v1/hosts/{host}/services/claim"), &json!({"running": []})).ok()["service"]
            .clone()
    };
    assert_eq!(claim("h1")["id"], json!(service));
    ask(&wire, "drain", &json!({}));
    let told = wire.post("/v1/hosts/h1/heartbeat", &json!({})).ok();
    assert_eq!(told["stopServices"], json!([{"serviceId": service, "reason": "draining"}]));
    let report = json!({"hostId": "h1", "status": "failed"});
    wire.post(&format!("/v1/services/{service}/report"), &report).ok();
    assert!(claim("h1").is_null());
    wire.host("h2", &["service-host"], 1);
    assert_eq!(claim("h2")["id"], json!(service));
}

#[test]
fn a_host_is_forgotten_when_it_is_drained_or_by_force() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 9);
    let refused = wire.post("/v1/hosts/h1/remove", &json!({})).send();
    refused.refused(409, "host h1 is up: drain it and wait, or stop it, or remove it by force");
    assert_eq!(refused.json()["code"], "host_busy");
    ask(&wire, "drain", &json!({}));
    assert_eq!(ask(&wire, "remove", &json!({}))["id"], "h1");
    assert_eq!(wire.get("/v1/hosts").ok()["hosts"], json!([]));
    wire.post("/v1/hosts/h1/heartbeat", &json!({})).refused(404, "unknown host: h1");
    for what in ["drain", "undrain", "remove"] {
        wire.post(&format!("/v1/hosts/h1/{what}"), &json!({})).refused(404, "unknown host: h1");
    }
    wire.host("h2", &[], 1);
    wire.enqueue();
    let job = wire.claim("h2");
    wire.post("/v1/hosts/h2/remove", &json!({"force": true})).ok();
    assert_eq!(wire.job(&id(&job))["status"], "leased", "it may be running: its lease runs out by itself");
    wire.completion(&id(&job), "h2").refused(404, "unknown host: h2");
    wire.host("h2", &[], 1);
    wire.completion(&id(&job), "h2").ok();
}

#[test]
fn a_removed_host_stays_forgotten_after_a_crash() {
    let mut node = node();
    node.wire().host("h1", &[], 1);
    node.wire().host("h2", &[], 1);
    node.wire().post("/v1/hosts/h1/remove", &json!({"force": true})).ok();
    node.kill9();
    node.restart();
    let hosts = node.wire().get("/v1/hosts").ok();
    assert_eq!(hosts["hosts"].as_array().map(Vec::len), Some(1));
    assert_eq!(hosts["hosts"][0]["id"], "h2");
}

#[test]
fn a_host_that_is_not_heard_of_is_down_and_up_again_when_it_is() {
    let node = Options::default().env("SKYCLAW_LEASE_MS", "300").start();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    let state = || wire.get("/v1/hosts/h1").ok()["host"].take();
    let down = wait_until("it is down", LONG, || Some(state()).filter(|host| host["state"] == "down"));
    assert_eq!(down["stateReason"], "it has not been heard of since");
    assert!(down["stateSince"].is_string());
    wire.post("/v1/hosts/h1/heartbeat", &json!({})).ok();
    wait_until("it is up again", LONG, || (state()["state"] == "up").then_some(()));
    wire.post("/v1/hosts/h1/remove", &json!({}))
        .refused(409, "host h1 is up: drain it and wait, or stop it, or remove it by force");
}
