//! Three nodes are one: a client need not care which of them it asks.

use std::time::{Duration, Instant};

use skyclaw_tests::mesh::{id, shell_job, with};
use skyclaw_tests::{Cluster, json};

#[test]
fn a_write_at_one_node_is_read_at_the_others() {
    let cluster = Cluster::start(3);
    let wires = cluster.wires();
    for (at, writer) in wires.iter().enumerate() {
        let written = writer.post("/v1/jobs", &shell_job(&json!({"submittedBy": at.to_string()}))).send();
        let index = written.header("x-skyclaw-index").expect("an index").to_owned();
        let job = written.ok()["job"].take();
        let path = format!("/v1/jobs/{}", id(&job));
        for reader in &wires {
            let read = reader.get(&path).header("x-skyclaw-min-index", &index).ok();
            assert_eq!(read["job"], job, "by index, written at {at}");
        }
    }
    for (at, writer) in wires.iter().enumerate() {
        let job = writer.enqueue();
        for reader in &wires {
            let read = reader.get(&format!("/v1/jobs/{}?consistent=true", id(&job))).ok();
            assert_eq!(read["job"], job, "consistently, written at {at}");
        }
    }
}

#[test]
fn a_key_used_at_one_node_gives_the_same_job_at_another() {
    let cluster = Cluster::start(3);
    let body = shell_job(&json!({"submittedBy": "a"}));
    let [first, second, third] =
        [0, 1, 2].map(|node| cluster.wire(node).post("/v1/jobs", &body).key("k").ok());
    assert_eq!((&first, &first), (&second, &third));
    let other = with(&body, &json!({"submittedBy": "b"}));
    for wire in cluster.wires() {
        let reused = wire.post("/v1/jobs", &other).key("k").send();
        reused.refused(409, "idempotency key reuse conflict for route /v1/jobs");
    }
    let state = cluster.wire(1).get("/v1/state?consistent=true").ok();
    assert_eq!(state["jobs"], json!([first["job"]]));
}

#[test]
fn a_claim_that_waits_at_one_node_is_woken_by_an_enqueue_at_another() {
    /// Far less than the wait that is asked for.
    const AT_ONCE: Duration = Duration::from_secs(15);
    let cluster = Cluster::start(3);
    let waits_at = cluster.follower();
    let waiting = cluster.wire(waits_at);
    waiting.host("h", &["a"], 10);
    for enqueues_at in (0..3).filter(|node| *node != waits_at) {
        std::thread::scope(|scope| {
            let start = Instant::now();
            let claim = scope
                .spawn(|| waiting.post("/v1/hosts/h/claim", &json!({"waitMs": 30_000})).ok()["job"].take());
            let writer = cluster.wire(enqueues_at);
            // One that the host cannot take goes ahead, so that the claim has had time to begin to wait.
            writer.enqueue_with(&json!({"requirement": {"requiredCapabilities": ["b"]}}));
            let job = writer.enqueue_with(&json!({"requirement": {"requiredCapabilities": ["a"]}}));
            let claimed = claim.join().expect("a claim");
            assert_eq!((id(&claimed), &claimed["assignedHostId"]), (id(&job), &json!("h")));
            assert!(start.elapsed() < AT_ONCE, "it slept through");
        });
    }
}
