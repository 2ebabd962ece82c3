//! What is forgotten in a step.

use skyclaw_core::IdempotencyKey;
use skyclaw_proto::JobId;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::progress::JOBS_AT_ONCE;
use super::*;
use crate::node::Node;
use crate::node::kit::{alone, end, enqueue};

/// Far beyond all that is kept.
fn far_off() -> Timestamp {
    Timestamp::EPOCH.plus(Duration::from_secs(100 * 365 * 24 * 3600))
}

/// Jobs that have ended, each with the reply to a key of its own that expires when no other does.
async fn ended(node: &Node, count: i64) {
    for n in 0..count {
        let key = IdempotencyKey {
            caller: "core".into(),
            route: "/v1/jobs".into(),
            key: n.to_string(),
            fingerprint: [1; 32],
            expires_at: Timestamp::from_millis(n),
        };
        let id = JobId::from_uuid(Uuid::now_v7());
        node.write(Some(key), enqueue(id.clone())).await.expect("enqueued");
        node.write(None, Operation::Cancel { id }).await.expect("cancelled");
    }
}

#[tokio::test]
async fn each_step_forgets_replies_however_many_jobs_there_are_to_forget() {
    let (dir, tracker) = (tempfile::tempdir().expect("a folder"), TaskTracker::new());
    let node = alone(dir.path(), 1, &tracker).await;
    ended(&node, 2 * i64::from(JOBS_AT_ONCE.0)).await;
    let inner = &node.0;
    let pruner = Pruner {
        machine: inner.machine.clone(),
        proposer: inner.proposer.clone(),
        stamper: Stamper { clock: far_off, ..inner.stamper.clone() },
        keep: JobRetention::default(),
        leading: inner.leading.clone(),
        stop: inner.stop.clone(),
    };
    let left = async || {
        inner.machine.settle().await.expect("written");
        let store = inner.machine.store();
        let replies = store.expired_replies(Timestamp::EPOCH, far_off(), u32::MAX).await.expect("counted");
        (store.count_ended().await.expect("counted").usual, replies.map_or(0, |replies| replies.count))
    };
    let (jobs, replies) = left().await;
    let (mut progress, mut counted, mut tally) = (Progress::new(), None, Tally::default());
    let next = pruner.step(&mut progress, &mut counted, &mut tally).await.expect("a step");
    assert!(matches!(next, Next::More));
    let (jobs_after, replies_after) = left().await;
    assert!((1..jobs).contains(&jobs_after), "{jobs_after} of {jobs} jobs are left");
    assert!(replies_after < replies, "{replies_after} of {replies} replies are left");
    drop(pruner);
    end(node, tracker).await;
}

#[test]
fn those_with_a_time_of_their_own_go_by_count_only_when_they_alone_are_too_many() {
    let of = |usual, own, most| {
        let surplus = surplus(&EndedCount { usual, own, oldest: None }, most);
        (surplus.usual, surplus.own)
    };
    assert_eq!(of(10, 0, None), (0, 0));
    assert_eq!(of(10, 0, Some(10)), (0, 0));
    assert_eq!(of(10, 5, Some(10)), (5, 0));
    assert_eq!(of(3, 10, Some(10)), (3, 0));
    assert_eq!(of(3, 12, Some(10)), (3, 2));
    assert_eq!(of(u64::MAX, 5, Some(10)), (u64::MAX - 10, 0));
}
