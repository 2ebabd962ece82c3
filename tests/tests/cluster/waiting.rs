//! Jobs that wait for their time do so whoever leads.

use std::collections::BTreeSet;

use skyclaw_tests::mesh::{id, success_of, with};
use skyclaw_tests::{Cluster, LONG, Value, Wire, json, wait_until};

/// Asks every node that stays until one answers well.
fn asked(nodes: &[Wire], ask: impl Fn(&Wire) -> skyclaw_tests::wire::Call) -> Value {
    wait_until("a coordinator answers", LONG, || {
        nodes.iter().find_map(|wire| {
            let reply = ask(wire).try_send().ok()?;
            (reply.status == 200).then(|| reply.json())
        })
    })
}

#[test]
fn what_waits_for_its_time_is_seen_to_by_the_next_leader() {
    let mut cluster = Cluster::start_with(3, |options| options.env("SKYCLAW_LEASE_MS", "60000"));
    let wire = cluster.wire(0);
    wire.host("h1", &[], 40);
    let failing = id(&wire.enqueue_with(&json!({"retry": {"maxAttempts": 2, "backoffMs": 4000}})));
    assert_eq!(wire.claim("h1")["id"], json!(failing));
    let time = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(4);
    let later = id(&wire.enqueue_with(&json!({"notBefore": format!("{time:.3}")})));
    let nobodys = json!({"ttlMs": 4000, "requirement": {"requiredCapabilities": ["nobody"]}});
    let expiring = id(&wire.enqueue_with(&nobodys));
    let failed = with(&success_of("h1"), &json!({"success": false, "exitCode": 1}));
    let failed = wire.post(&format!("/v1/jobs/{failing}/complete"), &failed).ok();
    assert_eq!(failed["job"]["status"], "queued");
    let leader = cluster.leader();
    cluster.kill9(leader);

    let stay: Vec<Wire> = (0..3).filter(|node| *node != leader).map(|node| cluster.wire(node)).collect();
    // Under a key: an answer that is lost is given again.
    let (mut claimed, mut asks) = (BTreeSet::new(), 0);
    wait_until("both are claimed", LONG, || {
        asks += 1;
        let claim = json!({"max": 9, "waitMs": 9000});
        let answer =
            asked(&stay, |wire| wire.post("/v1/hosts/h1/claim", &claim).key(&format!("claim-{asks}")));
        claimed.extend(answer["jobs"].as_array().into_iter().flatten().map(id));
        (claimed.len() == 2).then_some(())
    });
    assert_eq!(claimed, BTreeSet::from([failing, later]));
    wait_until("the job has expired", LONG, || {
        let job = asked(&stay, |wire| wire.get(&format!("/v1/jobs/{expiring}?consistent=true")));
        (job["job"]["status"] == "expired").then_some(())
    });
}
