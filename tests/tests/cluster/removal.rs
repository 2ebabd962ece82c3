//! A member is taken out, the leader included, and knows it.

use skyclaw_tests::cluster::{find, members, view};
use skyclaw_tests::ctl::{skyctl, skyctl_with};
use skyclaw_tests::mesh::shell_job;
use skyclaw_tests::{Cluster, LONG, TOKEN, Value, json, wait_until};

#[test]
fn skyctl_removes_the_leader_and_its_hosts_are_sent_elsewhere() {
    let cluster = Cluster::start(3);
    let gone = cluster.leader();
    let (name, wires, urls) = (format!("node-{gone}"), cluster.wires(), cluster.urls());
    let out = &wires[gone];
    out.post("/v1/hosts/register", &json!({"hostId": "h", "name": "h"})).ok();
    let printed = skyctl(&urls[gone], &["cluster", "remove", &name]).ok();
    assert!(printed.contains(&name), "{printed}");

    let ready = out.get("/readyz").send();
    assert_eq!(ready.status, 503);
    assert!(ready.error().contains("was removed from the cluster"), "{}", ready.error());
    let claim = out.post("/v1/hosts/h/claim", &json!({"waitMs": 30_000})).send();
    assert_eq!((claim.status, claim.json()["code"].clone()), (503, json!("not_ready")));
    let heartbeat = out.post("/v1/hosts/h/heartbeat", &json!({})).send();
    assert_eq!(heartbeat.status, 503);

    for (node, wire) in wires.iter().enumerate().filter(|(node, _)| *node != gone) {
        wait_until("a cluster of two that takes writes", LONG, || {
            let view = view(wire)?;
            let is_two = members(&view).count() == 2 && find(&view, &name).is_none();
            let reply = wire.post("/v1/jobs", &shell_job(&json!({}))).try_send().ok()?;
            (is_two && reply.status == 200).then_some(())
        });
        assert_eq!(wire.get("/readyz").send().status, 200, "node {node}");
    }
    // What it knows is old: whoever asks it is sent elsewhere, and a client with several finds another.
    for path in ["/v1/cluster", "/v1/jobs", "/v1/state"] {
        let read = out.get(path).send();
        assert_eq!((read.status, read.json()["code"].clone()), (503, json!("not_ready")), "{path}");
    }
    let all = [urls[gone].as_str(), urls[(gone + 1) % 3].as_str()].join(",");
    let several = [("SKYCLAW_COORDINATOR_URLS", all.as_str()), ("SKYCLAW_TOKEN", TOKEN)];
    let printed = skyctl_with(&several, &["cluster", "members"]).ok();
    assert!(!printed.contains(&name), "{printed}");
}

#[test]
fn a_cluster_forms_without_a_warning_of_its_founder() {
    let cluster = Cluster::start(3);
    for node in 0..3 {
        let log = cluster.log(node);
        let warned: Vec<&str> =
            log.lines().filter(|line| line.contains("no coordinator of the cluster")).collect();
        assert!(warned.is_empty(), "{warned:?}");
    }
}

#[test]
fn skyctl_shows_how_the_members_do_whichever_coordinator_is_asked() {
    let cluster = Cluster::start(3);
    let leader = format!("node-{}", cluster.leader());
    for url in cluster.urls() {
        let found = wait_until("all vote and are healthy", LONG, || {
            let ran = skyctl(&url, &["cluster", "autopilot", "-o", "json"]);
            let found: Value = serde_json::from_str(&ran.stdout).ok()?;
            (ran.code == 0 && found["voters"] == 3).then_some(found)
        });
        assert_eq!(found["nodeId"], leader.as_str());
        assert_eq!(found["failureTolerance"], 1, "{found}");
    }
    let table = skyctl(&cluster.urls()[0], &["cluster", "autopilot"]).ok();
    assert!(table.contains("failure tolerance") && table.contains("node-2"), "{table}");
}

#[test]
fn every_member_says_how_long_ago_it_heard_of_the_others() {
    let cluster = Cluster::start(3);
    for (node, wire) in cluster.wires().iter().enumerate() {
        wait_until("it has heard of both others lately", LONG, || {
            let view = view(wire)?;
            let own = format!("node-{node}");
            let heard = |member: &&Value| member["silentMs"].as_u64().is_some_and(|ms| ms < 5000);
            let others = members(&view).filter(|member| member["nodeId"] != own.as_str());
            (others.filter(heard).count() == 2).then_some(())
        });
    }
}
