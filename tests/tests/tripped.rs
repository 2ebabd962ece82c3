//! Hosts that an operator freezes on their machine, as the cluster sees it.

use std::fs;

use skyclaw_tests::ctl::skyctl;
use skyclaw_tests::mesh::id;
use skyclaw_tests::{Coordinator, Host, LONG, Options, Value, json, wait_until};

#[track_caller]
fn state(node: &Coordinator, host: &str, wanted: &str) -> Value {
    wait_until(&format!("{host} is {wanted}"), LONG, || {
        let told = node.wire().get(&format!("/v1/hosts/{host}")).ok()["host"].take();
        (told["state"] == wanted).then_some(told)
    })
}

#[track_caller]
fn status(node: &Coordinator, job: &str, wanted: &str) -> Value {
    wait_until(&format!("{job} is {wanted}"), LONG, || {
        Some(node.wire().job(job)).filter(|job| job["status"] == wanted)
    })
}

#[test]
fn a_host_frozen_on_its_machine_is_shown_so_and_given_nothing_whatever_the_cluster_thaws() {
    let node = Options::default().env("SKYCLAW_LEASE_MS", "60000").start();
    let mut host = Host::start(&node.url(), "h1", &[("SKYCLAW_MAX_PARALLEL", "4")]);
    let noted = |name: &str| node.data().join(name);
    let run = |on_lost: &str| {
        let text = format!("echo run >> {}; sleep 1000", noted(on_lost).display());
        let payload = json!({"kind": "shell", "command": "sh", "args": ["-c", text]});
        id(&node.wire().enqueue_with(&json!({"payload": payload, "onLost": on_lost})))
    };
    let jobs = ["retry", "hold", "fail"].map(run);
    for name in ["retry", "hold", "fail"] {
        wait_until(name, LONG, || noted(name).exists().then_some(()));
    }
    let told = host.operate(&["freeze", "--reason", "keys leaked"]);
    assert!(told.contains("nothing runs"), "{told}");
    for (job, wanted) in jobs.iter().zip(["queued", "lost", "failed"]) {
        status(&node, job, wanted);
    }
    let events = node.wire().get(&format!("/v1/jobs/{}/events", jobs[1])).ok()["events"].to_string();
    assert!(events.contains("its host is frozen"), "{events}");

    let shown = state(&node, "h1", "frozen");
    assert_eq!(
        (&shown["stateReason"], &shown["frozen"]["reason"]),
        (&json!("keys leaked"), &json!("keys leaked"))
    );
    assert!(shown["frozen"]["by"].is_string() && shown["events"][0]["kind"] == "frozen", "{shown}");
    assert!(skyctl(&node.url(), &["host", "list"]).ok().contains("frozen"));
    let details = skyctl(&node.url(), &["host", "get", "h1"]).ok();
    assert!(details.contains("skyclaw-hostd thaw") && details.contains("keys leaked"), "{details}");
    assert!(
        details.contains("process.noNewPrivileges") && details.contains("process.controlGroups"),
        "{details}"
    );

    // Neither a thaw of the cluster nor a restart of the daemon is a thaw of the host.
    let _frozen = skyctl(&node.url(), &["freeze"]).ok();
    let _thawed = skyctl(&node.url(), &["thaw", "--all"]).ok();
    host.restart();
    let runs = |name: &str| fs::read_to_string(noted(name)).unwrap_or_default().lines().count();
    let seen = state(&node, "h1", "frozen")["lastSeenAt"].clone();
    wait_until("it is heard of again and again", LONG, || {
        (state(&node, "h1", "frozen")["lastSeenAt"] != seen).then_some(())
    });
    assert_eq!((runs("retry"), status(&node, &jobs[0], "queued")["attempts"].clone()), (1, json!(1)));

    // Another host is given what waits.
    let other = Host::start(&node.url(), "h2", &[]);
    wait_until("it runs elsewhere", LONG, || (runs("retry") == 2).then_some(()));
    assert_eq!(node.wire().job(&jobs[0])["assignedHostId"], "h2");
    node.wire().post(&format!("/v1/jobs/{}/cancel", jobs[0]), &json!({})).ok();
    status(&node, &jobs[0], "cancelled");
    drop(other);

    let after = id(&node.wire().enqueue_with(&json!({"payload": {"kind": "shell", "command": "true"}})));
    host.operate(&["thaw"]);
    let done = status(&node, &after, "completed");
    assert_eq!(done["assignedHostId"], "h1");
    let told = state(&node, "h1", "up");
    let kinds: Vec<_> = told["events"].as_array().into_iter().flatten().map(|event| &event["kind"]).collect();
    assert_eq!(kinds, ["frozen", "thawed"]);
    assert!(told["frozen"].is_null() && told["events"][1]["by"].is_string(), "{told}");
}
