//! Hosts: registration, heartbeats, what a host record says.

use skyclaw_tests::{Coordinator, Options, json, shape};

fn node() -> Coordinator {
    Options::default().start()
}

#[test]
fn a_host_that_names_no_id_gets_one() {
    let node = node();
    let body = node.wire().post("/v1/hosts/register", &json!({"name": "alpha"})).ok();
    let host = &body["host"];
    shape::HOST.assert(host);
    assert!(shape::is_id(host["id"].as_str().expect("an id"), "host_"), "{host}");
    assert_eq!(host["name"], "alpha");
    assert_eq!(host["capabilities"], json!([]));
    assert_eq!((&host["maxParallel"], &host["activeLeases"]), (&json!(1), &json!(0)));
    assert_eq!(host["updatedBy"], "node-a");
    assert_eq!(host["lastSeenAt"], host["registeredAt"]);
}

#[test]
fn a_name_is_required_and_an_id_must_look_like_one() {
    let node = node();
    let wire = node.wire();
    for body in [json!({}), json!({"name": ""}), json!({"name": "  "}), json!({"hostId": "h1"})] {
        wire.post("/v1/hosts/register", &body).refused(400, "name is required");
    }
    for bad in ["a b", "a/b", "ü", &"x".repeat(129)] {
        let reply = wire.post("/v1/hosts/register", &json!({"name": "a", "hostId": bad})).send();
        assert_eq!(reply.status, 400, "{bad}");
        assert!(reply.error().contains("hostId"), "{}", reply.error());
    }
}

#[test]
fn an_id_is_taken_as_it_is_but_trimmed() {
    let node = node();
    for (given, kept) in [("  h:1.a_b-C ", "h:1.a_b-C"), (&"x".repeat(128), &"x".repeat(128))] {
        let body = node.wire().post("/v1/hosts/register", &json!({"name": "a", "hostId": given})).ok();
        assert_eq!(body["host"]["id"], kept);
    }
}

#[test]
fn capabilities_are_trimmed_deduplicated_and_sorted() {
    let node = node();
    let body = json!({"name": "a", "capabilities": [" shell", "gpu", "", "shell ", "   ", "gpu"]});
    let host = node.wire().post("/v1/hosts/register", &body).ok();
    assert_eq!(host["host"]["capabilities"], json!(["gpu", "shell"]));
}

#[test]
fn registering_again_keeps_the_first_time_and_the_leases() {
    let node = node();
    let wire = node.wire();
    let first = wire
        .post("/v1/hosts/register", &json!({"hostId": "h1", "name": "old", "capabilities": ["a"]}))
        .ok()["host"]
        .clone();
    wire.enqueue();
    assert!(wire.claim("h1").is_object());
    let again = wire
        .post("/v1/hosts/register", &json!({"hostId": "h1", "name": "new", "maxParallel": 4}))
        .ok()["host"]
        .clone();
    assert_eq!(again["registeredAt"], first["registeredAt"]);
    assert_eq!(again["activeLeases"], 1);
    assert_eq!((&again["name"], &again["maxParallel"]), (&json!("new"), &json!(4)));
    assert_eq!(again["capabilities"], json!([]));
    assert!(again["version"].as_u64() > first["version"].as_u64());
}

#[test]
fn a_heartbeat_answers_with_the_host_and_shows_it_was_seen() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &["shell"], 2);
    let body = wire.post("/v1/hosts/h1/heartbeat", &json!({"activeLeases": 0})).ok();
    shape::HOST.assert(&body["host"]);
    assert_eq!(body["host"]["id"], "h1");
    assert!(body["host"]["lastSeenAt"].as_str() >= body["host"]["registeredAt"].as_str());
}

#[test]
fn heartbeats_write_nothing() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    let index = |reply: skyclaw_tests::Reply| reply.header("x-skyclaw-index").map(str::to_owned);
    let before = index(wire.get("/v1/hosts").send());
    for _ in 0..20 {
        wire.post("/v1/hosts/h1/heartbeat", &json!({"activeLeases": 0})).ok();
    }
    assert_eq!(index(wire.get("/v1/hosts").send()), before);
}

#[test]
fn what_an_unknown_host_asks_for_is_404() {
    let node = node();
    for path in ["heartbeat", "claim", "services/claim"] {
        let call = node.wire().post(&format!("/v1/hosts/host_nobody/{path}"), &json!({}));
        call.refused(404, "unknown host: host_nobody");
    }
}

#[test]
fn hosts_can_be_listed_and_looked_up() {
    let node = node();
    let wire = node.wire();
    wire.host("h2", &["b"], 1);
    wire.host("h1", &["a"], 3);
    let hosts = wire.get("/v1/hosts").ok()["hosts"].as_array().cloned().expect("hosts");
    assert_eq!(hosts.iter().map(|host| &host["id"]).collect::<Vec<_>>(), ["h1", "h2"]);
    hosts.iter().for_each(|host| shape::HOST.assert(host));
    assert_eq!(wire.get("/v1/hosts/h1").ok()["host"]["maxParallel"], 3);
    let missing = wire.get("/v1/hosts/h9").send();
    assert_eq!(missing.status, 404);
    assert!(missing.error().contains("h9"), "{}", missing.error());
}
