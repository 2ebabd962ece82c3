//! A coordinator without sockets, for tests of what only shows on a whole router.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request};
use serde_json::Value;
use skyclaw_config::{clock, ids};
use skyclaw_replication::{Node, Options};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::app::{App, Shared};
use crate::metrics::{Metrics, Sheds};
use crate::public_keys::PublicKeys;
use crate::router::{Router, router};
use crate::server::Answers as _;

/// A coordinator of one node that asks for no token.
pub(crate) struct Kit {
    pub(crate) app: Shared,
    router: Router,
    _dir: TempDir,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    /// `null` when the body is none.
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Kit {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut App)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let tracker = TaskTracker::new();
        let options = Options {
            node_id: None,
            db_path: dir.path().join("coordinator.db"),
            lease: Duration::from_secs(60),
            token: String::new(),
            url: None,
            peer_urls: Vec::new(),
            bootstrap_expect: 1,
            max_voters: 5,
            discovery: None,
            wire: Arc::new(skyclaw_replication::HttpWire::new([]).expect("a client")),
            events: skyclaw_replication::Retention::default(),
            jobs: skyclaw_replication::JobRetention::default(),
            min_replications: 1,
            clock: clock::now,
            new_uuid: ids::uuid,
        };
        let node = Node::start(options, &tracker).await.expect("a node");
        let mut app = App {
            metrics: Metrics::new(&node, &Sheds::default()),
            node,
            public_url: None,
            token: None,
            public_keys: PublicKeys::default(),
            cors_origin: HeaderValue::from_static("*"),
            admission: Admission::new(100, 100),
            bulk: Arc::new(Semaphore::new(1)),
            body_timeout: Duration::from_secs(30),
            idempotency_ttl: Duration::from_secs(3600),
            soft: CancellationToken::new(),
            tracker,
            clock: clock::now,
            new_uuid: ids::uuid,
        };
        change(&mut app);
        let app = Arc::new(app);
        Self { router: router(Arc::clone(&app)), app, _dir: dir }
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.call("GET", path, headers, "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, &[], &body.to_string()).await
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        let response = self.router.answer(request).await;
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a whole body");
        let json = serde_json::from_slice(&bytes).unwrap_or_default();
        Answer { status: parts.status.as_u16(), headers: parts.headers, json }
    }

    /// Ends the node, so that its files can be removed.
    pub(crate) async fn end(&self) {
        self.app.node.shutdown().await;
    }
}
