//! Freezes and drains, as heartbeats learn of them.

use std::time::Duration;

use skyclaw_core::{Operation, Reply};
use skyclaw_proto::request::RunningJob;
use skyclaw_proto::response::StopReason;
use skyclaw_proto::{FreezeId, Scope};
use skyclaw_replication::Node;

use crate::{claimed, enqueued, host, node_task, register, start, stop};

const LONG: Duration = Duration::from_secs(60);

async fn freeze(node: &Node, id: &str) {
    let id = FreezeId::parse(id).expect("an id");
    let operation = Operation::Freeze { id, scope: Scope::default(), reason: None, by: None };
    let written = node.write(None, operation).await.expect("frozen");
    assert!(matches!(written.reply, Reply::Freeze(_)), "{written:?}");
}

async fn running(node: &Node) -> Vec<RunningJob> {
    let id = enqueued(node).await;
    let fence = claimed(node, Duration::ZERO, None).await[0].fence;
    vec![RunningJob { job_id: id, fence }]
}

#[tokio::test]
async fn a_heartbeat_that_waits_hears_of_a_freeze_and_a_claim_that_waits_of_the_thaw() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    register(&node.0, 2).await;
    let running = running(&node.0).await;
    let waiting = {
        let (node, running) = (node.0.clone(), running.clone());
        node_task(&node.clone(), async move { node.heartbeat(&host(), running, LONG).await })
    };
    freeze(&node.0, "f1").await;
    let told = waiting.await.expect("joined").expect("beat");
    assert_eq!(told.stop[0].reason, StopReason::Frozen);
    enqueued(&node.0).await;
    assert!(claimed(&node.0, Duration::ZERO, None).await.is_empty());
    let waiting = {
        let node = node.0.clone();
        node_task(&node.clone(), async move { claimed(&node, LONG, None).await })
    };
    let id = FreezeId::parse("f1").expect("an id");
    node.0.write(None, Operation::Thaw { id, by: None }).await.expect("thawed");
    assert_eq!(waiting.await.expect("joined").len(), 1);
    stop(node).await;
}

#[tokio::test]
async fn a_node_that_starts_to_lead_tells_what_is_frozen_unasked_and_once_in_a_hurry() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    register(&node.0, 2).await;
    let running = running(&node.0).await;
    freeze(&node.0, "f1").await;
    stop(node).await;
    let node = start(dir.path()).await;
    // It would wait for a minute if this were no news.
    let told = node.0.heartbeat(&host(), running.clone(), LONG).await.expect("beat");
    assert_eq!(told.stop[0].reason, StopReason::Frozen);
    let again = node.0.heartbeat(&host(), running, Duration::from_millis(50)).await.expect("beat");
    assert_eq!(again.stop, told.stop, "told again until it is done");
    assert_eq!(node.0.freezes().await.expect("freezes").len(), 1);
    stop(node).await;
}

#[tokio::test]
async fn a_heartbeat_that_waits_hears_when_its_host_has_no_more_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    register(&node.0, 2).await;
    let running = running(&node.0).await;
    let drain = |deadline_ms| Operation::DrainHost { id: host(), deadline_ms, reason: None, by: None };
    node.0.write(None, drain(None)).await.expect("drained");
    let told = node.0.heartbeat(&host(), running.clone(), Duration::ZERO).await.expect("beat");
    assert!(told.stop.is_empty() && told.host.drain.is_some());
    let waiting = {
        let node = node.0.clone();
        node_task(&node.clone(), async move { node.heartbeat(&host(), running, LONG).await })
    };
    node.0.write(None, drain(Some(0))).await.expect("drained");
    let told = waiting.await.expect("joined").expect("beat");
    assert_eq!(told.stop[0].reason, StopReason::Draining);
    stop(node).await;
}
