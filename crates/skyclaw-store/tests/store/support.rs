//! Records to write, and a way to say everything a store holds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use skyclaw_core::model::{Assignment, EndStatus, Ended, Host, Job, Lease, Lost, Phase, Run, Service};
use skyclaw_core::{Attempt, Change, Counters, IdempotencyKey, Life, Pruned, Reply, StoredReply, WhyPruned};
use skyclaw_proto::payload::ShellPayload;
use skyclaw_proto::{
    AssignmentStatus, Capabilities, JobStatus, NodeId, Payload, Plan, Retry, ServiceStatus, Timestamp,
};
use skyclaw_store::{Batch, OpenError, Opened, Options, Position, Section, Store};
use tokio_util::task::TaskTracker;

pub(crate) fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: impl AsRef<str>) -> T {
    text.as_ref().parse().expect("an id")
}

pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

pub(crate) fn phase(n: u64) -> Phase {
    let ended = |status| {
        Phase::Ended(Ended {
            status,
            host: Some(id(format!("h{}", n % 3))),
            run: Some(Arc::new(Run {
                finished_at: at(9),
                duration_ms: n,
                exit_code: -1,
                stdout: "out\0\n".into(),
                stderr: "Fehler: ü".into(),
                usage: None,
                oom: false,
            })),
            error: Some("no".into()),
        })
    };
    match n % 4 {
        _ if n % 16 == 15 => {
            Phase::Lost(Lost { host: id(format!("h{}", n % 3)), since: at(8), why: "gone".into() })
        }
        0 => Phase::Queued,
        1 => Phase::Leased(Lease {
            host: id(format!("h{}", n % 3)),
            expires_at: at(7),
            cancel_requested_at: None,
        }),
        2 => ended(EndStatus::Completed),
        _ => ended(EndStatus::Failed),
    }
}

fn life(seq: u64) -> Life {
    let attempt = Attempt {
        number: 1,
        status: JobStatus::Failed,
        ended_at: at(5),
        host: Some(id("h1")),
        fence: seq,
        duration_ms: Some(7),
        exit_code: Some(3),
        error: Some("broke".into()),
        stdout: "so far".into(),
        stderr: "ünïcode".into(),
        oom: false,
    };
    let retry = Some(Retry { max_attempts: 3, ..Retry::default() });
    Life {
        plan: Arc::new(Plan { ttl_ms: Some(1000), not_before: Some(at(6)), retry, retain_ms: None }),
        claimable_at: Some(at(9)),
        expires_at: Some(at(10)),
        failures: 1,
        attempts: vec![Arc::new(attempt)],
        adopted: false,
    }
}

pub(crate) fn job(seq: u64, version: u64) -> Job {
    Job {
        id: id(format!("job_{seq:04}")),
        seq,
        created_at: at(1),
        updated_at: at(2),
        updated_by: id("node_a"),
        version,
        attempts: 1,
        priority: 50,
        required: Capabilities::new(["shell"]),
        payload: Arc::new(Payload::Shell(ShellPayload { command: "true".into(), ..Default::default() })),
        labels: BTreeMap::from([("team".into(), format!("t={}", seq % 2))]),
        submitted_by: (seq % 2 == 1).then(|| "public:web".into()),
        fence: version,
        terms: None,
        life: seq.is_multiple_of(5).then(|| Arc::new(life(seq))),
        bonds: None,
        history: None,
        origin: None,
        phase: phase(version),
    }
}

/// Jobs with these numbers are no more.
pub(crate) fn prune(seqs: &[u64]) -> Change {
    let jobs = seqs.iter().map(|seq| (job(*seq, 1).id, *seq)).collect();
    Change::PruneJobs(Arc::new(Pruned { jobs, why: WhyPruned::Age, first: at(1), last: at(2) }))
}

pub(crate) fn host(n: u64, version: u64) -> Host {
    Host {
        id: id(format!("h{n}")),
        name: "one".into(),
        capabilities: Capabilities::new(["gpu", "shell"]),
        max_parallel: 2,
        active_leases: 1,
        last_seen_at: at(3),
        registered_at: at(4),
        updated_by: NodeId::parse("node_a").expect("an id"),
        version,
        condition: None,
        enforces: None,
    }
}

pub(crate) fn service(seq: u64, version: u64) -> Service {
    Service {
        id: id(format!("svc_{seq}")),
        seq,
        name: "web".into(),
        command: "serve".into(),
        args: vec!["--port".into()],
        cwd: Some("/srv".into()),
        env: Some(BTreeMap::from([("A".into(), "1".into())])),
        replicas: 2,
        required: Capabilities::default(),
        status: ServiceStatus::Running,
        created_at: at(1),
        updated_at: at(2),
        updated_by: id("node_a"),
        version,
        assignments: vec![Assignment {
            host: id("h1"),
            status: AssignmentStatus::Running,
            endpoint: Some("http://127.0.0.1:1".into()),
            error: None,
            started_at: Some(at(5)),
            updated_at: at(6),
            failures: 0,
        }],
        labels: BTreeMap::new(),
        agent: None,
    }
}

pub(crate) fn key(n: u64, expires_ms: i64) -> IdempotencyKey {
    let (caller, route) = ("core".into(), "/v1/jobs".into());
    IdempotencyKey { caller, route, key: format!("k{n}"), fingerprint: [7; 32], expires_at: at(expires_ms) }
}

pub(crate) fn reply(n: u64, expires_ms: i64) -> StoredReply {
    StoredReply { key: key(n, expires_ms), reply: Reply::Claimed(vec![Arc::new(job(n, 1))]) }
}

pub(crate) fn position(index: u64) -> Position {
    Position { index, bytes: index.to_le_bytes().into() }
}

pub(crate) fn counters(next: u64) -> Counters {
    Counters { next_seq: 10_000, next_version: next, next_fence: 3, pruned_to: None, own_pruned_to: None }
}

pub(crate) fn batch(index: u64, changes: impl IntoIterator<Item = Change>) -> Arc<Batch> {
    let mut batch = Batch::default();
    batch.absorb(changes);
    batch.reach(position(index), counters(index));
    Arc::new(batch)
}

/// Everything a store holds, by kind and in order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Dump {
    pub(crate) position: Option<u64>,
    pub(crate) hosts: Vec<Arc<Host>>,
    pub(crate) jobs: Vec<Arc<Job>>,
    pub(crate) services: Vec<Arc<Service>>,
}

pub(crate) async fn dump(store: &Store) -> Dump {
    let mut export = store.export().await.expect("an export");
    let mut dump = Dump { position: export.position().map(|p| p.index), ..Dump::default() };
    while let Some(section) = export.next().await.expect("a section") {
        match section {
            Section::Hosts(hosts) => dump.hosts.extend(hosts),
            Section::Jobs(jobs) => dump.jobs.extend(jobs),
            Section::Services(services) => dump.services.extend(services),
        }
    }
    dump
}

/// A store with the tracker its task runs on.
pub(crate) struct Running {
    pub(crate) opened: Opened,
    tracker: TaskTracker,
}

impl Running {
    pub(crate) fn new(opened: Opened, tracker: TaskTracker) -> Self {
        Self { opened, tracker }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.opened.store
    }

    /// Closes the store and waits until its task is gone.
    pub(crate) async fn close(self) -> Option<u64> {
        let durable = self.opened.store.close().await.expect("a clean close");
        self.tracker.close();
        self.tracker.wait().await;
        durable
    }
}

pub(crate) async fn try_open(path: &Path) -> Result<Running, OpenError> {
    let tracker = TaskTracker::new();
    Ok(Running { opened: Store::open(path, Options::default(), &tracker).await?, tracker })
}

pub(crate) async fn open(path: &Path) -> Running {
    try_open(path).await.expect("an open store")
}

/// The names of the files in a directory, sorted.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> =
        names.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
    names.sort();
    names
}

/// What a copy holds, without opening it where it is.
pub(crate) async fn dump_copy(copy: &Path) -> Dump {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    std::fs::copy(copy, &path).expect("a copy");
    let running = open(&path).await;
    let dump = dump(running.store()).await;
    running.close().await;
    dump
}
