//! What happened to a job. (Ours.)

use skyclaw_tests::mesh::{id, success_of, with};
use skyclaw_tests::{Coordinator, Options, Value, Wire, json};

fn node() -> Coordinator {
    Options::default().start()
}

fn events(wire: &Wire, job: &str) -> Vec<Value> {
    wire.get(&format!("/v1/jobs/{job}/events")).ok()["events"].as_array().cloned().expect("events")
}

fn kinds(wire: &Wire, job: &str) -> Vec<String> {
    events(wire, job).iter().map(|event| event["kind"].as_str().expect("a kind").to_owned()).collect()
}

fn running(wire: &Wire) -> (String, Value) {
    wire.host("h1", &[], 4);
    let job = id(&wire.enqueue());
    let fence = wire.claim("h1")["fence"].clone();
    (job, fence)
}

fn told(fence: &Value, kind: &str) -> Value {
    let event = json!({"at": "2026-01-01T00:00:00.000Z", "kind": kind, "detail": "pid 7"});
    json!({"hostId": "h1", "fence": fence, "events": [event]})
}

#[test]
fn a_job_s_way_is_told_from_its_claim_to_its_end_with_what_its_host_tells() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 4);
    let queued = id(&wire.enqueue());
    let begun = json!({"at": wire.job(&queued)["createdAt"], "kind": "submitted"});
    assert_eq!(events(&wire, &queued), [begun]);
    let fence = wire.claim("h1")["fence"].clone();
    let path = format!("/v1/jobs/{queued}/events");
    let reply = wire.post(&path, &told(&fence, "started")).ok();
    assert_eq!(reply["job"]["id"], json!(queued));
    let more = json!({"fence": fence, "events": [{"at": "2026-01-01T00:00:01.000Z", "kind": "exit"}],
                      "usage": {"cpuMs": 12, "peakMemoryBytes": 4096}, "oom": true});
    let done = wire.post(&format!("/v1/jobs/{queued}/complete"), &with(&success_of("h1"), &more)).ok();
    assert_eq!(done["job"]["result"]["usage"], json!({"cpuMs": 12, "peakMemoryBytes": 4096}));
    assert_eq!(done["job"]["result"]["oom"], json!(true));
    assert_eq!(kinds(&wire, &queued), ["submitted", "claimed", "started", "exit", "completed"]);
    let claimed = &events(&wire, &queued)[1];
    assert_eq!((&claimed["hostId"], &claimed["detail"]), (&json!("h1"), &json!("attempt 1")));
    assert_eq!(claimed["fence"], fence);
    let started = &events(&wire, &queued)[2];
    assert_eq!((&started["at"], &started["detail"]), (&json!("2026-01-01T00:00:00.000Z"), &json!("pid 7")));
}

#[test]
fn events_are_taken_only_under_the_newest_lease_and_from_who_holds_it() {
    let node = node();
    let wire = node.wire();
    let (job, fence) = running(&wire);
    wire.host("h2", &[], 1);
    let path = format!("/v1/jobs/{job}/events");
    let old = wire.post(&path, &told(&json!(0), "started")).send();
    assert_eq!((old.status, &old.json()["code"]), (409, &json!("stale_fence")));
    let other = with(&told(&fence, "started"), &json!({"hostId": "h2"}));
    wire.post(&path, &other).refused(409, &format!("job {job} is assigned to h1"));
    wire.post("/v1/jobs/job_none/events", &told(&fence, "a")).refused(404, "unknown job: job_none");
    let nobody = with(&told(&fence, "started"), &json!({"hostId": "h9"}));
    wire.post(&path, &nobody).refused(404, "unknown host: h9");
    wire.get("/v1/jobs/job_none/events").refused(404, "unknown job: job_none");
    wire.completion(&job, "h1").ok();
    wire.post(&path, &told(&fence, "late")).refused(409, &format!("job {job} is not leased"));
}

#[test]
fn of_too_many_events_the_first_and_the_newest_are_kept_with_a_mark_between() {
    let mut node = node();
    let (job, fence) = running(&node.wire());
    let path = format!("/v1/jobs/{job}/events");
    for round in 0..4 {
        let many: Vec<Value> = (0..64)
            .map(|n| json!({"at": "2026-01-01T00:00:00.000Z", "kind": format!("e{}", round * 64 + n)}))
            .collect();
        node.wire().post(&path, &json!({"hostId": "h1", "fence": fence, "events": many})).ok();
    }
    let check = |wire: &Wire| {
        let kinds = kinds(wire, &job);
        assert!(kinds.len() <= 66, "{}", kinds.len());
        assert_eq!(&kinds[..3], ["submitted", "claimed", "e0"]);
        assert_eq!(kinds[9], "dropped");
        assert_eq!(kinds.last().map(String::as_str), Some("e255"));
    };
    check(&node.wire());
    node.kill9();
    node.restart();
    check(&node.wire());
}
