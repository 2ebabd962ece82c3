//! Bytes that were ever written must be read for ever: commands as they are in the log, records as they
//! are in the database.
//!
//! The files hold what the first released version writes. A file is never changed; what is written
//! differently from some version on gets a folder of its own beside the old one. To write a file that is
//! not there yet, run the tests with `UPDATE_EXPECT=1`.

mod retained;
mod schedules;
mod second;
mod third;
mod tied;
mod whose;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use skyclaw_core::{
    Assignment, Command, Completion, EndStatus, Ended, Host, IdempotencyKey, Job, Lease, LeaseRef, Operation,
    Phase, Reply, Restore, RollBack, Run, Service, SnapshotOf, StagedPart, StoredReply,
};
use skyclaw_proto::request::{DeployService, ReportService};
use skyclaw_proto::{
    AssignmentStatus, Capabilities, JobStatus, Links, OpenclawPayload, Payload, Plan, ServiceStatus,
    ShellPayload, Timestamp, record,
};

use uuid::Uuid;

type Failure = Box<dyn std::error::Error>;

fn id<T: std::str::FromStr<Err = skyclaw_proto::InvalidId>>(text: &str) -> Result<T, Failure> {
    Ok(text.parse()?)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(1_767_225_600_000 + second * 1000)
}

fn text(raw: &str) -> Option<String> {
    Some(raw.to_owned())
}

fn pairs(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

/// A job that asks for nothing but these.
fn enqueue(plan: Option<Arc<Plan>>, links: Option<Arc<Links>>) -> Result<Operation, Failure> {
    Ok(Operation::Enqueue {
        id: id("job_1")?,
        payload: Arc::new(shell()),
        required: Capabilities::default(),
        submitted_by: None,
        priority: 50,
        labels: BTreeMap::new(),
        terms: None,
        plan,
        links,
    })
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

/// Bytes as hex, 32 a line.
fn hex(bytes: &[u8]) -> String {
    let line = |chunk: &[u8]| chunk.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n";
    bytes.chunks(32).map(line).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, Failure> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    digits.chunks(2).map(byte).collect()
}

fn key() -> IdempotencyKey {
    IdempotencyKey {
        caller: "core".into(),
        route: "/v1/jobs".into(),
        key: "key-1".into(),
        fingerprint: std::array::from_fn(|i| u8::try_from(i * 8).unwrap_or(u8::MAX)),
        expires_at: at(86_400),
    }
}

fn shell() -> Payload {
    Payload::Shell(ShellPayload {
        command: "bash".into(),
        args: Some(vec!["-lc".into(), "echo hello".into()]),
        cwd: text("/srv"),
        env: Some(pairs("A", "1")),
        timeout_ms: Some(300_000),
    })
}

fn openclaw() -> Payload {
    Payload::OpenclawRun(OpenclawPayload {
        args: Some(vec!["run".into()]),
        openclaw_dir: text("/srv/claw"),
        env: None,
        timeout_ms: None,
    })
}

fn completion() -> Result<Completion, Failure> {
    Ok(Completion {
        fence: Some(7),
        duration_ms: 1234,
        exit_code: -1,
        stdout: "out\n".into(),
        stderr: "ünïcode".into(),
        error: text("broke"),
        ..Completion::new(id("job_1")?, id("host_1")?, false)
    })
}

fn merge() -> Result<Operation, Failure> {
    let assignments = vec![record::Assignment {
        host_id: id("host_1")?,
        status: AssignmentStatus::Running,
        endpoint: text("http://10.0.0.1:3100"),
        error: None,
        started_at: Some(at(2)),
        updated_at: at(3),
    }];
    let result = record::JobResult {
        finished_at: at(9),
        duration_ms: 5,
        exit_code: 0,
        stdout: String::new(),
        stderr: String::new(),
        usage: None,
        oom: false,
    };
    let (host, job, service) = (host()?, job(Phase::Queued)?, service()?);
    let job = record::Job {
        status: JobStatus::Completed,
        assigned_host_id: Some(id("host_1")?),
        result: Some(result),
        lease_expires_at: Some(at(60)),
        cancel_requested_at: Some(at(8)),
        ..(&job).into()
    };
    let service = record::Service { assignments, ..(&service).into() };
    Ok(Operation::Merge { hosts: vec![(&host).into()], jobs: vec![job], services: vec![service] })
}

fn lease_refs() -> Result<Vec<LeaseRef>, Failure> {
    Ok(vec![LeaseRef { job: id("job_1")?, fence: 7 }, LeaseRef { job: id("job_2")?, fence: u64::MAX }])
}

/// One of each kind, under the name of its file.
fn operations() -> Result<Vec<(&'static str, Operation)>, Failure> {
    let deploy = DeployService {
        service_id: Some(id("svc_1")?),
        name: "my-api".into(),
        command: "node".into(),
        args: vec!["dist/server.js".into()],
        cwd: text("/srv"),
        env: Some(pairs("B", "2")),
        replicas: 3,
        required_capabilities: Capabilities::new(["service-host"]),
        labels: BTreeMap::new(),
        agent_id: None,
    };
    let report = ReportService {
        host_id: id("host_1")?,
        status: AssignmentStatus::Failed,
        endpoint: None,
        error: text("exited"),
    };
    let capabilities = Capabilities::new(["shell", "openclaw"]);
    let running = Some(vec![id("svc_2")?]);
    let enqueue = |payload, submitted_by, labels| -> Result<Operation, Failure> {
        let (id, payload) = (id("job_1")?, Arc::new(payload));
        let required = Capabilities::new(["shell"]);
        Ok(Operation::Enqueue {
            id,
            payload,
            required,
            submitted_by,
            priority: 50,
            labels,
            terms: None,
            plan: None,
            links: None,
        })
    };
    let host = || id("host_1");
    Ok(vec![
        (
            "register_host",
            Operation::RegisterHost {
                id: host()?,
                name: "alpha".into(),
                capabilities,
                max_parallel: 4,
                enforces: None,
            },
        ),
        ("enqueue_shell", enqueue(shell(), text("public:x"), pairs("team", "a"))?),
        ("enqueue_openclaw", enqueue(openclaw(), None, BTreeMap::new())?),
        ("claim", Operation::Claim { host: host()?, max: 16, lease_ms: 60_000 }),
        ("complete", Operation::Complete(completion()?)),
        ("cancel", Operation::Cancel { id: id("job_1")? }),
        ("renew_leases", Operation::RenewLeases { leases: lease_refs()?, lease_ms: 60_000 }),
        ("expire_leases", Operation::ExpireLeases { leases: lease_refs()? }),
        ("deploy_service", Operation::DeployService { id: id("svc_1")?, service: Box::new(deploy) }),
        ("claim_service", Operation::ClaimService { host: host()?, running, after: Some(id("svc_2")?) }),
        ("claim_service_silent", Operation::ClaimService { host: host()?, running: None, after: None }),
        ("report_service", Operation::ReportService { id: id("svc_1")?, report }),
        ("merge", merge()?),
        ("prune_replies", Operation::PruneReplies),
        (
            "stage_restore",
            Operation::StageRestore(Arc::new(StagedPart {
                restore: id("restore_1")?,
                part: 7,
                bytes: vec![0, 255, 7],
            })),
        ),
        ("cancel_restore", Operation::CancelRestore { restore: id("restore_1")? }),
        (
            "roll_back",
            Operation::RollBack(RollBack {
                restore: id("restore_1")?,
                cluster: Uuid::from_u128(7),
                force: true,
                requested_by: text("me@here"),
            }),
        ),
        ("release_claims", Operation::ReleaseClaims { restore: id("restore_1")? }),
    ])
}

/// All of them, with the folder each is kept in.
fn all_operations() -> Result<Vec<(&'static str, &'static str, Operation)>, Failure> {
    let first = operations()?.into_iter().map(|(name, operation)| ("commands-v1", name, operation));
    let second = second::operations()?.into_iter().map(|(name, operation)| ("commands-v2", name, operation));
    let third = third::operations()?.into_iter().map(|(name, operation)| ("commands-v3", name, operation));
    let tied = tied::operations()?.into_iter().map(|(name, operation)| ("commands-v3", name, operation));
    let scheduled =
        schedules::operations()?.into_iter().map(|(name, operation)| ("commands-v3", name, operation));
    let retained =
        retained::operations()?.into_iter().map(|(name, operation)| ("commands-v3", name, operation));
    Ok(first.chain(second).chain(third).chain(tied).chain(scheduled).chain(retained).collect())
}

/// A new kind of operation must be given a file: this does not compile until it has an arm, and the test
/// fails until one of the [`operations`] is of it.
fn kind(operation: &Operation) -> &'static str {
    match operation {
        Operation::RegisterHost { .. } => "register_host",
        Operation::Enqueue { .. } => "enqueue",
        Operation::Claim { .. } => "claim",
        Operation::Complete(_) => "complete",
        Operation::SettleDependents { .. } => "settle_dependents",
        Operation::Cancel { .. } => "cancel",
        Operation::RenewLeases { .. } => "renew_leases",
        Operation::ExpireLeases { .. } => "expire_leases",
        Operation::DeployService { .. } => "deploy_service",
        Operation::ClaimService { .. } => "claim_service",
        Operation::ReportService { .. } => "report_service",
        Operation::Merge { .. } => "merge",
        Operation::PruneReplies => "prune_replies",
        Operation::StageRestore(_) => "stage_restore",
        Operation::CancelRestore { .. } => "cancel_restore",
        Operation::RollBack(_) => "roll_back",
        Operation::ReleaseClaims { .. } => "release_claims",
        Operation::ResolveJob { .. } => "resolve_job",
        Operation::TellEvents { .. } => "tell_events",
        Operation::Freeze { .. } => "freeze",
        Operation::Thaw { .. } => "thaw",
        Operation::DrainHost { .. } => "drain_host",
        Operation::UndrainHost { .. } => "undrain_host",
        Operation::RemoveHost { .. } => "remove_host",
        Operation::NoteHosts { .. } => "note_hosts",
        Operation::NoteSwitch { .. } => "note_switch",
        Operation::RetryJob { .. } => "retry_job",
        Operation::PassTime { .. } => "pass_time",
        Operation::CreateSchedule { .. } => "create_schedule",
        Operation::PauseSchedule { .. } => "pause_schedule",
        Operation::ResumeSchedule { .. } => "resume_schedule",
        Operation::DeleteSchedule { .. } => "delete_schedule",
        Operation::FireSchedule(_) => "fire_schedule",
        Operation::SubmitWaiting { .. } => "submit_waiting",
        Operation::TriggerSchedule { .. } => "trigger_schedule",
        Operation::PruneJobs(_) => "prune_jobs",
    }
}

#[test]
fn commands_of_every_version_are_read_and_written_as_ever() -> Result<(), Failure> {
    let mut kinds = std::collections::BTreeSet::new();
    for (folder, name, operation) in all_operations()? {
        assert!(name.starts_with(kind(&operation)), "{name}");
        kinds.insert(kind(&operation));
        // Commands of the mesh's own have no key.
        let own = [
            "prune_replies",
            "settle_dependents",
            "stage_restore",
            "cancel_restore",
            "roll_back",
            "release_claims",
            "note_hosts",
            "note_switch",
            "pass_time",
            "fire_schedule",
            "fire_schedule_missed",
            "submit_waiting",
            "prune_jobs",
            "prune_jobs_own",
        ];
        let idempotency = (!own.contains(&name)).then(key);
        let command = Command { at: at(0), node: id("node_1")?, idempotency, by: None, operation };
        let file = path(&format!("{folder}/{name}.hex"));
        expect_test::expect_file![&file].assert_eq(&hex(&rmp_serde::to_vec_named(&command)?));
        let read: Command = rmp_serde::from_slice(&unhex(&std::fs::read_to_string(&file)?)?)?;
        assert_eq!(read, command, "{name}");
    }
    assert_eq!(kinds.len(), 36, "one of each kind");
    Ok(())
}

fn host() -> Result<Host, Failure> {
    Ok(Host {
        id: id("host_1")?,
        name: "alpha".into(),
        capabilities: Capabilities::new(["shell", "openclaw"]),
        max_parallel: 4,
        active_leases: 1,
        last_seen_at: at(5),
        registered_at: at(0),
        updated_by: id("node_1")?,
        version: 11,
        condition: None,
        enforces: None,
    })
}

fn job(phase: Phase) -> Result<Job, Failure> {
    Ok(Job {
        id: id("job_1")?,
        seq: 42,
        created_at: at(0),
        updated_at: at(7),
        updated_by: id("node_1")?,
        version: 12,
        attempts: 2,
        priority: 50,
        required: Capabilities::new(["shell"]),
        payload: Arc::new(shell()),
        labels: pairs("team", "a"),
        submitted_by: text("public:x"),
        fence: 9,
        terms: None,
        life: None,
        bonds: None,
        history: None,
        origin: None,
        phase,
    })
}

fn service() -> Result<Service, Failure> {
    Ok(Service {
        id: id("svc_1")?,
        seq: 43,
        name: "my-api".into(),
        command: "node".into(),
        args: vec!["dist/server.js".into()],
        cwd: text("/srv"),
        env: Some(pairs("B", "2")),
        replicas: 3,
        required: Capabilities::new(["service-host"]),
        status: ServiceStatus::Running,
        created_at: at(0),
        updated_at: at(8),
        updated_by: id("node_1")?,
        version: 13,
        assignments: vec![Assignment {
            host: id("host_1")?,
            status: AssignmentStatus::Failed,
            endpoint: text("http://10.0.0.1:3100"),
            error: text("exited"),
            started_at: Some(at(2)),
            updated_at: at(8),
            failures: 2,
        }],
        labels: BTreeMap::new(),
        agent: None,
    })
}

fn leased() -> Result<Phase, Failure> {
    Ok(Phase::Leased(Lease { host: id("host_1")?, expires_at: at(60), cancel_requested_at: Some(at(6)) }))
}

fn ended(status: EndStatus) -> Result<Phase, Failure> {
    let run = Run {
        finished_at: at(7),
        duration_ms: 1234,
        exit_code: 3,
        stdout: "out\n".into(),
        stderr: "ünïcode".into(),
        usage: None,
        oom: false,
    };
    let error = text("broke");
    Ok(Phase::Ended(Ended { status, host: Some(id("host_1")?), run: Some(Arc::new(run)), error }))
}

/// Writes and reads a record as it is in the database.
fn frozen<T>(name: &str, record: &T) -> Result<(), Failure>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    frozen_in("records-v1", name, record)
}

fn frozen_in<T>(folder: &str, name: &str, record: &T) -> Result<(), Failure>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let file = path(&format!("{folder}/{name}.json"));
    expect_test::expect_file![&file].assert_eq(&(serde_json::to_string(record)? + "\n"));
    let read: T = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    assert_eq!(read, *record, "{name}");
    Ok(())
}

#[test]
fn records_of_the_first_version_are_read_and_written_as_ever() -> Result<(), Failure> {
    frozen("host", &host()?)?;
    frozen("service", &service()?)?;
    frozen("job_queued", &job(Phase::Queued)?)?;
    frozen("job_leased", &job(leased()?)?)?;
    for status in [EndStatus::Completed, EndStatus::Failed, EndStatus::Cancelled, EndStatus::Expired] {
        let name = format!("job_{}", JobStatus::from(status));
        frozen(&name, &job(ended(status)?)?)?;
    }
    Ok(())
}

#[test]
fn restores_of_the_first_version_are_read_and_written_as_ever() -> Result<(), Failure> {
    let snapshot = SnapshotOf { cluster: Uuid::from_u128(7), created_at: at(1), index: 9 };
    frozen(
        "restore",
        &Restore {
            number: 3,
            id: id("restore_1")?,
            at: at(2),
            node: id("node_1")?,
            requested_by: text("me@here"),
            snapshot,
            foreign: true,
            claims_held: true,
        },
    )
}

#[test]
fn kept_replies_of_the_first_version_are_read_and_written_as_ever() -> Result<(), Failure> {
    for (name, reply) in [
        ("host", Reply::Host(Arc::new(host()?))),
        ("job", Reply::Job(Arc::new(job(Phase::Queued)?))),
        ("claimed", Reply::Claimed(vec![Arc::new(job(leased()?)?)])),
        ("service", Reply::Service(Arc::new(service()?))),
        ("claimed_service", Reply::ClaimedService(Some(Arc::new(service()?)))),
        ("merged", Reply::Merged(true)),
        ("done", Reply::Done),
    ] {
        frozen(&format!("reply_{name}"), &StoredReply { key: key(), reply })?;
    }
    Ok(())
}
