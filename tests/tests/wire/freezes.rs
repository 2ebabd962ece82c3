//! The switch that stops everything. (Ours.)

use std::time::{Duration, Instant};

use skyclaw_tests::mesh::{id, success_of, with};
use skyclaw_tests::{Coordinator, Options, Value, Wire, json};

/// Far more than anything takes that does not wait, far less than the wait that is asked for.
const AT_ONCE: Duration = Duration::from_secs(15);

fn node() -> Coordinator {
    Options::default().env("SKYCLAW_LEASE_MS", "60000").start()
}

fn freeze(wire: &Wire, body: &Value) -> Value {
    wire.post("/v1/freezes", body).ok()["freeze"].take()
}

fn thaw(wire: &Wire, freeze: &Value) -> Value {
    wire.post(&format!("/v1/freezes/{}/thaw", id(freeze)), &json!({"by": "bob"})).ok()["freeze"].take()
}

fn beat(wire: &Wire, jobs: &[&Value], wait_ms: u64) -> Value {
    let running: Vec<Value> = jobs.iter().map(|j| json!({"jobId": j["id"], "fence": j["fence"]})).collect();
    wire.post("/v1/hosts/h1/heartbeat", &json!({"running": running, "waitMs": wait_ms})).ok()
}

/// The completion of a run that its host stopped for this.
fn stopped(job: &Value, why: &str) -> Value {
    with(&success_of("h1"), &json!({"success": false, "fence": job["fence"], "stopped": why}))
}

#[test]
fn nothing_is_claimed_while_everything_is_frozen_also_after_a_crash() {
    let mut node = node();
    let wire = node.wire();
    wire.host("h1", &[], 4);
    let frozen = freeze(&wire, &json!({"reason": "odd trades", "by": "ann"}));
    assert_eq!(frozen["scope"], json!({}));
    assert_eq!((&frozen["reason"], &frozen["by"]), (&json!("odd trades"), &json!("ann")));
    let job = wire.enqueue();
    assert!(wire.claim("h1").is_null());
    assert_eq!(freeze(&wire, &json!({"reason": "again"})), frozen, "it is the same freeze");
    node.kill9();
    node.restart();
    let wire = node.wire();
    assert!(wire.claim("h1").is_null());
    assert_eq!(wire.get("/v1/freezes").ok()["freezes"], json!([frozen]));
    let thawed = thaw(&wire, &frozen);
    assert_eq!(thawed["thawedBy"], "bob");
    assert_eq!(thaw(&wire, &frozen), thawed, "thawing twice is the same as once");
    assert_eq!(wire.get("/v1/freezes").ok()["freezes"], json!([]));
    assert_eq!(wire.get("/v1/freezes?all=true").ok()["freezes"], json!([thawed]));
    assert_eq!(wire.claim("h1")["id"], job["id"]);
    wire.post("/v1/freezes/freeze_none/thaw", &json!({})).refused(404, "unknown freeze: freeze_none");
}

#[test]
fn a_freeze_covers_what_has_its_labels_and_belongs_to_its_agent() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 9);
    let job = |extra: Value| id(&wire.enqueue_with(&extra));
    let both = job(json!({"labels": {"team": "a"}, "agentId": "bot"}));
    let team = job(json!({"labels": {"team": "a"}}));
    let agent = job(json!({"agentId": "bot"}));
    let claimed = || {
        let jobs = wire.post("/v1/hosts/h1/claim", &json!({"max": 9})).ok()["jobs"].take();
        jobs.as_array().expect("jobs").iter().map(id).collect::<Vec<_>>()
    };
    let narrow = freeze(&wire, &json!({"labels": {"team": "a"}, "agentId": "bot"}));
    let of_agent = freeze(&wire, &json!({"agentId": "bot"}));
    assert_eq!(claimed(), [team]);
    thaw(&wire, &of_agent);
    assert_eq!(claimed(), [agent]);
    thaw(&wire, &narrow);
    assert_eq!(claimed(), [both]);
}

#[test]
fn a_heartbeat_that_waits_is_woken_by_a_freeze_and_told_until_the_host_confirms() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 4);
    wire.enqueue_with(&json!({"agentId": "bot"}));
    wire.enqueue();
    let (bots, others) = (wire.claim("h1"), wire.claim("h1"));
    let start = Instant::now();
    let (told, frozen) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| beat(&node.wire(), &[&bots, &others], 30_000));
        let frozen = freeze(&wire, &json!({"agentId": "bot"}));
        (waiting.join().expect("the answer"), frozen)
    });
    assert!(start.elapsed() < AT_ONCE, "it slept through");
    assert_eq!(told["stop"], json!([{"jobId": bots["id"], "reason": "frozen"}]));
    assert_eq!(beat(&wire, &[&bots, &others], 0)["stop"], told["stop"], "told again until it is done");
    let path = format!("/v1/jobs/{}/complete", id(&bots));
    assert_eq!(wire.post(&path, &stopped(&bots, "frozen")).ok()["job"]["status"], "queued");
    assert!(beat(&wire, &[&others], 0).get("stop").is_none());
    assert!(wire.claim("h1").is_null(), "it waits for the thaw");
    thaw(&wire, &frozen);
    assert_eq!(wire.claim("h1")["id"], bots["id"]);
    let events = wire.get(&format!("/v1/jobs/{}/events", id(&bots))).ok();
    let kinds: Vec<_> = events["events"].as_array().expect("events").iter().map(|e| &e["kind"]).collect();
    assert_eq!(kinds, ["submitted", "claimed", "frozen", "stopped", "requeued", "claimed"]);
}

#[test]
fn a_run_that_was_frozen_goes_the_way_of_a_lost_one_and_one_that_was_done_is_done() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 9);
    let claim = |on_lost: &str| {
        wire.enqueue_with(&json!({"onLost": on_lost}));
        wire.claim("h1")
    };
    let (held, failing, done) = (claim("hold"), claim("fail"), claim("retry"));
    freeze(&wire, &json!({}));
    let complete = |job: &Value, body: &Value| {
        wire.post(&format!("/v1/jobs/{}/complete", id(job)), body).ok()["job"].take()
    };
    let lost = complete(&held, &stopped(&held, "frozen"));
    assert_eq!((&lost["status"], &lost["error"]), (&json!("lost"), &json!("its host h1 stopped it: frozen")));
    let failed = complete(&failing, &stopped(&failing, "frozen"));
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["result"]["stdout"], "out", "what it wrote is kept");
    assert_eq!(complete(&done, &success_of("h1"))["status"], "completed");
}

/// Its answer may have been lost with a connection or a leader, and what is frozen runs on meanwhile.
#[test]
fn a_host_that_asks_again_and_waits_is_told_again_and_not_only_when_its_wait_is_over() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 4);
    wire.enqueue();
    let job = wire.claim("h1");
    freeze(&wire, &json!({}));
    let told = beat(&wire, &[&job], 30_000);
    assert_eq!(told["stop"], json!([{"jobId": job["id"], "reason": "frozen"}]));
    let start = Instant::now();
    assert_eq!(beat(&wire, &[&job], 30_000)["stop"], told["stop"]);
    assert!(start.elapsed() < AT_ONCE, "it waited to the end");
}

#[test]
fn services_are_stopped_too_and_start_again_after_the_thaw() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &["service-host"], 1);
    let body = json!({"name": "api", "command": "node", "labels": {"team": "a"}});
    let service = id(&wire.post("/v1/services", &body).ok()["service"]);
    let claim = || wire.post("/v1/hosts/h1/services/claim", &json!({"running": []})).ok()["service"].clone();
    assert_eq!(claim()["id"], json!(service));
    let report = |status: &str| {
        let body = json!({"hostId": "h1", "status": status});
        wire.post(&format!("/v1/services/{service}/report"), &body).ok()
    };
    report("running");
    let start = Instant::now();
    let (told, frozen) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| beat(&node.wire(), &[], 30_000));
        let frozen = freeze(&wire, &json!({"labels": {"team": "a"}}));
        (waiting.join().expect("the answer"), frozen)
    });
    assert!(start.elapsed() < AT_ONCE, "it slept through");
    assert_eq!(told["stopServices"], json!([{"serviceId": service, "reason": "frozen"}]));
    assert!(claim().is_null(), "not even to who has it");
    report("failed");
    assert!(beat(&wire, &[], 0).get("stopServices").is_none());
    thaw(&wire, &frozen);
    assert_eq!(claim()["id"], json!(service), "without a pause");
}
