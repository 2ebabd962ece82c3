//! Jobs that have ended are forgotten by age and by count, for good, and without anything being done twice for it.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use skyclaw_core::{IdempotencyKey, Operation, Refusal, Reply};
use skyclaw_proto::{EventId, JobId, NoticeKind, Plan, Timestamp, record};
use skyclaw_replication::{JobFilter, JobRetention, Node, Options, Told, WriteError};
use tokio_util::task::TaskTracker;

use crate::{claimed, completion, enqueue, enqueued, key, options, register, skyclaw_clock, stop};

const HOUR_MS: i64 = 3_600_000;

async fn start(dir: &Path, jobs: JobRetention, clock: fn() -> Timestamp) -> (Node, TaskTracker) {
    let tracker = TaskTracker::new();
    let options = Options { jobs, clock, ..options(dir) };
    (Node::start(options, &tracker).await.expect("the node starts"), tracker)
}

/// The time of the tests and so much more.
fn later(ms: &AtomicI64) -> Timestamp {
    Timestamp::from_millis(skyclaw_clock().as_millis() + ms.load(Ordering::Relaxed))
}

fn kept_for(age_ms: u64) -> JobRetention {
    JobRetention { age: Some(Duration::from_millis(age_ms)), count: None }
}

/// Jobs that were enqueued and called off, in the order of that.
async fn ended(node: &Node, count: usize, plan: Option<Plan>) -> Vec<JobId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let mut operation = enqueue();
        if let Operation::Enqueue { plan: own, .. } = &mut operation {
            *own = plan.clone().map(Into::into);
        }
        let Ok(Reply::Job(job)) = node.write(None, operation).await.map(|written| written.reply) else {
            panic!("not enqueued");
        };
        node.write(None, Operation::Cancel { id: job.id.clone() }).await.expect("called off");
        ids.push(job.id.clone());
    }
    ids
}

/// How many jobs were forgotten, as is told.
fn forgotten(notice: &record::Notice) -> usize {
    if notice.kind != NoticeKind::Retention {
        return 0;
    }
    let count = notice.detail.as_deref().and_then(|detail| detail.split(' ').next());
    count.and_then(|count| count.parse().ok()).expect("a number")
}

/// The jobs there are, oldest first.
async fn there_are(node: &Node) -> Vec<JobId> {
    let page = node.jobs(&JobFilter::default(), None, 1000).await.expect("a page");
    page.iter().rev().map(|job| job.id.clone()).collect()
}

/// Waits until just these are there.
async fn wait_for(node: &Node, wanted: &[JobId]) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let left = there_are(node).await;
        if left == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{} are left, and should be {}", left.len(), wanted.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_ended_long_ago_is_forgotten_and_what_is_not_over_stays() {
    static PASSED: AtomicI64 = AtomicI64::new(0);
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path(), kept_for(3_600_000), || later(&PASSED)).await;
    register(&node.0, 1).await;
    let run = enqueued(&node.0).await;
    let fence = claimed(&node.0, Duration::ZERO, None).await[0].fence;
    node.0.write(None, completion(&run, Some(fence))).await.expect("completed");
    let old = ended(&node.0, 40, None).await;
    let short = ended(&node.0, 2, Some(Plan { retain_ms: Some(0), ..Plan::default() })).await;
    let long = ended(&node.0, 2, Some(Plan { retain_ms: Some(10 * 3_600_000), ..Plan::default() })).await;
    let queued = enqueued(&node.0).await;
    let all = [std::slice::from_ref(&run), &old[..], &short, &long, std::slice::from_ref(&queued)].concat();
    assert_eq!(there_are(&node.0).await, all);

    PASSED.store(HOUR_MS / 2, Ordering::Relaxed);
    let young = ended(&node.0, 3, None).await;
    let without_short =
        [std::slice::from_ref(&run), &old[..], &long, std::slice::from_ref(&queued), &young].concat();
    wait_for(&node.0, &without_short).await;
    PASSED.store(HOUR_MS + 10_000, Ordering::Relaxed);
    let left = [&long[..], std::slice::from_ref(&queued), &young].concat();
    wait_for(&node.0, &left).await;

    assert_eq!(node.0.job(&run).await.expect("read"), None);
    assert_eq!(node.0.explain(&run).await.expect("read"), None);
    let late = node.0.write(None, completion(&run, Some(fence))).await;
    assert_eq!(late, Err(WriteError::Refused(Refusal::UnknownJob(run.clone()))));
    stop(node).await;
    // The time of those that asked for more is over while nobody is there.
    PASSED.store(11 * HOUR_MS, Ordering::Relaxed);
    let node = start(dir.path(), kept_for(1_000_000 * 3_600_000), || later(&PASSED)).await;
    let left = [std::slice::from_ref(&queued), &young[..]].concat();
    wait_for(&node.0, &left).await;
    stop(node).await;
}

#[tokio::test]
async fn of_too_many_the_oldest_are_forgotten_and_those_with_their_own_time_last() {
    static PASSED: AtomicI64 = AtomicI64::new(0);
    let dir = tempfile::tempdir().expect("a directory");
    let keep = JobRetention { age: None, count: Some(20) };
    let node = start(dir.path(), keep, || later(&PASSED)).await;
    let long = ended(&node.0, 5, Some(Plan { retain_ms: Some(3_600_000), ..Plan::default() })).await;
    let usual = ended(&node.0, 50, None).await;
    let queued = enqueued(&node.0).await;
    PASSED.store(6_000, Ordering::Relaxed);
    let left = [&long[..], &usual[35..], std::slice::from_ref(&queued)].concat();
    wait_for(&node.0, &left).await;
    // More with a time of their own than may be kept at all.
    let more = ended(&node.0, 25, Some(Plan { retain_ms: Some(3_700_000), ..Plan::default() })).await;
    PASSED.store(12_000, Ordering::Relaxed);
    let left = [std::slice::from_ref(&queued), &more[5..]].concat();
    wait_for(&node.0, &left).await;
    stop(node).await;
}

#[tokio::test]
async fn who_repeats_an_enqueue_with_its_key_gets_the_same_answer_when_the_job_is_forgotten() {
    static PASSED: AtomicI64 = AtomicI64::new(0);
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path(), kept_for(60_000), || later(&PASSED)).await;
    let lasting = |name: &str| IdempotencyKey {
        expires_at: skyclaw_clock().plus(Duration::from_secs(7200)),
        ..key(name)
    };
    let first = node.0.write(Some(lasting("k")), enqueue()).await.expect("enqueued").reply;
    let Reply::Job(job) = &first else { panic!("{first:?}") };
    node.0.write(None, Operation::Cancel { id: job.id.clone() }).await.expect("called off");
    PASSED.store(120_000, Ordering::Relaxed);
    wait_for(&node.0, &[]).await;
    let again = node.0.write(Some(lasting("k")), enqueue()).await.expect("known").reply;
    assert_eq!(again, first);
    assert_eq!(there_are(&node.0).await, []);
    stop(node).await;
}

#[tokio::test]
async fn a_restart_amid_forgetting_goes_on_where_it_was() {
    static PASSED: AtomicI64 = AtomicI64::new(0);
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path(), kept_for(3_600_000), || later(&PASSED)).await;
    // More than one command names.
    ended(&node.0, 600, None).await;
    let queued = enqueued(&node.0).await;
    PASSED.store(2 * HOUR_MS, Ordering::Relaxed);
    let deadline = Instant::now() + Duration::from_secs(60);
    while there_are(&node.0).await.len() == 601 {
        assert!(Instant::now() < deadline, "it has not begun");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop(node).await;
    let node = start(dir.path(), kept_for(3_600_000), || later(&PASSED)).await;
    wait_for(&node.0, std::slice::from_ref(&queued)).await;
    // What was forgotten is told of: as many as there were, however many commands that took.
    let mut told = 0;
    let mut follow = node.0.follow(Some(EventId::START)).await.expect("a stream");
    loop {
        match follow.next().await.expect("a part") {
            Told::Changes(notices) => told += notices.iter().map(forgotten).sum::<usize>(),
            Told::CaughtUp => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, 600);
    stop(node).await;
}
