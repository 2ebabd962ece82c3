//! Requests followed through logs and traces.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use skyclaw_tests::{Cluster, Host, LONG, Options, Value, json, wait_until};
use tokio::runtime::Runtime;

/// A collector of spans that keeps what it is sent. It ends with its runtime.
struct Collector {
    url: String,
    sent: Sent,
    _runtime: Runtime,
}

type Sent = Arc<Mutex<Vec<(String, Bytes)>>>;

/// The kind of the body, and the key if there is one.
async fn take(State(sent): State<Sent>, headers: HeaderMap, body: Bytes) {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().expect("text").to_owned());
    let kind = [text("content-type"), text("api-key")].into_iter().flatten().collect::<Vec<_>>().join(" ");
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
        self.has_bytes(text.as_bytes())
    }

    fn has_bytes(&self, wanted: &[u8]) -> bool {
        let sent = self.sent.lock().expect("lock");
        sent.iter().any(|(_, body)| body.windows(wanted.len()).any(|part| part == wanted))
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
    for (name, value) in
        [("SKYCLAW_OTLP_HEADERS", "s3cret"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:s3cret@b")]
    {
        let options = Options::default().env(name, value);
        let options = match name {
            "SKYCLAW_OTLP_HEADERS" => options.env("SKYCLAW_OTLP_ENDPOINT", "http://127.0.0.1:1"),
            _ => options,
        };
        let refused = options.refused_in(node.data());
        assert!(refused.said.contains(name) && !refused.said.contains("s3cret"), "{}", refused.said);
    }
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

/// A trace that a client has begun: its id, and the place in it that the client is at.
const TRACE: [u8; 16] = *b"one-trace-of-all";
const PLACE: &str = "00-6f6e652d74726163652d6f662d616c6c-00f067aa0ba902b7-01";

#[test]
fn a_trace_of_a_client_goes_through_the_node_it_asks_to_the_leader() {
    let (asked, leads) = (Collector::start(), Collector::start());
    let mut cluster = Cluster::start(3);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    for (node, collector) in [(leader, &leads), (follower, &asked)] {
        cluster.restart_with(node, |options| options.env("SKYCLAW_OTLP_ENDPOINT", &collector.url));
        cluster.wait_whole();
    }
    // Whoever leads by now.
    if !cluster.leads(leader) {
        cluster.transfer(leader);
    }
    let wire = cluster.wire(follower);
    let submit = |id: &str| {
        let job = json!({"payload": {"kind": "shell", "command": "true"}});
        let call = wire.post("/v1/jobs", &job).header("x-request-id", id).header("traceparent", PLACE);
        call.send()
    };
    assert_eq!(submit("traced-43").status, 200);
    for node in [follower, leader] {
        cluster.terminate(node);
    }
    for (whose, collector) in [("the node that was asked", &asked), ("the leader", &leads)] {
        assert!(collector.has_bytes(&TRACE), "{whose} has sent nothing of the trace");
        assert!(collector.has("traced-43"), "{whose} has sent no span of the request");
    }
    assert!(leads.has("write"), "the leader has sent no span of the write");
}

#[test]
fn the_log_of_the_leader_names_the_request_that_another_node_took_in() {
    let cluster = Cluster::start_with(3, |options| {
        options.env("SKYCLAW_LOG", "info,openraft=off,skyclawd=debug,skyclaw_replication=debug")
    });
    let wire = cluster.wire(cluster.follower());
    let job = json!({"payload": {"kind": "shell", "command": "true"}});
    let call = |id: &str| wire.post("/v1/jobs", &job).header("x-request-id", id).ok();
    call("named-8");
    wait_until("the leader's log names the request", LONG, || {
        // It may be another one by now.
        let log = cluster.log(cluster.leader());
        if log.lines().any(|line| line.contains("named-8") && line.contains("decided")) {
            return Some(());
        }
        call("named-8");
        None
    });
}

#[test]
fn what_is_done_by_hand_is_followed_to_the_leader_whatever_is_logged() {
    let cluster = Cluster::start_with(3, |options| {
        options
            .env("SKYCLAW_LOG", "info,openraft=off,skyclaw_replication=debug")
            .env("SKYCLAW_LOG_FORMAT", "json")
    });
    let follower = cluster.follower();
    let reply =
        cluster.wire(follower).post("/v1/freezes", &json!({})).header("x-request-id", "frozen-9").send();
    assert_eq!(reply.status, 200);
    let found = (0..cluster.size()).filter(|node| *node != follower).any(|node| {
        let log = cluster.log(node);
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"] == "decided").any(|line| line["span"]["id"] == "frozen-9")
    });
    assert!(found, "no other node names the request");
}

#[test]
fn the_standard_variables_are_honoured_and_the_key_of_the_collector_is_shown_to_nobody() {
    const KEY: &str = "s3cret-of-the-collector";
    let collector = Collector::start();
    let mut node = Options::default()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)
        .env("OTEL_EXPORTER_OTLP_HEADERS", format!("api-key={KEY}"))
        .env("OTEL_SERVICE_NAME", "coordinator-of-ann")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=tests")
        .env("SKYCLAW_LOG", "trace")
        .start();
    node.wire().get("/v1/hosts").ok();
    node.terminate();
    for text in ["coordinator-of-ann", "deployment.environment", "service.version"] {
        assert!(collector.has(text), "{text} was not sent");
    }
    let kinds = collector.kinds();
    assert!(kinds.iter().all(|kind| kind.ends_with(KEY)), "{kinds:?}");
    assert!(!node.log().contains(KEY), "the log has the key");
    // What the environment turns off is off, unless our own settings ask for it.
    let off = Collector::start();
    let options = Options::default().env("OTEL_SDK_DISABLED", "true");
    for (name, sends) in [("OTEL_EXPORTER_OTLP_ENDPOINT", false), ("SKYCLAW_OTLP_ENDPOINT", true)] {
        let mut node = options.clone().env(name, &off.url).start();
        node.wire().get("/v1/hosts").ok();
        node.terminate();
        assert_eq!(!off.kinds().is_empty(), sends, "{name}");
    }
}

#[test]
fn a_run_does_not_find_the_key_of_the_collector_and_its_host_sends_it() {
    const KEY: &str = "s3cret-of-the-collector";
    let collector = Collector::start();
    let node = Options::default().start();
    let headers = format!("api-key={KEY}");
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url), ("OTEL_EXPORTER_OTLP_HEADERS", &headers)];
    let mut host = Host::start(&node.url(), "h1", &env);
    let look = "env; cat /proc/self/environ /proc/$PPID/environ; true";
    let job = json!({"payload": {"kind": "shell", "command": "sh", "args": ["-c", look]}});
    let id = skyclaw_tests::mesh::id(&node.wire().enqueue_with(&job));
    let ended = wait_until("the job is done", LONG, || {
        Some(node.wire().job(&id)).filter(|job| job["status"] == "completed")
    });
    assert!(!ended.to_string().contains(KEY), "{ended}");
    assert!(!skyclaw_tests::process::environment(host.process().pid()).contains(KEY));
    wait_until("its span is sent with the key", LONG, || {
        (collector.has(&id) && collector.kinds().iter().all(|kind| kind.ends_with(KEY))).then_some(())
    });
    drop(host);
}
