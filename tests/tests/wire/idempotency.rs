//! Idempotency keys: the first answer stands, whatever happens in between.

use skyclaw_tests::mesh::{id, shell_job, success_of, with};
use skyclaw_tests::{Coordinator, Options, Value, Wire, json};

fn node() -> Coordinator {
    Options::default().start()
}

/// A mesh in which every mutating route has something to do.
struct Stage {
    node: Coordinator,
    wire: Wire,
    leased: String,
    /// Another job of `h1`.
    running: Value,
    service: String,
    freeze: String,
}

impl Stage {
    fn new() -> Self {
        let node = node();
        let wire = node.wire();
        wire.host("h1", &["service-host"], 10);
        wire.enqueue();
        let leased = id(&wire.claim("h1"));
        wire.enqueue();
        let running = wire.claim("h1");
        wire.enqueue();
        for other in ["h2", "h3"] {
            wire.host(other, &[], 1);
        }
        let freeze = id(&wire.post("/v1/freezes", &json!({"labels": {"a": "b"}})).ok()["freeze"]);
        let service = |name: &str| {
            let body = json!({"name": name, "command": "node"});
            id(&wire.post("/v1/services", &body).ok()["service"])
        };
        let claimed = service("first");
        wire.post("/v1/hosts/h1/services/claim", &json!({})).ok();
        service("second");
        Self { node, wire, leased, running, service: claimed, freeze }
    }

    /// What the host of the running job tells.
    fn told(&self) -> Value {
        let event = json!({"at": "2026-01-01T00:00:00.000Z", "kind": "started"});
        json!({"hostId": "h1", "fence": self.running["fence"], "events": [event]})
    }

    /// Each mutating route that keeps a record, with a body it takes.
    fn routes(&self) -> Vec<(String, Value)> {
        let (another, off) = (self.wire.enqueue(), self.wire.enqueue());
        self.wire.call("POST", &format!("/v1/jobs/{}/cancel", id(&off))).ok();
        vec![
            ("/v1/hosts/register".to_owned(), json!({"name": "fresh", "capabilities": ["a"]})),
            ("/v1/hosts/h1/claim".to_owned(), json!({})),
            ("/v1/jobs".to_owned(), shell_job(&json!({"submittedBy": "me"}))),
            (format!("/v1/jobs/{}/complete", self.leased), success_of("h1")),
            (format!("/v1/jobs/{}/cancel", id(&another)), json!({})),
            (format!("/v1/jobs/{}/retry", id(&off)), json!({"by": "ann"})),
            (format!("/v1/jobs/{}/events", self.running["id"].as_str().expect("an id")), self.told()),
            ("/v1/freezes".to_owned(), json!({"agentId": "bot", "reason": "odd"})),
            (format!("/v1/freezes/{}/thaw", self.freeze), json!({"by": "ann"})),
            ("/v1/hosts/h2/drain".to_owned(), json!({"deadlineMs": 5000})),
            ("/v1/hosts/h2/undrain".to_owned(), json!({})),
            ("/v1/hosts/h3/remove".to_owned(), json!({"force": true})),
            ("/v1/services".to_owned(), json!({"name": "api", "command": "node", "args": ["x"]})),
            ("/v1/hosts/h1/services/claim".to_owned(), json!({})),
            (
                format!("/v1/services/{}/report", self.service),
                json!({"hostId": "h1", "status": "running", "endpoint": "http://a:1"}),
            ),
        ]
    }
}

/// The same body with its keys, at every depth, in the opposite order.
fn shuffled(body: &Value) -> String {
    match body {
        Value::Object(fields) => {
            let mut parts: Vec<_> =
                fields.iter().map(|(k, v)| format!("{} : {}", json!(k), shuffled(v))).collect();
            parts.reverse();
            format!("{{ {} }}", parts.join(" ,\n"))
        }
        other => other.to_string(),
    }
}

#[test]
fn the_first_answer_is_given_again_on_every_mutating_route_also_after_a_crash() {
    let mut stage = Stage::new();
    let routes = stage.routes();
    let first: Vec<_> = routes.iter().map(|(path, body)| stage.wire.post(path, body).key("k").ok()).collect();
    for ((path, body), first) in routes.iter().zip(&first) {
        assert_eq!(stage.wire.post(path, body).key("k").ok(), *first, "{path}");
        let reordered = stage.wire.call("POST", path).body(shuffled(body)).key("k").ok();
        assert_eq!(reordered, *first, "{path} with its keys in another order");
    }
    stage.node.kill9();
    stage.node.restart();
    let wire = stage.node.wire();
    for ((path, body), first) in routes.iter().zip(&first) {
        assert_eq!(wire.post(path, body).key("k").ok(), *first, "{path} after a crash");
    }
}

#[test]
fn another_body_under_the_same_key_is_409_on_every_mutating_route_also_after_a_restart() {
    let mut stage = Stage::new();
    let routes = stage.routes();
    for (path, body) in &routes {
        stage.wire.post(path, body).key("k").ok();
    }
    let conflicts = |wire: &Wire| {
        for (path, body) in &routes {
            let other = with(body, &json!({"another": "field"}));
            let reply = wire.post(path, &other).key("k").send();
            reply.refused(409, &format!("idempotency key reuse conflict for route {path}"));
            assert_eq!(reply.json()["code"], "idempotency_conflict");
        }
    };
    conflicts(&stage.wire);
    stage.node.terminate();
    stage.node.restart();
    conflicts(&stage.node.wire());
}

#[test]
fn a_key_belongs_to_its_route_and_ids_are_part_of_the_route() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 5);
    wire.host("h2", &[], 5);
    let job = wire.post("/v1/jobs", &shell_job(&json!({}))).key("k").ok();
    wire.enqueue();
    let one = wire.post("/v1/hosts/h1/claim", &json!({})).key("k").ok();
    assert_eq!(one["job"]["id"], job["job"]["id"]);
    let two = wire.post("/v1/hosts/h2/claim", &json!({})).key("k").ok();
    assert_ne!(two["job"]["id"], one["job"]["id"]);
}

#[test]
fn a_claim_repeated_with_its_key_returns_the_same_job() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 5);
    wire.enqueue();
    wire.enqueue();
    let claim = |key: &str| wire.post("/v1/hosts/h1/claim", &json!({})).key(key).ok()["job"].take();
    let first = claim("a");
    assert_eq!(claim("a"), first);
    assert_ne!(claim("b")["id"], first["id"]);
    assert_eq!(wire.host_record("h1")["activeLeases"], 2);
}

#[test]
fn without_a_key_the_same_request_twice_is_two() {
    let node = node();
    let body = shell_job(&json!({}));
    let send = || id(&node.wire().post("/v1/jobs", &body).ok()["job"]);
    assert_ne!(send(), send());
    let blank = || id(&node.wire().post("/v1/jobs", &body).key("").ok()["job"]);
    assert_ne!(blank(), blank());
}

#[test]
fn a_refusal_keeps_no_record() {
    let node = node();
    let wire = node.wire();
    let wrong = wire.post("/v1/jobs", &json!({})).key("k");
    wrong.refused(400, "payload is required");
    wire.post("/v1/jobs", &shell_job(&json!({}))).key("k").ok();
    wire.post("/v1/hosts/h1/claim", &json!({})).key("k").refused(404, "unknown host: h1");
    wire.host("h1", &[], 1);
    assert!(wire.post("/v1/hosts/h1/claim", &json!({})).key("k").ok()["job"].is_object());
}

#[test]
fn a_conflict_changes_nothing() {
    let node = node();
    let wire = node.wire();
    wire.post("/v1/jobs", &shell_job(&json!({}))).key("k").ok();
    let other = shell_job(&json!({"submittedBy": "x"}));
    wire.post("/v1/jobs", &other).key("k").refused(409, "idempotency key reuse conflict for route /v1/jobs");
    assert_eq!(wire.get("/v1/state").ok()["jobs"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_record_expires_after_its_time() {
    let node = Options::default().env("SKYCLAW_IDEMPOTENCY_TTL_MS", "200").start();
    let wire = node.wire();
    let send = || id(&wire.post("/v1/jobs", &shell_job(&json!({}))).key("k").ok()["job"]);
    let first = send();
    skyclaw_tests::wait_until("the key may be used anew", skyclaw_tests::SHORT, || {
        (send() != first).then_some(())
    });
}

#[test]
fn the_same_request_sent_by_many_at_once_is_carried_out_once() {
    let node = node();
    let wire = node.wire();
    let ids: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| id(&wire.post("/v1/jobs", &shell_job(&json!({}))).key("k").ok()["job"])))
            .collect();
        senders.into_iter().map(|sender| sender.join().expect("a sender")).collect()
    });
    assert_eq!(ids.len(), 1);
    assert_eq!(wire.get("/v1/state").ok()["jobs"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_key_that_is_too_long_or_not_text_is_400() {
    let node = node();
    let long = "k".repeat(257);
    let reply = node.wire().post("/v1/jobs", &shell_job(&json!({}))).key(&long).send();
    assert_eq!(reply.status, 400);
    assert!(reply.error().contains("x-idempotency-key"), "{}", reply.error());
    let just = "k".repeat(256);
    node.wire().post("/v1/jobs", &shell_job(&json!({}))).key(&just).ok();
}
