//! Who belongs to a cluster, and who does not.

use skyclaw_tests::cluster::{find, members, view};
use skyclaw_tests::mesh::{id, shell_job};
use skyclaw_tests::{Cluster, LONG, Wire, json, wait_until};

use super::state;

#[test]
fn a_node_that_comes_back_with_an_empty_disk_joins_as_another_member_and_catches_up() {
    let mut cluster = Cluster::start(3);
    for lost in [cluster.follower(), cluster.leader()] {
        let name = format!("node-{lost}");
        let number = |wire: &Wire| Some(find(&view(wire)?, &name)?["raftId"].clone());
        let before = number(&cluster.wire(lost)).expect("a member");
        cluster.wire(lost).enqueue();
        cluster.kill9(lost);
        cluster.wipe(lost);
        let survivor = cluster.wire(cluster.leader());
        wait_until("a write while it is gone", LONG, || {
            let reply = survivor.post("/v1/jobs", &shell_job(&json!({})));
            (reply.try_send().ok()?.status == 200).then_some(())
        });
        cluster.restart(lost);
        wait_until("it is another member", LONG, || {
            let is_new = |wire: &Wire| number(wire).is_some_and(|now| now != before);
            cluster.wires().iter().all(is_new).then_some(())
        });
        cluster.wait_whole();
        wait_until("it has caught up", LONG, || {
            let [own, all] = [lost, cluster.leader()].map(|node| state(&cluster.wire(node)));
            (own.is_some() && own == all).then_some(())
        });
    }
    // All three hold the log again: any of them can go.
    let gone = cluster.leader();
    cluster.kill9(gone);
    let job = id(&cluster.wire(cluster.leader()).enqueue());
    for node in (0..3).filter(|node| *node != gone) {
        cluster.wire(node).get(&format!("/v1/jobs/{job}?consistent=true")).ok();
    }
}

#[test]
fn a_node_with_another_token_never_joins_and_the_cluster_goes_on() {
    let cluster = Cluster::start(3);
    let other_token = "another-token-of-a-stranger";
    let stranger = cluster
        .newcomer("node-stranger")
        .env("SKYCLAW_TOKEN", other_token)
        .env("SKYCLAW_LOG", "info,skyclaw_replication=debug")
        .start();
    // Five rounds of greetings in vain.
    wait_until("every member has turned it away", LONG, || {
        (stranger.log().matches("no greeting").count() >= 5 * 3).then_some(())
    });
    let own = view(&stranger.wire().with_token(other_token)).expect("its view");
    assert!(own.get("clusterId").is_none(), "{own}");
    assert_eq!(stranger.wire().get("/readyz").send().status, 503);
    assert_untouched(&cluster);
}

#[test]
fn a_node_of_another_cluster_is_refused_and_told_what_to_do() {
    let cluster = Cluster::start(3);
    let mut other = Cluster::start(2);
    let job = other.wire(0).enqueue();
    let own = view(&other.wire(0)).expect("its view");
    let path = format!("/v1/jobs/{}?consistent=true", id(&job));
    other.wire(0).get(&path).ok();
    other.terminate(0);
    other.terminate(1);
    let urls = cluster.urls().join(",");
    other.restart_with(0, |options| options.env("SKYCLAW_PEER_URLS", urls));
    wait_until("it is told what to do", LONG, || {
        other.log(0).contains("two clusters never merge").then_some(())
    });
    let now = view(&other.wire(0)).expect("its view");
    assert_eq!(now["clusterId"], own["clusterId"], "it stays what it was");
    assert_eq!(other.wire(0).job(&id(&job)), job, "what it has is its own");
    assert_untouched(&cluster);
}

#[test]
fn a_cluster_of_one_that_is_pointed_at_another_cluster_stays_apart() {
    let cluster = Cluster::start(3);
    let alone = cluster.newcomer("node-alone").without("SKYCLAW_PEER_URLS");
    let mut alone = alone.env("SKYCLAW_MIN_REPLICATIONS", "1").start();
    let job = wait_until("it has a cluster of its own", LONG, || {
        let reply = alone.wire().post("/v1/jobs", &shell_job(&json!({}))).send();
        (reply.status == 200).then(|| reply.ok()["job"].take())
    });
    let own = view(&alone.wire()).expect("its view");
    let urls = cluster.urls().join(",");
    alone.restart_with(|options| options.env("SKYCLAW_PEER_URLS", urls));
    wait_until("every member has refused it", LONG, || {
        let refused = |node| cluster.log(node).contains("the sender belongs to another cluster");
        (0..3).all(refused).then_some(())
    });
    let now = view(&alone.wire()).expect("its view");
    assert_eq!(now["clusterId"], own["clusterId"], "it stays what it was");
    assert_eq!(alone.wire().job(&id(&job)), job, "what it has is its own");
    assert_untouched(&cluster);
}

/// The cluster has its three members and takes writes at each of them.
fn assert_untouched(cluster: &Cluster) {
    for wire in cluster.wires() {
        let view = view(&wire).expect("a view");
        assert_eq!(members(&view).count(), 3, "{view}");
        wire.enqueue();
    }
    let all = state(&cluster.wire(0)).expect("a state");
    assert_eq!(all["jobs"].as_array().map(Vec::len), Some(3));
}
