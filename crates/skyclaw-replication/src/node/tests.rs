//! Whether a node is told from one that hangs.

use std::sync::mpsc::sync_channel;

use tokio_util::task::TaskTracker;

use super::kit::{alone, end};
use super::*;

/// Far longer than an answer takes, and no more than a test may.
const A_WHILE: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_node_whose_state_is_stuck_does_not_answer_and_does_again_when_it_is_not() {
    let (dir, tracker) = (tempfile::tempdir().expect("a folder"), TaskTracker::new());
    let node = alone(dir.path(), 1, &tracker).await;
    assert!(node.answers().await);
    let (entered, has_entered) = sync_channel(1);
    let (release, released) = sync_channel::<()>(1);
    let machine = node.0.machine.clone();
    let stuck = tracker.spawn(async move {
        let stuck = machine.look(move |_| {
            let _ = entered.send(());
            let _ = released.recv();
        });
        stuck.await.is_ok()
    });
    tokio::task::spawn_blocking(move || has_entered.recv()).await.expect("no panic").expect("it is stuck");
    assert!(tokio::time::timeout(A_WHILE, node.answers()).await.is_err(), "nobody owns its state now");
    drop(release);
    assert!(stuck.await.expect("no panic"));
    assert!(node.answers().await);
    end(node, tracker).await;
}

#[tokio::test]
async fn a_node_that_waits_for_others_or_is_held_answers() {
    let (dir, tracker) = (tempfile::tempdir().expect("a folder"), TaskTracker::new());
    // Nobody else will ever come.
    let node = alone(dir.path(), 2, &tracker).await;
    assert!(!node.health().ready);
    assert!(node.answers().await);
    let held = node.0.proposer.hold().await;
    assert!(node.answers().await);
    drop(held);
    end(node, tracker).await;
}

#[tokio::test]
async fn a_node_that_has_ended_does_not_say_that_it_is_well() {
    let (dir, tracker) = (tempfile::tempdir().expect("a folder"), TaskTracker::new());
    let node = alone(dir.path(), 1, &tracker).await;
    node.shutdown().await;
    assert!(!node.answers().await);
    drop(node);
    tracker.close();
    tracker.wait().await;
}
