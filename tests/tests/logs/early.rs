//! Asked for early: before the node that is asked knows of the job, and before its run has begun.

use skyclaw_tests::ctl::skyctl;
use skyclaw_tests::{Cluster, Host, Options, json};

use super::{Gates, logs, runs, submit};

#[test]
fn the_output_of_a_job_that_another_node_took_in_a_moment_ago_can_be_read_at_once() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let (wire, others) = (cluster.wire(leader), (0..3).filter(|node| *node != leader));
    let others: Vec<_> = others.map(|node| cluster.wire(node)).collect();
    // Nobody runs them. That the others do not know them yet is a matter of moments, so it is tried often.
    for _ in 0..25 {
        let job = submit(&wire, "true");
        for other in &others {
            let reply = other.get(&logs(&job, "")).send();
            assert_eq!((reply.status, reply.text.as_str()), (200, ""));
        }
    }
    others[0].get(&logs("nothing", "")).refused(404, "unknown job: nothing");
}

#[test]
fn the_command_line_follows_at_one_node_what_was_submitted_at_another() {
    let cluster = Cluster::start(3);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let urls = cluster.urls();
    let _host = Host::start(&urls[leader], "h1", &[("SKYCLAW_MAX_PARALLEL", "4")]);
    for n in 0..5 {
        let job = submit(&cluster.wire(leader), &format!("echo out {n}"));
        let followed = skyctl(&urls[follower], &["job", "logs", "-f", &job]).ok();
        assert_eq!(followed, format!("out {n}\n"));
    }
}

#[test]
fn a_run_that_has_not_begun_on_its_host_has_written_nothing() {
    let node = Options::default().env("SKYCLAW_LEASE_MS", "600000").start();
    let (wire, gates) = (node.wire(), Gates::new());
    let _host = Host::start(&node.url(), "h1", &[("SKYCLAW_MAX_PARALLEL", "1")]);
    let gate = gates.wait_at("gate");
    let first = submit(&wire, &gate);
    runs(&wire, &first);
    // The host is as full as it believes it may be, so it does not ask. In its name somebody else does.
    let more = json!({"hostId": "h1", "name": "h1", "capabilities": ["shell"], "maxParallel": 2});
    wire.post("/v1/hosts/register", &more).ok();
    let second = submit(&wire, "true");
    let claimed = wire.post("/v1/hosts/h1/claim", &json!({})).ok();
    assert_eq!(claimed["job"]["id"], json!(second));
    let reply = wire.get(&logs(&second, "")).send();
    assert_eq!((reply.status, reply.text.as_str()), (200, ""), "{}", reply.text);
    let piece = wire.get(&logs(&second, "format=json")).ok();
    assert_eq!(
        (&piece["status"], &piece["data"], &piece["live"]),
        (&json!("leased"), &json!(""), &json!(true))
    );
    gates.open("gate");
}
