//! What holds of every route: tokens, bodies, errors, health.

use std::time::Duration;

use skyclaw_tests::raw::{Until, exchange};
use skyclaw_tests::{Coordinator, Options, json};

/// Every core route with a body it would take, as far as one goes without an id.
const CORE: &[(&str, &str)] = &[
    ("POST", "/v1/hosts/register"),
    ("POST", "/v1/hosts/h1/heartbeat"),
    ("POST", "/v1/hosts/h1/claim"),
    ("POST", "/v1/jobs"),
    ("POST", "/v1/jobs/j1/complete"),
    ("POST", "/v1/jobs/j1/cancel"),
    ("POST", "/v1/jobs/j1/resolve"),
    ("POST", "/v1/jobs/j1/retry"),
    ("POST", "/v1/jobs/j1/events"),
    ("GET", "/v1/jobs/j1/events"),
    ("GET", "/v1/jobs/j1/explain"),
    ("POST", "/v1/hosts/h1/drain"),
    ("POST", "/v1/hosts/h1/undrain"),
    ("POST", "/v1/hosts/h1/remove"),
    ("POST", "/v1/freezes"),
    ("GET", "/v1/freezes"),
    ("POST", "/v1/freezes/f1/thaw"),
    ("POST", "/v1/schedules"),
    ("GET", "/v1/schedules"),
    ("GET", "/v1/schedules/s1"),
    ("DELETE", "/v1/schedules/s1"),
    ("POST", "/v1/schedules/s1/pause"),
    ("POST", "/v1/schedules/s1/resume"),
    ("POST", "/v1/schedules/s1/trigger"),
    ("POST", "/v1/services"),
    ("GET", "/v1/services"),
    ("GET", "/v1/services/s1"),
    ("POST", "/v1/hosts/h1/services/claim"),
    ("POST", "/v1/services/s1/report"),
    ("POST", "/v1/replicate/snapshot"),
    ("GET", "/v1/network/peers"),
    ("POST", "/v1/network/join"),
    ("GET", "/v1/state"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/j1"),
    ("GET", "/v1/hosts"),
    ("GET", "/v1/hosts/h1"),
    ("GET", "/v1/events"),
    ("GET", "/v1/cluster"),
    ("GET", "/v1/cluster/autopilot"),
    ("POST", "/v1/cluster/members/m/remove"),
    ("POST", "/v1/cluster/transfer"),
    ("GET", "/metrics"),
];

fn node() -> Coordinator {
    Options::default().start()
}

#[test]
fn health_needs_no_token_and_names_the_node() {
    let node = node();
    let health = node.wire().without_token().get("/health").ok();
    assert_eq!(health, json!({"ok": true, "nodeId": "node-a"}));
}

#[test]
fn a_daemon_that_serves_is_live_and_ready() {
    let node = node();
    for path in ["/livez", "/readyz"] {
        assert_eq!(node.wire().without_token().get(path).send().status, 200, "{path}");
    }
}

#[test]
fn every_core_route_refuses_a_missing_or_wrong_token() {
    let node = node();
    let strangers = [
        node.wire().without_token(),
        node.wire().with_token("wrong"),
        node.wire().with_token(&format!("{}x", skyclaw_tests::TOKEN)),
        node.wire().with_token(&skyclaw_tests::TOKEN[1..]),
    ];
    for (method, path) in CORE {
        for stranger in &strangers {
            stranger.call(method, path).refused(401, "unauthorized");
        }
    }
}

#[test]
fn a_token_is_checked_before_the_body_is_read() {
    let node = node();
    let call = node.wire().without_token().call("POST", "/v1/jobs");
    call.body("not json").refused(401, "unauthorized");
}

#[test]
fn without_a_token_of_its_own_a_node_on_loopback_asks_for_none() {
    let node = Options::default().without("SKYCLAW_TOKEN").start();
    node.wire().without_token().get("/v1/state").ok();
}

#[test]
fn an_empty_body_is_an_empty_object() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &["shell"], 1);
    wire.call("POST", "/v1/hosts/h1/heartbeat").ok();
    assert_eq!(wire.call("POST", "/v1/hosts/h1/claim").ok(), json!({"job": null}));
    assert_eq!(wire.call("POST", "/v1/hosts/h1/services/claim").ok(), json!({"service": null}));
    wire.call("POST", "/v1/jobs").refused(400, "payload is required");
    wire.call("POST", "/v1/hosts/register").refused(400, "name is required");
    wire.call("POST", "/v1/network/join").refused(400, "url is required");
}

#[test]
fn a_body_needs_no_content_type_and_may_be_padded() {
    let node = node();
    let body = " \r\n\t{\"payload\": {\"kind\": \"shell\", \"command\": \"true\"}}\n ";
    node.wire().call("POST", "/v1/jobs").body(body).ok();
    let typed = node.wire().call("POST", "/v1/jobs").header("content-type", "text/plain;charset=UTF-8");
    typed.body(body).ok();
}

#[test]
fn unknown_fields_are_ignored() {
    let node = node();
    let wire = node.wire();
    let host = wire.post("/v1/hosts/register", &json!({"name": "a", "color": {"deep": [1, null]}})).ok();
    assert!(host["host"].get("color").is_none());
    wire.post(
        "/v1/jobs",
        &json!({"later": true, "payload": {"kind": "shell", "command": "true", "nice": 3}}),
    )
    .ok();
}

#[test]
fn an_optional_field_may_be_null() {
    let node = node();
    let body = json!({"hostId": null, "name": "a", "capabilities": null, "maxParallel": null});
    node.wire().post("/v1/hosts/register", &body).ok();
    let body = json!({
        "payload": {"kind": "shell", "command": "true", "args": null, "cwd": null, "env": null, "timeoutMs": null},
        "requirement": null,
        "submittedBy": null,
    });
    node.wire().post("/v1/jobs", &body).ok();
}

#[test]
fn an_unknown_route_is_404_and_a_wrong_method_405_both_in_json() {
    let node = node();
    let reply = node.wire().get("/v1/nothing").send();
    assert_eq!(reply.status, 404);
    assert!(!reply.error().is_empty());
    let reply = node.wire().call("DELETE", "/v1/jobs").send();
    assert_eq!(reply.status, 405);
    assert!(!reply.error().is_empty());
    assert!(reply.header("allow").is_some_and(|allow| allow.contains("POST")));
}

#[test]
fn answers_are_json_and_errors_carry_a_word_for_programs() {
    let node = node();
    let reply = node.wire().get("/v1/services/svc_none").send();
    assert!(reply.header("content-type").is_some_and(|kind| kind.starts_with("application/json")));
    reply.refused(404, "service not found");
    assert_eq!(reply.json()["code"], "not_found");
}

#[test]
fn a_body_over_a_mebibyte_is_413_with_and_without_a_length() {
    let node = node();
    let token = skyclaw_tests::TOKEN;
    let head = format!("POST /v1/jobs HTTP/1.1\r\nhost: a\r\nx-skyclaw-token: {token}\r\n");
    let announced = format!("{head}content-length: 1048577\r\n\r\n{{");
    let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..33 {
        chunked.extend_from_slice(b"8000\r\n");
        chunked.extend_from_slice(&[b' '; 0x8000]);
        chunked.extend_from_slice(b"\r\n");
    }
    for bytes in [announced.into_bytes(), chunked] {
        let answer = exchange(node.address(), &bytes, Until::Answer, Duration::from_secs(20));
        assert_eq!(answer.statuses(), [413], "{}", String::from_utf8_lossy(&answer.bytes));
        assert!(answer.json()["error"].as_str().is_some_and(|e| !e.is_empty()));
    }
}

#[test]
fn a_body_of_just_a_mebibyte_is_taken() {
    let node = node();
    let frame = json!({"payload": {"kind": "shell", "command": "true", "args": [""]}}).to_string();
    let filler = "x".repeat(1024 * 1024 - frame.len());
    let body = json!({"payload": {"kind": "shell", "command": "true", "args": [filler]}}).to_string();
    assert_eq!(body.len(), 1024 * 1024);
    node.wire().call("POST", "/v1/jobs").body(body).ok();
}

#[test]
fn every_answer_tells_the_applied_index_and_it_grows_with_writes() {
    let node = node();
    let index = || -> u64 {
        let reply = node.wire().get("/v1/hosts").send();
        reply.header("x-skyclaw-index").and_then(|text| text.parse().ok()).expect("an index")
    };
    let before = index();
    node.wire().enqueue();
    assert!(index() > before);
}

#[test]
fn a_read_that_asks_for_an_index_waits_until_it_is_applied() {
    let node = node();
    let written = node.wire().post("/v1/jobs", &skyclaw_tests::mesh::shell_job(&json!({}))).send();
    let index = written.header("x-skyclaw-index").expect("an index").to_owned();
    let state = node.wire().get("/v1/state").header("x-skyclaw-min-index", &index).ok();
    assert_eq!(state["jobs"].as_array().map(Vec::len), Some(1));
}
