//! What a cluster shows of itself.

use std::collections::BTreeMap;

use skyclaw_tests::{Cluster, LONG, Wire, wait_until};

/// The samples of a coordinator, by name and labels.
fn samples(wire: &Wire) -> BTreeMap<String, f64> {
    let reply = wire.get("/metrics").send();
    assert_eq!(reply.status, 200);
    assert!(
        reply.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text"))
    );
    let text = reply.text;
    assert!(text.ends_with("# EOF\n"), "{text}");
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

#[test]
fn each_coordinator_shows_its_role_its_lag_and_what_it_wrote() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    for wire in cluster.wires() {
        wire.enqueue();
    }
    for (node, wire) in cluster.wires().iter().enumerate() {
        wire.get("/v1/jobs?consistent=true").ok();
        let samples = samples(wire);
        let value = |name: &str| *samples.get(name).unwrap_or_else(|| panic!("{name} is not in {samples:?}"));
        let leads = if node == leader { 1.0 } else { 0.0 };
        assert_eq!(value("skyclaw_raft_role{role=\"leader\"}"), leads, "node {node}");
        assert_eq!(value("skyclaw_ready"), 1.0);
        assert!(value("skyclaw_raft_term") >= 1.0 && value("skyclaw_raft_applied_index") >= 3.0);
        assert!(value("skyclaw_raft_commit_index") >= value("skyclaw_raft_applied_index"));
        assert!(value("skyclaw_log_fsync_seconds_count") >= 3.0);
        assert!(value("skyclaw_raft_apply_seconds_count") >= 3.0);
        assert!(value("skyclaw_raft_leader_changes_total") >= 1.0);
        assert!(
            value("skyclaw_log_size_bytes") > 0.0 && value("skyclaw_store_size_bytes{file=\"main\"}") > 0.0
        );
        let jobs = "skyclaw_http_requests_total{route=\"/v1/jobs\",method=\"POST\",status=\"200\"}";
        assert_eq!(value(jobs), 1.0, "node {node}");
        let lags = samples.keys().filter(|name| name.starts_with("skyclaw_raft_member_lag_entries{")).count();
        assert_eq!(lags > 0, node == leader, "the leader alone knows who is behind");
        if node == leader {
            assert!(value("skyclaw_raft_batch_commands_count") >= 3.0);
            assert!(value("skyclaw_raft_elections_won_total") >= 1.0);
        }
    }
    wait_until("gossip has seen both others at each", LONG, || {
        let both = |wire: &Wire| samples(wire).get("skyclaw_gossip_peers{state=\"alive\"}") == Some(&2.0);
        cluster.wires().iter().all(both).then_some(())
    });
}
