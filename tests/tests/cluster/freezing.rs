//! What is frozen stays so when the leader dies, and the next one tells hosts unasked.

use skyclaw_tests::mesh::{id, success_of, with};
use skyclaw_tests::{Cluster, LONG, Value, Wire, json, wait_until};

/// Asks every node that stays until one answers well.
fn asked(cluster: &Cluster, but: usize, ask: impl Fn(&Wire) -> skyclaw_tests::wire::Call) -> Value {
    let nodes: Vec<Wire> =
        (0..cluster.size()).filter(|node| *node != but).map(|node| cluster.wire(node)).collect();
    wait_until("a coordinator answers", LONG, || {
        nodes.iter().find_map(|wire| {
            let reply = ask(wire).try_send().ok()?;
            (reply.status == 200).then(|| reply.json())
        })
    })
}

#[test]
fn a_freeze_holds_though_the_leader_dies_between_it_and_the_thaw() {
    let mut cluster = Cluster::start_with(3, |options| options.env("SKYCLAW_LEASE_MS", "60000"));
    let wire = cluster.wire(0);
    wire.host("h1", &[], 40);
    (0..20).for_each(|_| drop(wire.enqueue()));
    let jobs = wire.post("/v1/hosts/h1/claim", &json!({"max": 20})).ok()["jobs"].take();
    let jobs = jobs.as_array().cloned().expect("jobs");
    assert_eq!(jobs.len(), 20);
    let leader = cluster.leader();
    let freeze =
        cluster.wire(leader).post("/v1/freezes", &json!({"reason": "odd trades"})).ok()["freeze"].take();
    cluster.kill9(leader);

    // Nobody tells the new leader anything but what its host's heartbeats ask.
    let running: Vec<Value> = jobs.iter().map(|j| json!({"jobId": j["id"], "fence": j["fence"]})).collect();
    let told = asked(&cluster, leader, |wire| {
        wire.post("/v1/hosts/h1/heartbeat", &json!({"running": running, "waitMs": 30_000}))
    });
    let stops = told["stop"].as_array().cloned().unwrap_or_default();
    assert_eq!(stops.len(), 20, "{told}");
    assert!(stops.iter().all(|stop| stop["reason"] == "frozen"), "{told}");
    for job in &jobs {
        let body = json!({"success": false, "fence": job["fence"], "stopped": "frozen"});
        let path = format!("/v1/jobs/{}/complete", id(job));
        let done =
            asked(&cluster, leader, |wire| wire.post(&path, &with(&success_of("h1"), &body)).key(&id(job)));
        assert_eq!(done["job"]["status"], "queued");
    }
    let claim = |but: usize, cluster: &Cluster| {
        asked(cluster, but, |wire| wire.post("/v1/hosts/h1/claim", &json!({"max": 40})))["jobs"].take()
    };
    assert_eq!(claim(leader, &cluster), json!([]), "nothing is claimed before the thaw");

    // The next one dies between the thaw's acknowledgement and the claim.
    cluster.restart(leader);
    cluster.wait_whole();
    let second = cluster.leader();
    let path = format!("/v1/freezes/{}/thaw", id(&freeze));
    asked(&cluster, usize::MAX, |wire| wire.post(&path, &json!({})).key("thaw"));
    cluster.kill9(second);
    let claimed = claim(second, &cluster);
    assert_eq!(claimed.as_array().map(Vec::len), Some(20), "all of it goes on");
}
