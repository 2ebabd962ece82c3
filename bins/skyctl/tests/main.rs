//! The program as it is run, against a scripted coordinator.

#![expect(clippy::expect_used, reason = "what fails in a helper of a test fails the test")]

use std::process::Output;
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::response::Response;
use expect_test::{Expect, expect};
use tokio::net::{TcpListener, TcpSocket};
use tokio::process::Command;
use tokio_util::task::TaskTracker;

/// A coordinator that answers from a table of `METHOD path?query` and keeps what it was sent.
#[derive(Clone)]
struct Coordinator {
    url: String,
    sent: Arc<Mutex<Vec<String>>>,
    answers: Arc<Vec<(&'static str, u16, String)>>,
}

impl Coordinator {
    async fn start(answers: Vec<(&'static str, u16, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let this = Self { url, sent: Arc::default(), answers: answers.into() };
        let app = axum::Router::new().fallback(answer).with_state(this.clone());
        TaskTracker::new().spawn(async move { axum::serve(listener, app).await });
        this
    }

    async fn skyctl(&self, args: &[&str]) -> Ran {
        skyctl(&self.url, args).await
    }

    fn sent(&self) -> Vec<String> {
        self.sent.lock().expect("lock").clone()
    }
}

async fn answer(State(this): State<Coordinator>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("body");
    let line = format!("{} {}", parts.method, parts.uri);
    let token = parts.headers.get("x-skyclaw-token").map_or("", |t| t.to_str().expect("text"));
    let sent = format!("{line} token={token} {}", String::from_utf8_lossy(&body));
    this.sent.lock().expect("lock").push(sent);
    let found = this.answers.iter().find(|(asked, _, _)| *asked == line);
    let (status, text) = match found {
        Some((_, status, text)) => (*status, text.clone()),
        None => (404, format!(r#"{{"error":"nothing at {line}","code":"not_found"}}"#)),
    };
    Response::builder().status(status).body(text.into()).expect("response")
}

/// What came of a command.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn skyctl(url: &str, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skyctl"));
    command
        .env_clear()
        .env("SKYCLAW_COORDINATOR_URL", url)
        .env("SKYCLAW_TOKEN", "s3cret")
        .env("SKYCLAW_DEADLINE_MS", "3000")
        .args(args);
    let Output { status, stdout, stderr } = command.output().await.expect("skyctl runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

fn job(id: &str, rest: &str) -> String {
    format!(
        r#"{{"id":"{id}","createdAt":"2026-01-01T00:00:00.000Z","updatedAt":"2026-01-01T00:00:00.000Z",
        "updatedBy":"n","version":1,"attempts":1,"requirement":{{}},
        "payload":{{"kind":"shell","command":"echo"}},{rest}}}"#
    )
}

fn of_job(id: &str, rest: &str) -> String {
    format!(r#"{{"job":{}}}"#, job(id, rest))
}

const DONE: &str = r#""status":"completed","result":{"finishedAt":"2026-01-01T00:00:00.000Z","durationMs":5,
    "exitCode":0,"stdout":"out\n","stderr":"err\n"}"#;
const FAILED: &str = r#""status":"failed","error":"exited with 7","result":{"finishedAt":"2026-01-01T00:00:00.000Z",
    "durationMs":5,"exitCode":7,"stdout":"some","stderr":""}"#;

fn check(ran: &Ran, code: i32, stdout: &Expect, stderr: &Expect) {
    stderr.assert_eq(&ran.stderr);
    stdout.assert_eq(&ran.stdout);
    assert_eq!(ran.code, Some(code));
}

#[tokio::test]
async fn a_submission_prints_the_id_and_nothing_else_and_carries_the_token() {
    let node =
        Coordinator::start(vec![("POST /v1/jobs", 200, of_job("job_1", r#""status":"queued""#))]).await;
    for args in [&["enqueue-shell", "bash", "-lc", "echo hello"][..], &["job", "submit", "--", "ls"]] {
        check(&node.skyctl(args).await, 0, &expect!["job_1\n"], &expect![""]);
    }
    assert_eq!(
        node.sent()[0],
        r#"POST /v1/jobs token=s3cret {"payload":{"kind":"shell","command":"bash","args":["-lc","echo hello"]},"requirement":{"requiredCapabilities":["shell"]}}"#
    );
}

#[tokio::test]
async fn waiting_passes_the_output_through_and_ends_with_the_job_s_exit_code() {
    let node = Coordinator::start(vec![
        ("POST /v1/jobs", 200, of_job("job_1", r#""status":"queued""#)),
        ("GET /v1/jobs/job_1", 200, of_job("job_1", DONE)),
        ("GET /v1/jobs/job_2", 200, of_job("job_2", FAILED)),
        ("GET /v1/jobs/job_3", 200, of_job("job_3", r#""status":"cancelled""#)),
    ])
    .await;
    let submitted = node.skyctl(&["job", "submit", "--wait", "--", "echo"]).await;
    check(&submitted, 0, &expect!["out\n"], &expect!["err\n"]);
    let both = node.skyctl(&["job", "wait", "job_1", "job_2"]).await;
    check(
        &both,
        7,
        &expect!["out\nsome"],
        &expect!["err\njob_2 failed with exit code 7 after 5ms: exited with 7\n"],
    );
    let cancelled = node.skyctl(&["job", "wait", "job_3"]).await;
    check(&cancelled, 125, &expect![""], &expect!["job_3 cancelled\n"]);
}

#[tokio::test]
async fn a_job_is_found_by_the_beginning_of_its_id_on_whatever_page_it_is() {
    let page = |jobs: &[&str], next: &str| {
        let jobs: Vec<_> = jobs.iter().map(|id| job(id, DONE)).collect();
        format!(r#"{{"jobs":[{}]{next}}}"#, jobs.join(","))
    };
    let node = Coordinator::start(vec![
        ("GET /v1/jobs?limit=200", 200, page(&["job_ab1", "job_ab2"], r#","nextCursor":"c""#)),
        ("GET /v1/jobs?limit=200&cursor=c", 200, page(&["job_cd"], "")),
    ])
    .await;
    let found = node.skyctl(&["job", "get", "cd", "-o", "json"]).await;
    assert_eq!(found.code, Some(0), "{found:?}");
    let record: serde_json::Value = serde_json::from_str(&found.stdout).expect("json");
    assert_eq!(record["id"], "job_cd");
    check(
        &node.skyctl(&["job", "get", "job_ab"]).await,
        2,
        &expect![""],
        &expect!["error: job_ab could be any of these jobs: job_ab1, job_ab2: give more of the id\n"],
    );
    check(
        &node.skyctl(&["job", "get", "xyz"]).await,
        3,
        &expect![""],
        &expect!["error: there is no job xyz\n"],
    );
}

#[tokio::test]
async fn the_services_are_printed_as_the_reference_prints_them() {
    let service = r#"{"id":"svc_1","name":"api","command":"node","args":[],"replicas":1,
        "requiredCapabilities":["service-host"],"status":"pending","createdAt":"2026-01-01T00:00:00.000Z",
        "updatedAt":"2026-01-01T00:00:00.000Z","updatedBy":"n","version":1,"assignments":[]}"#;
    let node =
        Coordinator::start(vec![("GET /v1/services", 200, format!(r#"{{"services":[{service}]}}"#))]).await;
    check(
        &node.skyctl(&["list-services"]).await,
        0,
        &expect![[r#"
            {
              "services": [
                {
                  "id": "svc_1",
                  "name": "api",
                  "command": "node",
                  "args": [],
                  "replicas": 1,
                  "requiredCapabilities": [
                    "service-host"
                  ],
                  "status": "pending",
                  "createdAt": "2026-01-01T00:00:00.000Z",
                  "updatedAt": "2026-01-01T00:00:00.000Z",
                  "updatedBy": "n",
                  "version": 1,
                  "assignments": []
                }
              ]
            }
        "#]],
        &expect![""],
    );
    assert!(node.skyctl(&["service", "get", "api"]).await.stdout.starts_with("id        svc_1\n"));
}

const CLUSTER: &str = r#"{"nodeId":"node-a","clusterId":"c-1","term":2,"applied":9,"members":[
    {"raftId":"1","nodeId":"node-a","url":"http://a:1","role":"leader","lag":0},
    {"raftId":"2","nodeId":"node-b","url":"http://b:1","role":"follower","lag":3,"silentMs":40}]}"#;

#[tokio::test]
async fn the_cluster_is_shown_and_changed() {
    let peers = r#"{"ok":true,"nodeId":"node-a","peers":["http://b:1"]}"#;
    let gone = r#"{"member":{"raftId":"2","nodeId":"node-b","role":"follower"}}"#;
    let node = Coordinator::start(vec![
        ("GET /v1/cluster", 200, CLUSTER.into()),
        ("POST /v1/network/join", 200, peers.into()),
        ("POST /v1/cluster/members/node-b/remove", 200, gone.into()),
        ("POST /v1/cluster/transfer", 200, CLUSTER.into()),
    ])
    .await;
    check(
        &node.skyctl(&["cluster", "members"]).await,
        0,
        &expect![[r"
            NAME    ROLE      LAG  SEEN  URL
            node-a  leader    0    -     http://a:1
            node-b  follower  3    0s    http://b:1
        "]],
        &expect![""],
    );
    let json = node.skyctl(&["cluster", "status", "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("json");
    assert_eq!((&json["clusterId"], &json["members"][1]["lag"]), (&"c-1".into(), &3.into()));
    for args in [&["join", "http://b:1/"][..], &["remove", "node-b"], &["transfer"], &["transfer", "node-b"]]
    {
        let ran = node.skyctl(&[&["cluster"], args].concat()).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    assert_eq!(
        node.sent()[2..],
        [
            r#"POST /v1/network/join token=s3cret {"url":"http://b:1"}"#,
            "POST /v1/cluster/members/node-b/remove token=s3cret {}",
            "POST /v1/cluster/transfer token=s3cret {}",
            r#"POST /v1/cluster/transfer token=s3cret {"to":"node-b"}"#,
        ]
    );
    assert_eq!(node.skyctl(&["cluster", "join", "b:1"]).await.code, Some(2));
    assert_eq!(node.skyctl(&["cluster", "remove", "node-x"]).await.code, Some(3));
}

const AUTOPILOT: &str = r#"{"nodeId":"node-a","healthy":false,"failureTolerance":0,"voters":3,"maxVoters":5,
    "caughtUpWithin":64,"answersWithinMs":1000,"healthyForMs":1500,"members":[{"raftId":"1","nodeId":"node-a",
    "role":"leader","healthy":true,"since":"2026-01-01T00:00:00.000Z"}]}"#;

#[tokio::test]
async fn an_unhealthy_cluster_is_told_by_the_exit_code_as_well() {
    let node = Coordinator::start(vec![("GET /v1/cluster/autopilot", 200, AUTOPILOT.into())]).await;
    let ran = node.skyctl(&["cluster", "autopilot", "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).expect("json");
    assert_eq!((ran.code, &json["failureTolerance"]), (Some(1), &0.into()));
    let table = node.skyctl(&["cluster", "autopilot"]).await;
    assert!(table.stdout.contains("healthy") && table.stdout.contains("node-a"), "{table:?}");
}

#[tokio::test]
async fn an_export_is_written_whole_or_not_at_all() {
    let state = r#"{"nodeId":"n"}"#;
    let node = Coordinator::start(vec![("GET /v1/state", 200, state.into())]).await;
    assert_eq!(node.skyctl(&["state", "export"]).await.stdout, state);
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("state.json");
    let args = ["state", "export", "--output", file.to_str().expect("path")];
    assert_eq!(node.skyctl(&args).await.code, Some(0));
    assert_eq!(std::fs::read_to_string(&file).expect("file"), state);
    std::fs::remove_file(&file).expect("remove");
    let refusing = Coordinator::start(vec![]).await;
    assert_eq!(refusing.skyctl(&args).await.code, Some(3));
    assert_eq!(std::fs::read_dir(dir.path()).expect("dir").count(), 0);
}

#[tokio::test]
async fn an_error_has_its_exit_code_and_says_what_to_do_and_never_the_token() {
    let refusal = r#"{"error":"unauthorized","code":"unauthorized"}"#;
    let node = Coordinator::start(vec![("GET /v1/hosts", 401, refusal.into())]).await;
    check(
        &node.skyctl(&["host", "list"]).await,
        4,
        &expect![""],
        &expect![
            "error: unauthorized: the coordinator wants another token (SKYCLAW_TOKEN or SKYCLAW_TOKEN_FILE)\n"
        ],
    );
    assert_eq!(node.skyctl(&["host"]).await.code, Some(2));
    let held = TcpSocket::new_v4().expect("socket");
    held.bind("127.0.0.1:0".parse().expect("address")).expect("bind");
    let url = format!("http://{}", held.local_addr().expect("address"));
    let down = skyctl(&url, &["host", "list"]).await;
    assert_eq!(down.code, Some(5));
    assert!(
        down.stderr.contains(&format!("{url}: connection refused (is skyclawd running there?)")),
        "{down:?}"
    );
    assert!(!down.stderr.contains("s3cret"));
}
