//! Requests followed through logs and traces.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use skyclaw_tests::{Host, LONG, Options, Value, json, wait_until};
use tokio::runtime::Runtime;

/// A collector of spans that keeps what it is sent. It ends with its runtime.
struct Collector {
    url: String,
    sent: Sent,
    _runtime: Runtime,
}

type Sent = Arc<Mutex<Vec<(String, Bytes)>>>;

async fn take(State(sent): State<Sent>, headers: HeaderMap, body: Bytes) {
    let kind = headers["content-type"].to_str().expect("text").to_owned();
    sent.lock().expect("lock").push((kind, body));
}

impl Collector {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let sent = Sent::default();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new().route("/v1/traces", axum::routing::post(take)).with_state(sent.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { url, sent, _runtime: runtime }
    }

    /// Whether a text is in what was sent: texts stand in these messages as they are.
    fn has(&self, text: &str) -> bool {
        let sent = self.sent.lock().expect("lock");
        sent.iter().any(|(_, body)| body.windows(text.len()).any(|part| part == text.as_bytes()))
    }

    fn kinds(&self) -> Vec<String> {
        self.sent.lock().expect("lock").iter().map(|(kind, _)| kind.clone()).collect()
    }
}

#[test]
fn a_collector_that_is_named_is_sent_the_spans_of_requests() {
    let collector = Collector::start();
    // What is logged says nothing of what is sent.
    let mut node =
        Options::default().env("SKYCLAW_OTLP_ENDPOINT", &collector.url).env("SKYCLAW_LOG", "error").start();
    let reply = node.wire().get("/v1/hosts").header("x-request-id", "traced-42").send();
    assert_eq!((reply.status, reply.header("x-request-id")), (200, Some("traced-42")));
    // The last ones are sent before it ends.
    node.terminate();
    for text in ["traced-42", "skyclawd", "/v1/hosts", "service.version"] {
        assert!(collector.has(text), "{text} was not sent");
    }
    assert!(!collector.has(skyclaw_tests::TOKEN));
    let kinds = collector.kinds();
    assert!(kinds.iter().all(|kind| kind == "application/x-protobuf"), "{kinds:?}");
}

#[test]
fn none_is_sent_of_what_is_not_in_the_sample() {
    let collector = Collector::start();
    let mut node = Options::default()
        .env("SKYCLAW_OTLP_ENDPOINT", &collector.url)
        .env("SKYCLAW_OTLP_SAMPLE", "0")
        .start();
    node.wire().get("/v1/hosts").ok();
    node.terminate();
    assert_eq!(collector.kinds(), Vec::<String>::new());
}

#[test]
fn a_collector_that_is_away_holds_nobody_up() {
    let mut node = Options::default().env("SKYCLAW_OTLP_ENDPOINT", "http://127.0.0.1:1").start();
    let job = node.wire().enqueue();
    assert_eq!(job["status"], "queued");
    node.terminate();
    let refused = Options::default().env("SKYCLAW_OTLP_SAMPLE", "2").refused_in(node.data());
    assert!(refused.said.contains("SKYCLAW_OTLP_SAMPLE"), "{}", refused.said);
}

#[test]
fn runs_of_a_host_are_spans_too() {
    let collector = Collector::start();
    let node = Options::default().start();
    let host = Host::start(&node.url(), "h1", &[("SKYCLAW_OTLP_ENDPOINT", &collector.url)]);
    let job = node.wire().enqueue_with(&json!({"payload": {"kind": "shell", "command": "echo"}}));
    let id = skyclaw_tests::mesh::id(&job);
    wait_until("the job is done", LONG, || (node.wire().job(&id)["status"] == "completed").then_some(()));
    wait_until("its span is sent", LONG, || {
        (collector.has(&id) && collector.has("skyclaw-hostd")).then_some(())
    });
    drop(host);
}

#[test]
fn a_line_of_the_log_is_an_object_that_names_the_request_it_belongs_to() {
    let node = Options::default()
        .env("SKYCLAW_LOG_FORMAT", "json")
        .env("SKYCLAW_LOG", "info,skyclawd=debug")
        .start();
    node.wire().get("/v1/hosts").header("x-request-id", "named-7").ok();
    let log = node.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}")))
        .collect();
    let named = lines.iter().find(|line| line["span"]["id"] == "named-7");
    let named = named.unwrap_or_else(|| panic!("no line names the request: {log}"));
    assert_eq!((&named["message"], &named["status"]), (&json!("answered"), &json!(200)));
    assert_eq!(named["span"]["path"], "/v1/hosts");
}
