//! The replication target: a write that cannot reach it is refused and leaves nothing.

use skyclaw_tests::mesh::{shell_job, success_of};
use skyclaw_tests::{Options, json};

#[test]
fn a_node_alone_with_a_target_of_two_refuses_every_write_and_writes_nothing() {
    let node = Options::default().env("SKYCLAW_MIN_REPLICATIONS", "2").start();
    let wire = node.wire();
    let writes = [
        ("/v1/hosts/register", json!({"name": "a"})),
        ("/v1/jobs", shell_job(&json!({}))),
        ("/v1/services", json!({"name": "a", "command": "b"})),
        ("/v1/replicate/snapshot", json!({"nodeId": "x", "hosts": [], "jobs": [], "services": []})),
    ];
    for (path, body) in writes {
        let reply = wire.post(path, &body).key("k").send();
        reply.refused(503, "insufficient peers: requires at least 1 known peers, got 0");
        assert_eq!(reply.json()["code"], "insufficient_peers", "{path}");
    }
    let empty = json!({"nodeId": "node-a", "hosts": [], "jobs": [], "services": []});
    assert_eq!(wire.get("/v1/state").ok(), empty, "reads go on");
}

#[test]
fn what_was_refused_for_want_of_peers_does_not_come_back() {
    let mut node = Options::default().start();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    let job = skyclaw_tests::mesh::id(&wire.enqueue());
    wire.claim("h1");
    node.restart_with(|options| options.env("SKYCLAW_MIN_REPLICATIONS", "3"));
    let wire = node.wire();
    let sentence = "insufficient peers: requires at least 2 known peers, got 0";
    wire.post(&format!("/v1/jobs/{job}/complete"), &success_of("h1")).key("k").refused(503, sentence);
    wire.post("/v1/jobs", &shell_job(&json!({}))).key("k").refused(503, sentence);
    node.restart_with(|options| options.env("SKYCLAW_MIN_REPLICATIONS", "1"));
    let wire = node.wire();
    assert_eq!(wire.job(&job)["status"], "leased");
    wire.post(&format!("/v1/jobs/{job}/complete"), &success_of("h1")).key("k").ok();
    assert_eq!(wire.get("/v1/state").ok()["jobs"].as_array().map(Vec::len), Some(1));
}
