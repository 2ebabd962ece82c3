//! A node on a disk of its own, used as the HTTP layer uses it.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod cluster;
mod frozen;
mod net;
mod retention;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skyclaw_core::{Completion, IdempotencyKey, Operation, Refusal, Reply};
use skyclaw_proto::request::RunningJob;
use skyclaw_proto::response::StopReason;
use skyclaw_proto::{Capabilities, HostId, JobId, JobStatus, NodeId, Payload, ShellPayload, Timestamp};
use skyclaw_replication::{JobFilter, Node, Options, StartError, WriteError};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

const LEASE: Duration = Duration::from_secs(60);

fn options(dir: &Path) -> Options {
    Options {
        node_id: None,
        db_path: dir.join("coordinator.db"),
        lease: LEASE,
        token: "secret".into(),
        url: None,
        peer_urls: Vec::new(),
        bootstrap_expect: 1,
        max_voters: 5,
        discovery: None,
        wire: Arc::new(net::Net::default()).port("http://alone"),
        events: skyclaw_replication::Retention::default(),
        jobs: skyclaw_replication::JobRetention::default(),
        min_replications: 1,
        clock: skyclaw_clock,
        new_uuid: Uuid::now_v7,
    }
}

/// The tests' clock stands still: nothing here may depend on wall time passing.
fn skyclaw_clock() -> Timestamp {
    Timestamp::from_millis(1_767_225_600_000)
}

async fn start(dir: &Path) -> (Node, TaskTracker) {
    let tracker = TaskTracker::new();
    let node = Node::start(options(dir), &tracker).await.expect("the node starts");
    (node, tracker)
}

async fn stop((node, tracker): (Node, TaskTracker)) {
    node.shutdown().await;
    drop(node);
    tracker.close();
    tracker.wait().await;
}

fn host() -> HostId {
    HostId::parse("host-a").expect("an id")
}

async fn register(node: &Node, max_parallel: u32) {
    let operation = Operation::RegisterHost {
        id: host(),
        name: "a".into(),
        capabilities: Capabilities::new(["shell"]),
        max_parallel,
        enforces: None,
    };
    node.write(None, operation).await.expect("registered");
}

fn enqueue() -> Operation {
    Operation::Enqueue {
        id: JobId::from_uuid(Uuid::now_v7()),
        payload: Arc::new(Payload::Shell(ShellPayload { command: "true".into(), ..Default::default() })),
        required: Capabilities::new(["shell"]),
        submitted_by: None,
        priority: 50,
        labels: Default::default(),
        terms: None,
        plan: None,
        links: None,
    }
}

async fn enqueued(node: &Node) -> JobId {
    match node.write(None, enqueue()).await.expect("enqueued").reply {
        Reply::Job(job) => job.id.clone(),
        other => panic!("{other:?}"),
    }
}

async fn claimed(node: &Node, wait: Duration, key: Option<IdempotencyKey>) -> Vec<Arc<skyclaw_core::Job>> {
    match node.claim(&host(), 10, wait, key).await.expect("claimed").reply {
        Reply::Claimed(jobs) => jobs,
        other => panic!("{other:?}"),
    }
}

fn completion(id: &JobId, fence: Option<u64>) -> Operation {
    Operation::Complete(Completion {
        fence,
        stdout: "out".into(),
        ..Completion::new(id.clone(), host(), true)
    })
}

fn key(name: &str) -> IdempotencyKey {
    IdempotencyKey {
        caller: "core".into(),
        route: "/v1/jobs".into(),
        key: name.into(),
        fingerprint: [1; 32],
        expires_at: skyclaw_clock().plus(LEASE),
    }
}

#[tokio::test]
async fn a_job_lives_through_restarts_from_queue_to_result() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    register(&node.0, 1).await;
    let id = enqueued(&node.0).await;
    let name = node.0.node_id().clone();
    stop(node).await;

    let node = start(dir.path()).await;
    assert_eq!(*node.0.node_id(), name, "a name that was made is kept");
    let jobs = claimed(&node.0, Duration::ZERO, None).await;
    assert_eq!(jobs.iter().map(|job| &job.id).collect::<Vec<_>>(), [&id]);
    stop(node).await;

    let node = start(dir.path()).await;
    assert_eq!(node.0.host(&host()).await.expect("read").map(|host| host.active_leases), Some(1));
    node.0.write(None, completion(&id, Some(jobs[0].fence))).await.expect("completed");
    stop(node).await;

    let node = start(dir.path()).await;
    let job = node.0.job(&id).await.expect("read").expect("the job");
    assert_eq!(job.status(), JobStatus::Completed);
    let again = node.0.write(None, completion(&id, None)).await;
    assert_eq!(again, Err(WriteError::Refused(Refusal::NotLeased(id.clone()))));
    stop(node).await;
}

#[tokio::test]
async fn a_write_is_found_by_every_read_that_follows() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    for expected in 1..=50 {
        let id = enqueued(&node.0).await;
        assert!(node.0.job(&id).await.expect("read").is_some());
        let page = node.0.jobs(&JobFilter::default(), None, 1000).await.expect("read");
        assert_eq!(page.len(), expected);
        assert_eq!(page[0].id, id, "the newest comes first");
    }
    stop(node).await;
}

#[tokio::test]
async fn a_key_gives_the_same_job_before_and_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    let first = node.0.write(Some(key("k")), enqueue()).await.expect("enqueued").reply;
    let second = node.0.write(Some(key("k")), enqueue()).await.expect("known").reply;
    assert_eq!(first, second);
    stop(node).await;
    let node = start(dir.path()).await;
    let third = node.0.write(Some(key("k")), enqueue()).await.expect("known").reply;
    assert_eq!(first, third);
    let other = IdempotencyKey { fingerprint: [2; 32], ..key("k") };
    let refused = node.0.write(Some(other), enqueue()).await;
    assert_eq!(refused, Err(WriteError::Refused(Refusal::KeyReused("/v1/jobs".into()))));
    stop(node).await;
}

#[tokio::test]
async fn a_claim_that_waits_is_woken_by_an_enqueue() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    register(&node.0, 1).await;
    let waiting = {
        let node = node.0.clone();
        node_task(&node.clone(), async move { claimed(&node, Duration::from_secs(60), None).await })
    };
    let id = enqueued(&node.0).await;
    let jobs = waiting.await.expect("joined");
    assert_eq!(jobs.iter().map(|job| &job.id).collect::<Vec<_>>(), [&id]);
    stop(node).await;
}

#[tokio::test]
async fn a_claim_that_waits_goes_into_the_entry_of_the_job_it_waits_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    register(&node.0, 1).await;
    let mut rode = false;
    // Whether a claim waits already is not to be seen from here: it may come too late some times.
    for _ in 0..100 {
        let there = node.0.clone();
        let claim = async move { there.claim(&host(), 10, Duration::from_secs(60), None).await };
        let waiting = node_task(&node.0, claim);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let queued = node.0.write(None, enqueue()).await.expect("enqueued");
        let claimed = waiting.await.expect("joined").expect("claimed");
        let (Reply::Job(job), Reply::Claimed(jobs)) = (&queued.reply, &claimed.reply) else {
            panic!("{queued:?} {claimed:?}")
        };
        assert_eq!(job.status(), JobStatus::Queued, "it was told as it was queued");
        assert_eq!(jobs.iter().map(|job| &job.id).collect::<Vec<_>>(), [&job.id]);
        assert!(claimed.index >= queued.index);
        rode |= claimed.index == queued.index;
        node.0.write(None, completion(&job.id, Some(jobs[0].fence))).await.expect("completed");
    }
    assert!(rode, "no claim was in the entry of its job");
    stop(node).await;
}

/// Runs beside the test, without a tracker: it is joined by the test itself.
#[expect(clippy::disallowed_methods, reason = "the test joins it")]
fn node_task<T: Send + 'static>(
    _node: &Node,
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}

#[tokio::test]
async fn a_claim_repeated_with_its_key_returns_the_same_job_while_the_lease_holds() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    register(&node.0, 5).await;
    let id = enqueued(&node.0).await;
    let first = claimed(&node.0, Duration::ZERO, Some(key("c"))).await;
    assert_eq!(first[0].id, id);
    let second = claimed(&node.0, Duration::from_secs(30), Some(key("c"))).await;
    assert_eq!(first, second, "although the queue is empty");
    node.0.write(None, completion(&id, None)).await.expect("completed");
    assert!(claimed(&node.0, Duration::ZERO, Some(key("c"))).await.is_empty(), "its lease is over");
    stop(node).await;
}

#[tokio::test]
async fn a_heartbeat_learns_of_a_cancelled_run_and_of_one_that_is_not_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    register(&node.0, 1).await;
    let id = enqueued(&node.0).await;
    let fence = claimed(&node.0, Duration::ZERO, None).await[0].fence;
    let running = |fence| vec![RunningJob { job_id: id.clone(), fence }];
    let told = node.0.heartbeat(&host(), running(fence), Duration::ZERO).await.expect("beat");
    assert!(told.stop.is_empty());
    let told = node.0.heartbeat(&host(), running(fence + 1), Duration::from_secs(30)).await.expect("beat");
    assert_eq!(told.stop[0].reason, StopReason::NotLeased);

    let waiting = {
        let (node, running) = (node.0.clone(), running(fence));
        node_task(
            &node.clone(),
            async move { node.heartbeat(&host(), running, Duration::from_secs(60)).await },
        )
    };
    node.0.write(None, Operation::Cancel { id: id.clone() }).await.expect("cancelled");
    let told = waiting.await.expect("joined").expect("beat");
    assert_eq!(told.stop[0].reason, StopReason::Cancelled);
    stop(node).await;
}

#[tokio::test]
async fn an_unknown_host_is_told_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    let refused = node.0.heartbeat(&host(), vec![], Duration::ZERO).await;
    assert_eq!(refused.err(), Some(WriteError::Refused(Refusal::UnknownHost(host()))));
    let refused = node.0.claim(&host(), 1, Duration::ZERO, None).await;
    assert_eq!(refused, Err(WriteError::Refused(Refusal::UnknownHost(host()))));
    stop(node).await;
}

#[tokio::test]
async fn a_node_short_of_peers_writes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let tracker = TaskTracker::new();
    let lonely = Options { min_replications: 2, ..options(dir.path()) };
    let node = Node::start(lonely, &tracker).await.expect("the node starts");
    let before = node.applied();
    let refused = node.write(None, enqueue()).await;
    assert_eq!(refused, Err(WriteError::InsufficientPeers { needed: 1, known: 0 }));
    assert!(node.learn("http://127.0.0.1:1"));
    let refused = node.write(None, enqueue()).await;
    assert_eq!(refused, Err(WriteError::PeersUnreachable { needed: 1, reached: 0 }));
    assert_eq!(node.applied(), before);
    assert!(!node.health().ready);
    stop((node, tracker)).await;
}

#[tokio::test]
async fn a_database_without_its_log_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    enqueued(&node.0).await;
    stop(node).await;
    let log = options(dir.path()).log_dir();
    std::fs::remove_dir_all(&log).expect("removed");
    let refused = Node::start(options(dir.path()), &TaskTracker::new()).await.err();
    assert!(matches!(refused, Some(StartError::Log(_))), "{refused:?}");
}

#[tokio::test]
async fn a_lost_database_is_made_anew_from_a_whole_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    let id = enqueued(&node.0).await;
    stop(node).await;
    for name in ["coordinator.db", "coordinator.db-wal", "coordinator.db-shm"] {
        let _ = std::fs::remove_file(dir.path().join(name));
    }
    let node = start(dir.path()).await;
    assert!(node.0.job(&id).await.expect("read").is_some());
    stop(node).await;
}

#[tokio::test]
async fn a_command_that_comes_again_brings_no_job_back_that_has_ended() {
    let dir = tempfile::tempdir().expect("a directory");
    let status = async |node: &Node, operation: &Operation| match node.write(None, operation.clone()).await {
        Ok(written) => match written.reply {
            Reply::Job(job) => job.status(),
            other => panic!("{other:?}"),
        },
        Err(error) => panic!("{error}"),
    };
    let node = start(dir.path()).await;
    let commands: Vec<Operation> = (0..3).map(|_| enqueue()).collect();
    // Not in the order in which their ids were made.
    for command in commands.iter().rev() {
        let Operation::Enqueue { id, .. } = command else { panic!("{command:?}") };
        assert_eq!(status(&node.0, command).await, JobStatus::Queued);
        node.0.write(None, Operation::Cancel { id: id.clone() }).await.expect("cancelled");
        assert_eq!(status(&node.0, command).await, JobStatus::Cancelled, "in memory");
    }
    node.0.jobs(&JobFilter::default(), None, 1).await.expect("all of it in the database");
    for command in &commands {
        assert_eq!(status(&node.0, command).await, JobStatus::Cancelled, "in the database");
    }
    stop(node).await;
    let node = start(dir.path()).await;
    assert_eq!(status(&node.0, &enqueue()).await, JobStatus::Queued, "a new one");
    for command in &commands {
        assert_eq!(status(&node.0, command).await, JobStatus::Cancelled, "after a restart");
    }
    stop(node).await;
}

#[tokio::test]
async fn names_given_later_replace_the_one_that_was_made() {
    let dir = tempfile::tempdir().expect("a directory");
    stop(start(dir.path()).await).await;
    let tracker = TaskTracker::new();
    let named = Options { node_id: Some(NodeId::parse("node-a").expect("an id")), ..options(dir.path()) };
    let node = Node::start(named, &tracker).await.expect("the node starts");
    assert_eq!(node.node_id().as_str(), "node-a");
    stop((node, tracker)).await;
}
