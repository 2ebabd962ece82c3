//! Two clusters never merge, and whose mistake it is gets told.

use skyclaw_tests::cluster::view;
use skyclaw_tests::mesh::shell_job;
use skyclaw_tests::{Cluster, LONG, json, wait_until};

#[test]
fn a_cluster_of_one_that_is_pointed_at_another_takes_no_writes_and_says_what_to_do() {
    let cluster = Cluster::start(3);
    let theirs = view(&cluster.wire(0)).expect("a view")["clusterId"].as_str().expect("an id").to_owned();
    let alone = cluster.newcomer("node-alone").without("SKYCLAW_PEER_URLS");
    let mut alone = alone.env("SKYCLAW_MIN_REPLICATIONS", "1").start();
    alone.wire().post("/v1/jobs", &shell_job(&json!({}))).ok();
    let own = view(&alone.wire()).expect("its view")["clusterId"].as_str().expect("an id").to_owned();

    let urls = cluster.urls().join(",");
    alone.restart_with(|options| options.env("SKYCLAW_PEER_URLS", urls));
    // Not even the first write may slip through.
    let first = alone.wire().post("/v1/jobs", &shell_job(&json!({}))).send();
    assert_eq!((first.status, first.json()["code"].clone()), (503, json!("not_ready")), "{}", first.error());
    let ready = alone.wire().get("/readyz").send();
    assert_eq!(ready.status, 503);
    let parts = [own.as_str(), &theirs, "two clusters never merge", "SKYCLAW_PEER_URLS"];
    for part in parts {
        assert!(ready.error().contains(part), "{part} is not in {}", ready.error());
    }
    // What stands in the log is written beside the answer, and read beside this test.
    wait_until("the log says so", LONG, || {
        let log = alone.log();
        log.lines()
            .any(|line| line.contains("ERROR") && parts.iter().all(|part| line.contains(part)))
            .then_some(())
    });
    assert_eq!(alone.wire().get("/v1/jobs").ok()["jobs"].as_array().map(Vec::len), Some(1), "it can be read");

    // Pointed at nobody again, it is what it was.
    alone.restart_with(|options| options.without("SKYCLAW_PEER_URLS"));
    wait_until("it serves again", LONG, || {
        let reply = alone.wire().post("/v1/jobs", &shell_job(&json!({}))).try_send().ok()?;
        (reply.status == 200).then_some(())
    });
}
