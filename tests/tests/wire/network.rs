//! Peers: who is known, and how one makes itself known.

use skyclaw_tests::{Options, json};

#[test]
fn a_node_alone_knows_nobody() {
    let node = Options::default().start();
    let peers = node.wire().get("/v1/network/peers").ok();
    assert_eq!((&peers["nodeId"], &peers["peers"]), (&json!("node-a"), &json!([])));
}

#[test]
fn a_node_with_a_public_url_names_it() {
    let node = Options::default().env("SKYCLAW_COORDINATOR_PUBLIC_URL", "http://10.0.0.1:8787/").start();
    assert_eq!(node.wire().get("/v1/network/peers").ok()["self"], "http://10.0.0.1:8787");
}

#[test]
fn who_joins_is_known_from_then_on_without_a_trailing_slash() {
    let node = Options::default().start();
    let wire = node.wire();
    let joined = wire.post("/v1/network/join", &json!({"url": "http://10.0.0.2:8787/"})).ok();
    assert_eq!((&joined["ok"], &joined["nodeId"]), (&json!(true), &json!("node-a")));
    assert_eq!(joined["peers"], json!(["http://10.0.0.2:8787"]));
    wire.post("/v1/network/join", &json!({"url": "http://10.0.0.2:8787"})).ok();
    assert_eq!(wire.get("/v1/network/peers").ok()["peers"], json!(["http://10.0.0.2:8787"]));
}

#[test]
fn a_url_is_required_and_must_be_one() {
    let node = Options::default().start();
    for body in [json!({}), json!({"url": ""}), json!({"url": null})] {
        node.wire().post("/v1/network/join", &body).refused(400, "url is required");
    }
    for url in ["not a url", "ftp://a", "http://", "javascript:alert(1)"] {
        let reply = node.wire().post("/v1/network/join", &json!({"url": url})).send();
        assert_eq!(reply.status, 400, "{url}");
        assert!(reply.error().contains("url"), "{}", reply.error());
    }
}
