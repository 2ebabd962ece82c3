//! A node for tests, and what it is asked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skyclaw_core::Operation;
use skyclaw_proto::{Capabilities, JobId, Links, Payload, Plan, ShellPayload, Timestamp};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::Node;
use crate::options::Options;
use crate::peer::HttpWire;

/// One that starts as the whole of a cluster, at a time that stands still.
pub(crate) async fn alone(dir: &Path, min_replications: u32, tracker: &TaskTracker) -> Node {
    let options = Options {
        events: crate::Retention::default(),
        jobs: crate::JobRetention::default(),
        node_id: None,
        db_path: dir.join("coordinator.db"),
        lease: Duration::from_secs(60),
        token: "secret".into(),
        url: None,
        peer_urls: Vec::new(),
        bootstrap_expect: 1,
        max_voters: 5,
        discovery: None,
        wire: Arc::new(HttpWire::new([]).expect("a wire")),
        min_replications,
        clock: || Timestamp::from_millis(1_767_225_600_000),
        new_uuid: Uuid::now_v7,
    };
    Node::start(options, tracker).await.expect("a node")
}

/// Ends it, and all that it has begun.
pub(crate) async fn end(node: Node, tracker: TaskTracker) {
    node.shutdown().await;
    drop(node);
    tracker.close();
    tracker.wait().await;
}

/// A job that any host can take that runs commands.
pub(crate) fn enqueue(id: JobId) -> Operation {
    enqueue_with(id, None, None)
}

/// The same with a plan, and with what it depends on.
pub(crate) fn enqueue_with(id: JobId, plan: Option<Arc<Plan>>, links: Option<Arc<Links>>) -> Operation {
    Operation::Enqueue {
        id,
        payload: Arc::new(Payload::Shell(ShellPayload { command: "true".into(), ..Default::default() })),
        required: Capabilities::new(["shell"]),
        submitted_by: None,
        priority: 50,
        labels: Default::default(),
        terms: None,
        plan,
        links,
    }
}
