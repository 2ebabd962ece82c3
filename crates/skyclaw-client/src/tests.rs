//! The client against scripted coordinators: each answers what the test says and keeps what it was
//! asked.

mod cluster;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use expect_test::{Expect, expect};
use skyclaw_proto::request::{ClaimBody, EnqueueJobBody, HeartbeatBody, PayloadBody};
use skyclaw_proto::{HostId, JobId, JobStatus};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::task::TaskTracker;

use crate::{Client, Config, Error, JobFilter};

/// What a scripted coordinator was asked.
#[derive(Debug, Clone)]
struct Asked {
    line: String,
    headers: http::HeaderMap,
    body: String,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

type Script = dyn Fn(usize, &Asked) -> Response + Send + Sync;

#[derive(Clone)]
struct Coordinator {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Arc<Script>,
}

impl Coordinator {
    /// A coordinator that answers its nth request (from 0) as `script` says.
    async fn start(script: impl Fn(usize, &Asked) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let this = Self { url, asked: Arc::default(), script: Arc::new(script) };
        let app = axum::Router::new().fallback(answer).with_state(this.clone());
        TaskTracker::new().spawn(async move { axum::serve(listener, app).await });
        this
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("lock").clone()
    }

    fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

async fn answer(State(this): State<Coordinator>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("body");
    let asked = Asked {
        line: format!("{} {}", parts.method, parts.uri),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).expect("text"),
    };
    let nth = {
        let mut all = this.asked.lock().expect("lock");
        all.push(asked.clone());
        all.len() - 1
    };
    (this.script)(nth, &asked)
}

fn reply(status: u16, body: impl Into<Body>) -> Response {
    Response::builder().status(status).body(body.into()).expect("response")
}

fn job(version: u64, status: &str) -> String {
    format!(
        r#"{{"job":{{"id":"job_1","createdAt":"2026-01-01T00:00:00.000Z","updatedAt":"2026-01-01T00:00:00.000Z",
        "updatedBy":"n","version":{version},"status":"{status}","attempts":0,"requirement":{{}},
        "payload":{{"kind":"openclaw-run"}}}}}}"#
    )
}

/// A URL where nobody listens, as long as the socket lives.
fn nowhere() -> (String, TcpSocket) {
    let socket = TcpSocket::new_v4().expect("socket");
    socket.bind("127.0.0.1:0".parse().expect("address")).expect("bind");
    (format!("http://{}", socket.local_addr().expect("address")), socket)
}

fn client(urls: &[&str]) -> Client {
    let mut config = Config::new(urls.iter().copied(), Some("s3cret".into()));
    config.deadline = Duration::from_secs(5);
    Client::new(config).expect("client")
}

fn shell() -> EnqueueJobBody {
    let payload =
        PayloadBody { kind: Some("shell".into()), command: Some("true".into()), ..PayloadBody::default() };
    EnqueueJobBody { payload: Some(payload), ..EnqueueJobBody::default() }
}

fn job_id() -> JobId {
    JobId::parse("job_1").expect("id")
}

fn check_error(error: &Error, urls: &[&str], expected: &Expect) {
    let mut text = error.to_string();
    for (i, url) in urls.iter().enumerate() {
        text = text.replace(url, &format!("URL{i}"));
    }
    if let Error::Unavailable { waited, key, .. } = error {
        text = text.replace(&format!("{waited:?}"), "TIME");
        text = key.iter().fold(text, |text, key| text.replace(key.as_str(), "KEY"));
    }
    expected.assert_eq(&text);
}

#[tokio::test]
async fn a_request_carries_token_key_and_request_id_and_its_json() {
    let node = Coordinator::start(|_, _| reply(200, job(1, "queued"))).await;
    let enqueued = client(&[&format!("{}/", node.url)]).enqueue(&shell(), None).await.expect("job");
    assert_eq!((enqueued.id, enqueued.status), (job_id(), JobStatus::Queued));
    let asked = &node.asked()[0];
    assert_eq!(asked.line, "POST /v1/jobs");
    assert_eq!(asked.header("x-skyclaw-token"), Some("s3cret"));
    assert!(asked.header("x-idempotency-key").is_some_and(|key| !key.is_empty()));
    assert!(asked.header("x-request-id").is_some());
    assert_eq!(asked.body, r#"{"payload":{"kind":"shell","command":"true"}}"#);
}

#[tokio::test]
async fn a_caller_s_key_is_used_as_it_is_and_a_heartbeat_has_none() {
    let node = Coordinator::start(|_, _| reply(500, "{}")).await;
    let client = client(&[&node.url]);
    let _ = client.enqueue(&shell(), Some("mine")).await;
    let _ = client.heartbeat(&HostId::parse("h").expect("id"), &HeartbeatBody::default()).await;
    let asked = node.asked();
    assert_eq!(asked[0].header("x-idempotency-key"), Some("mine"));
    assert_eq!(asked[1].line, "POST /v1/hosts/h/heartbeat");
    assert_eq!(asked[1].header("x-idempotency-key"), None);
}

#[tokio::test]
async fn a_call_goes_to_the_next_coordinator_when_one_is_down_and_stays_with_the_good_one() {
    let (dead, _held) = nowhere();
    let good = Coordinator::start(|_, _| reply(200, job(1, "queued"))).await;
    let client = client(&[&dead, &good.url]);
    client.job(&job_id()).await.expect("job");
    assert_eq!(client.coordinators(), [&good.url, &dead]);
}

#[tokio::test]
async fn a_write_whose_outcome_is_unknown_is_repeated_with_the_same_key_elsewhere() {
    let body = r#"{"error":"replication target not met","code":"outcome_unknown"}"#;
    let unsure = Coordinator::start(move |_, _| reply(503, body)).await;
    let good = Coordinator::start(|_, _| reply(200, job(1, "queued"))).await;
    client(&[&unsure.url, &good.url]).enqueue(&shell(), None).await.expect("job");
    let (first, second) = (unsure.asked(), good.asked());
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].header("x-idempotency-key"), second[0].header("x-idempotency-key"));
    assert_eq!(first[0].header("x-request-id"), second[0].header("x-request-id"));
}

#[tokio::test]
async fn a_write_whose_connection_breaks_after_it_was_sent_is_repeated_with_the_same_key() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let breaking = format!("http://{}", listener.local_addr().expect("address"));
    TaskTracker::new().spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.readable().await.expect("request");
        }
    });
    let good = Coordinator::start(|_, _| reply(200, job(1, "queued"))).await;
    client(&[&breaking, &good.url]).enqueue(&shell(), Some("k")).await.expect("job");
    assert_eq!(good.asked()[0].header("x-idempotency-key"), Some("k"));
}

#[tokio::test]
async fn a_refusal_is_final_and_asks_nobody_else() {
    let body = r#"{"error":"payload is required","code":"invalid_request"}"#;
    let refusing = Coordinator::start(move |_, _| reply(400, body)).await;
    let other = Coordinator::start(|_, _| reply(200, job(1, "queued"))).await;
    let error = client(&[&refusing.url, &other.url]).enqueue(&shell(), None).await.expect_err("refused");
    assert_eq!((error.status(), other.asked().len()), (Some(400), 0));
    check_error(&error, &[], &expect!["payload is required"]);
}

#[tokio::test]
async fn a_fault_of_one_coordinator_is_final_when_all_have_it() {
    let fault = || Coordinator::start(|_, _| reply(500, r#"{"error":"unknown host: h"}"#));
    let (a, b) = (fault().await, fault().await);
    let error = client(&[&a.url, &b.url]).job(&job_id()).await.expect_err("fault");
    assert_eq!((error.status(), a.asked().len(), b.asked().len()), (Some(500), 1, 1));
    assert!(error.is_not_found(), "a reference coordinator says so with 500");
}

#[tokio::test]
async fn a_busy_coordinator_is_asked_again_and_no_sooner_than_it_says() {
    let node = Coordinator::start(|nth, _| match nth {
        0 => {
            let mut busy = reply(503, r#"{"error":"busy","code":"overloaded"}"#);
            busy.headers_mut().insert("retry-after", "1".parse().expect("header"));
            busy
        }
        _ => reply(200, job(1, "queued")),
    })
    .await;
    let client = client(&[&node.url]);
    let began = std::time::Instant::now();
    client.job(&job_id()).await.expect("job");
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(node.asked().len(), 2);
}

#[tokio::test]
async fn when_all_are_down_the_error_names_each_and_why() {
    let ((a, _a), (b, _b)) = (nowhere(), nowhere());
    let mut config = Config::new([a.as_str(), b.as_str()], Some("s3cret".into()));
    config.deadline = Duration::from_millis(300);
    let error = Client::new(config).expect("client").enqueue(&shell(), Some("k")).await.expect_err("down");
    check_error(
        &error,
        &[&a, &b],
        &expect![
            "POST /v1/jobs was not answered by any coordinator within TIME: URL0: connection refused (is skyclawd running there?); URL1: connection refused (is skyclawd running there?)"
        ],
    );
    assert!(!format!("{error:?}").contains("s3cret"));
}

#[tokio::test]
async fn when_a_write_may_have_been_done_the_error_gives_the_key_to_repeat_it_with() {
    let node =
        Coordinator::start(|_, _| reply(503, r#"{"error":"not sure","code":"outcome_unknown"}"#)).await;
    let mut config = Config::new([node.url.as_str()], None);
    config.deadline = Duration::from_millis(300);
    let error =
        Client::new(config).expect("client").enqueue(&shell(), Some("my-key")).await.expect_err("busy");
    check_error(
        &error,
        &[&node.url],
        &expect![
            "POST /v1/jobs was not answered by any coordinator within TIME: URL0: not sure (503); it may have been carried out all the same: to be sure, repeat it with the idempotency key KEY"
        ],
    );
    assert!(matches!(&error, Error::Unavailable { key: Some(key), .. } if key == "my-key"));
}

#[tokio::test]
async fn a_read_after_a_write_waits_for_the_index_of_the_write() {
    let node = Coordinator::start(|_, asked| {
        let mut answer = reply(200, job(1, "queued"));
        let index = if asked.line.starts_with("POST") { "42" } else { "77" };
        answer.headers_mut().insert("x-skyclaw-index", index.parse().expect("header"));
        answer
    })
    .await;
    let client = client(&[&node.url]);
    client.job(&job_id()).await.expect("job");
    client.enqueue(&shell(), None).await.expect("job");
    client.clone().job(&job_id()).await.expect("job");
    let asked = node.asked();
    assert_eq!(asked[0].header("x-skyclaw-min-index"), None);
    assert_eq!(asked[2].header("x-skyclaw-min-index"), Some("42"));
}

#[tokio::test]
async fn a_long_poll_may_take_as_long_as_it_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let silent = format!("http://{}", listener.local_addr().expect("address"));
    let mut config = Config::new([silent.as_str()], None);
    (config.attempt_timeout, config.deadline) = (Duration::from_millis(100), Duration::from_millis(150));
    let client = Client::new(config).expect("client");
    let host = HostId::parse("h").expect("id");
    let claim = ClaimBody { wait_ms: Some(400), max: None };
    let began = std::time::Instant::now();
    let error = client.claim(&host, &claim, None).await.expect_err("silent");
    assert!(began.elapsed() >= Duration::from_millis(500), "{error}");
    assert!(matches!(error, Error::Unavailable { .. }));
}

#[tokio::test]
async fn an_answer_that_is_none_or_too_large_is_refused() {
    let page = Coordinator::start(|_, _| reply(200, "<html>")).await;
    let error = client(&[&page.url]).job(&job_id()).await.expect_err("no JSON");
    check_error(
        &error,
        &[&page.url],
        &expect![
            "URL0 answered GET /v1/jobs/job_1 with something that is no answer of a coordinator: expected value at line 1 column 1"
        ],
    );
    let mut config = Config::new([page.url.as_str()], None);
    config.max_answer_bytes = 5;
    let error = Client::new(config).expect("client").job(&job_id()).await.expect_err("too large");
    assert!(matches!(error, Error::InvalidAnswer { .. }), "{error}");
}

#[tokio::test]
async fn who_wants_to_see_every_try_is_told_of_the_first_that_fails() {
    let busy = Coordinator::start(|_, _| reply(503, r#"{"error":"busy","code":"overloaded"}"#)).await;
    let good = Coordinator::start(|_, _| reply(200, job(1, "queued"))).await;
    let broken = Coordinator::start(|_, _| reply(500, r#"{"error":"oh"}"#)).await;
    let once = |urls: &[&str]| {
        let mut config = Config::new(urls.iter().copied(), None);
        config.max_tries = Some(1);
        Client::new(config).expect("client")
    };
    let error = once(&[&busy.url, &good.url]).job(&job_id()).await.expect_err("busy");
    assert!(matches!(&error, Error::Unavailable { failures, .. } if failures.len() == 1), "{error}");
    assert_eq!((busy.lines().len(), good.lines().len()), (1, 0));
    let error = once(&[&broken.url]).job(&job_id()).await.expect_err("broken");
    assert_eq!((error.status(), broken.lines().len()), (Some(500), 1));
    assert_eq!(once(&[&good.url]).job(&job_id()).await.expect("a job").version, 1);
}

#[tokio::test]
async fn the_hosts_of_a_reference_coordinator_are_read_from_its_state() {
    let hosts = r#"[{"id":"h1","name":"h1","capabilities":["a"],"maxParallel":1,"activeLeases":0,"version":1,
        "lastSeenAt":"2026-01-01T00:00:00.000Z","registeredAt":"2026-01-01T00:00:00.000Z","updatedBy":"n"}]"#;
    let node = Coordinator::start(move |_, asked| match asked.line.as_str() {
        "GET /v1/state" => {
            reply(200, format!(r#"{{"nodeId":"n","hosts":{hosts},"jobs":[{{"odd":1}}],"services":[]}}"#))
        }
        _ => reply(404, r#"{"error":"not found"}"#),
    })
    .await;
    let found = client(&[&node.url]).hosts_of_any().await.expect("hosts");
    assert_eq!(found.iter().map(|host| host.id.as_str()).collect::<Vec<_>>(), ["h1"]);
}

#[tokio::test]
async fn a_list_asks_for_what_the_filter_says() {
    let node = Coordinator::start(|_, _| reply(200, r#"{"jobs":[],"nextCursor":"c2"}"#)).await;
    let filter = JobFilter {
        status: Some(JobStatus::Failed),
        labels: vec![("team".into(), "a b".into()), ("x".into(), "1".into())],
        limit: Some(5),
        ..JobFilter::default()
    };
    let page = client(&[&node.url]).jobs(&filter, Some("c1")).await.expect("page");
    assert_eq!(page.next_cursor.as_deref(), Some("c2"));
    assert_eq!(node.lines(), ["GET /v1/jobs?status=failed&limit=5&cursor=c1&label=team%3Da+b&label=x%3D1"]);
}

#[tokio::test]
async fn the_state_is_copied_as_it_is_from_the_first_that_has_it() {
    let busy = Coordinator::start(|_, _| reply(503, r#"{"error":"busy"}"#)).await;
    let good = Coordinator::start(|_, _| reply(200, "x".repeat(100_000))).await;
    let mut out = Vec::new();
    let copied = client(&[&busy.url, &good.url]).state(&mut out).await.expect("state");
    assert_eq!((copied, out.len()), (100_000, 100_000));
}

#[tokio::test]
async fn a_watch_gives_each_new_version_until_the_end_where_the_coordinator_does_not_wait() {
    let node = Coordinator::start(|nth, _| match nth {
        0..=2 => reply(200, job(1, "queued")),
        3 => reply(200, job(2, "leased")),
        _ => reply(200, job(3, "completed")),
    })
    .await;
    let mut watch = client(&[&node.url]).watch_job(job_id());
    let first = watch.next().await.expect("job");
    assert_eq!((first.version, watch.end().await.expect("end").status), (1, JobStatus::Completed));
    assert_eq!(node.lines()[0], "GET /v1/jobs/job_1");
    assert_eq!(node.lines()[1], "GET /v1/jobs/job_1?waitMs=25000&version=1");
}

#[test]
fn a_url_that_is_none_is_refused_without_being_shown() {
    for bad in ["127.0.0.1:8787", "ftp://a", "http://user:pass@a", "http://a?x"] {
        let error = Client::new(Config::new([bad], None)).expect_err("refused");
        assert!(matches!(error, Error::InvalidUrl) && !error.to_string().contains("pass"), "{bad}");
    }
    assert!(matches!(Client::new(Config::new([" "], None)), Err(Error::NoCoordinator)));
}

#[test]
fn the_token_is_in_no_debug_print_and_calls_can_be_spawned() {
    fn sendable(_: &(impl Send + 'static)) {}
    let client = client(&["http://127.0.0.1:1"]);
    assert!(!format!("{client:?}").contains("s3cret"));
    let spawned = async move {
        let mut out = Vec::new();
        let _ = client.state(&mut out).await;
        let _ = client.watch_job(job_id()).end().await;
        let _ = client.enqueue(&shell(), None).await;
    };
    sendable(&spawned);
}
