//! A coordinator that answers as it is told and tells what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::LONG;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The last part of the path, `services/claim` for that one.
    pub(crate) what: &'static str,
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) key: Option<String>,
    pub(crate) token: Option<String>,
}

/// Status and body.
pub(crate) type Answer = (u16, Value);
type Rule = Box<dyn Fn(&Asked) -> Option<Answer> + Send + Sync>;

struct Shared {
    rule: Rule,
    asked: mpsc::Sender<Asked>,
    jobs: Mutex<VecDeque<Value>>,
    services: Mutex<VecDeque<Value>>,
    enqueued: Notify,
    /// Whether questions may wait here; a reference coordinator answers at once.
    waits: bool,
}

/// The coordinator; it is gone when dropped.
pub(crate) struct Scripted {
    pub(crate) url: String,
    asked: mpsc::Receiver<Asked>,
    shared: Arc<Shared>,
    _server: AbortOnDropHandle<()>,
}

impl Scripted {
    /// One that answers by the contract, unless `rule` has an answer.
    pub(crate) async fn start(rule: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Self {
        Self::with(true, rule).await
    }

    /// One that lets nothing wait, as the reference.
    pub(crate) async fn reference() -> Self {
        Self::with(false, |_| None).await
    }

    async fn with(waits: bool, rule: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let (send, asked) = mpsc::channel(10_000);
        let shared = Arc::new(Shared {
            rule: Box::new(rule),
            asked: send,
            jobs: Mutex::default(),
            services: Mutex::default(),
            enqueued: Notify::new(),
            waits,
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let app = Router::new().fallback(answer).with_state(shared.clone());
        let server = TaskTracker::new().spawn(async { axum::serve(listener, app).await.expect("serve") });
        Self { url, asked, shared, _server: AbortOnDropHandle::new(server) }
    }

    /// Has a job to be claimed.
    pub(crate) fn enqueue(&self, job: Value) {
        locked(&self.shared.jobs).push_back(job);
        self.shared.enqueued.notify_one();
    }

    /// Has a service to be claimed.
    pub(crate) fn deploy(&self, service: Value) {
        locked(&self.shared.services).push_back(service);
    }

    /// The next request of a kind; those of other kinds before it are passed over.
    pub(crate) async fn next(&mut self, what: &str) -> Asked {
        self.next_where(what, |_| true).await
    }

    /// The next request of a kind that is as wanted.
    pub(crate) async fn next_where(&mut self, what: &str, wanted: impl Fn(&Asked) -> bool) -> Asked {
        let next = async {
            loop {
                let asked = self.asked.recv().await.expect("the server runs");
                if asked.what == what && wanted(&asked) {
                    return asked;
                }
            }
        };
        tokio::time::timeout(LONG, next).await.expect("it must be asked")
    }

    /// The very next request.
    pub(crate) async fn first(&mut self) -> Asked {
        tokio::time::timeout(LONG, self.asked.recv())
            .await
            .expect("it must be asked")
            .expect("the server runs")
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let kinds = ["register", "heartbeat", "services/claim", "claim", "complete", "report"];
    let asked = Asked {
        what: kinds.into_iter().find(|kind| uri.path().ends_with(kind)).unwrap_or("other"),
        path: uri.path().to_owned(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        key: text("x-idempotency-key"),
        token: text("x-skyclaw-token"),
    };
    let ruled = (shared.rule)(&asked);
    let wait = Duration::from_millis(asked.body["waitMs"].as_u64().filter(|_| shared.waits).unwrap_or(0));
    let what = asked.what;
    // Nobody listens at the end of a test.
    let _ = shared.asked.send(asked).await;
    let (status, body) = match ruled {
        Some(answer) => answer,
        None => (200, usual(&shared, what, wait).await),
    };
    (StatusCode::from_u16(status).expect("a status"), body.to_string())
}

async fn usual(shared: &Shared, what: &str, wait: Duration) -> Value {
    match what {
        "claim" => {
            let claim = || locked(&shared.jobs).pop_front();
            let mut job = claim();
            if job.is_none() {
                let _ = tokio::time::timeout(wait, shared.enqueued.notified()).await;
                job = claim();
            }
            json!({ "job": job, "jobs": job.into_iter().collect::<Vec<_>>() })
        }
        "services/claim" => json!({ "service": locked(&shared.services).pop_front() }),
        "complete" => json!({ "job": job("any", 1, "true") }),
        "report" => json!({ "service": service("any", "true") }),
        _ => {
            if what == "heartbeat" {
                tokio::time::sleep(wait).await;
            }
            json!({ "host": host() })
        }
    }
}

/// The host as a coordinator has it.
pub(crate) fn host() -> Value {
    json!({
        "id": "host_1", "name": "test", "capabilities": [], "maxParallel": 1, "activeLeases": 0,
        "lastSeenAt": "2026-01-01T00:00:00.000Z", "registeredAt": "2026-01-01T00:00:00.000Z",
        "updatedBy": "node-a", "version": 1,
    })
}

/// A leased job with a lease of a minute.
pub(crate) fn job(id: &str, fence: u64, script: &str) -> Value {
    json!({
        "id": id, "createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z",
        "leaseExpiresAt": "2026-01-01T00:01:00.000Z", "updatedBy": "node-a", "version": 2,
        "status": "leased", "attempts": 1, "assignedHostId": "host_1", "fence": fence,
        "payload": { "kind": "shell", "command": "sh", "args": ["-c", script] },
    })
}

/// A service for one host.
pub(crate) fn service(id: &str, script: &str) -> Value {
    json!({
        "id": id, "name": "api", "command": "sh", "args": ["-c", script], "replicas": 1,
        "status": "pending", "createdAt": "2026-01-01T00:00:00.000Z",
        "updatedAt": "2026-01-01T00:00:00.000Z", "updatedBy": "node-a", "version": 1,
    })
}
