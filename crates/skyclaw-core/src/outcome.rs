//! What comes of a command.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skyclaw_proto::{
    Capabilities, FreezeId, HostId, JobId, JobStatus, RestoreId, ScheduleId, ServiceId, Timestamp, limits,
};
use uuid::Uuid;

use crate::command::IdempotencyKey;
use crate::freeze::Freeze;
use crate::lanes::Turn;
use crate::model::{Host, Job, Service};
use crate::restore::Restore;
use crate::retention::Pruned;
use crate::schedule::Schedule;

/// What comes of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What the client is told.
    pub reply: Result<Reply, Refusal>,
    /// What must be written down; in one transaction with the command's place in the log.
    pub changes: Vec<Change>,
    /// What the leader does once the changes are safe. Doing one twice, or not at all after a crash,
    /// must be harmless.
    pub effects: Vec<Effect>,
}

/// What a client is told when its command was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The host.
    Host(Arc<Host>),
    /// The job.
    Job(Arc<Job>),
    /// The jobs a host took; empty when there was none for it.
    Claimed(Vec<Arc<Job>>),
    /// The service.
    Service(Arc<Service>),
    /// The service a host took, if there was one for it.
    ClaimedService(Option<Arc<Service>>),
    /// Whether any record was adopted.
    Merged(bool),
    /// There is nothing to tell.
    Done,
    /// The restore, which was carried out.
    Restored(Arc<Restore>),
    /// The freeze.
    Freeze(Arc<Freeze>),
    /// The job that has the unique key of the one that was submitted, which is not there.
    Existing(Arc<Job>),
    /// The schedule.
    Schedule(Arc<Schedule>),
    /// A schedule was to submit a job at once.
    Triggered {
        /// The schedule.
        schedule: Arc<Schedule>,
        /// The job; `None` when it is submitted as soon as the last one has ended.
        job: Option<Arc<Job>>,
    },
}

/// Why a command was not carried out. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The host is not registered.
    #[error("unknown host: {0}")]
    UnknownHost(HostId),
    /// There is no such job.
    #[error("unknown job: {0}")]
    UnknownJob(JobId),
    /// There is no such service.
    #[error("unknown service: {0}")]
    UnknownService(ServiceId),
    /// Another host, or nobody, has the job.
    #[error("job {job} is assigned to {}", holder.as_ref().map_or("nobody", HostId::as_str))]
    AssignedElsewhere {
        /// The job.
        job: JobId,
        /// Who has it.
        holder: Option<HostId>,
    },
    /// The job is queued or has ended.
    #[error("job {0} is not leased")]
    NotLeased(JobId),
    /// The job has been claimed anew since.
    #[error("job {job} has been claimed anew: its fencing token is {current}, not {given}")]
    StaleFence {
        /// The job.
        job: JobId,
        /// The token of the newest lease.
        current: u64,
        /// The token the host named.
        given: u64,
    },
    /// The job has ended and cannot be called off.
    #[error("job {job} has already ended: {status}")]
    JobEnded {
        /// The job.
        job: JobId,
        /// How.
        status: JobStatus,
    },
    /// The job is not lost, so there is nothing to decide about it.
    #[error("job {job} is not lost but {status}")]
    NotLost {
        /// The job.
        job: JobId,
        /// What it is.
        status: JobStatus,
    },
    /// Another job has the unique key of one that is to be queued again.
    #[error(
        "job {job} has the unique key of job {holder}, which has not ended: wait until it has, or cancel it"
    )]
    UniqueKeyTaken {
        /// The job.
        job: JobId,
        /// The one that has the key.
        holder: JobId,
    },
    /// A job depends on one that is not there.
    #[error(
        "dependsOn names job {0}, which is not known here: submit it first, and the jobs that depend on it after it"
    )]
    UnknownDependency(JobId),
    /// The job was done, or may yet be: it is not queued again.
    #[error("job {job} {}", why_not_to_retry(*status))]
    NotToRetry {
        /// The job.
        job: JobId,
        /// What it is.
        status: JobStatus,
    },
    /// There was no such freeze, or it is over for so long that it is forgotten.
    #[error("unknown freeze: {0}")]
    UnknownFreeze(FreezeId),
    /// There are as many freezes as there may be.
    #[error(
        "{} freezes are in force, which is the most there may be: end some, or freeze everything",
        limits::MAX_FREEZES
    )]
    TooManyFreezes,
    /// There is no such schedule.
    #[error("unknown schedule: {0}")]
    UnknownSchedule(ScheduleId),
    /// Another schedule has the name.
    #[error("a schedule named {name} is there already: {id}; delete that one, or choose another name")]
    ScheduleExists {
        /// The name.
        name: String,
        /// The other one.
        id: ScheduleId,
    },
    /// There are as many schedules as there may be.
    #[error("there are {} schedules, which is the most there may be: delete some", limits::MAX_SCHEDULES)]
    TooManySchedules,
    /// The last job of a schedule has not ended, and the schedule does not submit another beside it.
    #[error(
        "schedule {name} submits nothing now: its job {job} has not ended{}; wait until it has, or cancel it",
        if *waits { ", and another waits for that already" } else { "" }
    )]
    ScheduleBusy {
        /// What the schedule is called.
        name: String,
        /// The job.
        job: JobId,
        /// Whether another is to be submitted when that has ended.
        waits: bool,
    },
    /// The host is up, or holds work.
    #[error("host {host} {why}: drain it and wait, or stop it, or remove it by force")]
    HostBusy {
        /// The host.
        host: HostId,
        /// What is in the way.
        why: String,
    },
    /// The host has no replica of the service.
    #[error("service {service} is not assigned to host {host}")]
    NotAssigned {
        /// The service.
        service: ServiceId,
        /// The host.
        host: HostId,
    },
    /// The idempotency key came with another body before.
    #[error("idempotency key reuse conflict for route {0}")]
    KeyReused(String),
    /// Nothing is staged for this restore.
    #[error("nothing is staged for {0}: another restore has begun since, or this one was called off")]
    NotStaged(RestoreId),
    /// A part of what was staged is missing.
    #[error("part {part} of {restore} is missing: send it, then ask again")]
    RestoreIncomplete {
        /// The restore.
        restore: RestoreId,
        /// The first part that is not there.
        part: u32,
    },
    /// What was staged is no snapshot to go back to.
    #[error("the snapshot cannot be used: {0}")]
    SnapshotUnusable(String),
    /// The snapshot was taken of another cluster.
    #[error(
        "the snapshot was taken of cluster {snapshot}, and this is cluster {cluster}: restore it by force if \
         this cluster is to take that one's place"
    )]
    ForeignSnapshot {
        /// The cluster the snapshot was taken of.
        snapshot: Uuid,
        /// This one.
        cluster: Uuid,
    },
    /// Jobs run, and would run on beside what the snapshot says of them.
    #[error(
        "{count} jobs are leased and may be running: wait until they are over, or cancel them, and ask again; \
         the first are {}",
        jobs.iter().map(JobId::as_str).collect::<Vec<_>>().join(", ")
    )]
    JobsLeased {
        /// How many.
        count: u64,
        /// The first of them, by id.
        jobs: Vec<JobId>,
    },
    /// A restore came together with other commands, which no coordinator does.
    #[error("the last step of {0} was not alone in its entry of the log; ask again")]
    RestoreNotAlone(RestoreId),
}

fn why_not_to_retry(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Queued => "is queued already",
        JobStatus::Leased => "has not ended: a host has it",
        JobStatus::Lost => "is lost, and may have been done: find out and resolve it",
        JobStatus::Completed => {
            "was done, and is not done a second time: submit another one if that is meant"
        }
        // These are retried.
        JobStatus::Failed | JobStatus::Cancelled | JobStatus::Expired => "has ended",
    }
}

/// One thing that must be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A host as it is now.
    Host(Arc<Host>),
    /// A host is no more.
    RemoveHost(HostId),
    /// A job as it is now.
    Job(Arc<Job>),
    /// A service as it is now.
    Service(Arc<Service>),
    /// A reply to be given again.
    Reply(Arc<StoredReply>),
    /// Replies that expire before this time are to be forgotten.
    PruneReplies(Timestamp),
    /// A part of a snapshot, to be laid by until all of them are there. The parts of any other restore
    /// are dropped.
    Stage(Arc<StagedPart>),
    /// All parts that were laid by are dropped.
    DropStaged,
    /// A restore as it is now. Only the newest [`KEPT_RESTORES`](crate::KEPT_RESTORES) are kept.
    Restore(Arc<Restore>),
    /// A freeze as it is now.
    Freeze(Arc<Freeze>),
    /// The freeze with this number is forgotten.
    ForgetFreeze(u64),
    /// A schedule as it is now.
    Schedule(Arc<Schedule>),
    /// A schedule is no more.
    RemoveSchedule(ScheduleId),
    /// Jobs are no more that had ended.
    PruneJobs(Arc<Pruned>),
}

/// A part of a snapshot that a cluster goes back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedPart {
    /// The restore it belongs to.
    pub restore: RestoreId,
    /// Its place among the parts: 0, 1, 2 and so on.
    pub part: u32,
    /// The bytes of the snapshot that follow those of the part before.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// A reply kept for its idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredReply {
    /// The key.
    pub key: IdempotencyKey,
    /// The reply.
    pub reply: Reply,
}

/// What the leader does after the command is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A job waits: wake a claim that could take it.
    JobQueued {
        /// What it asks of a host.
        required: Capabilities,
    },
    /// Jobs that ask for many different things have their turn: wake a claim that could take one of them
    /// ([`State::have_turn`](crate::State::have_turn)).
    TurnCame {
        /// What they waited for.
        turn: Turn,
    },
    /// A lease began: count its time.
    LeaseHeld {
        /// The job.
        job: JobId,
        /// The token of the lease.
        fence: u64,
        /// The host.
        host: HostId,
    },
    /// A lease is over: stop counting.
    LeaseOver {
        /// The job.
        job: JobId,
    },
    /// A running job was called off or frozen: tell its host.
    StopRun {
        /// The job.
        job: JobId,
        /// The host.
        host: HostId,
    },
    /// A host must look at what it has to stop.
    TellHost {
        /// The host.
        host: HostId,
    },
    /// A host has room again or can do more: look anew for what it waits for.
    HostChanged {
        /// The host.
        host: HostId,
    },
    /// A job changed: tell who watches it.
    JobChanged {
        /// The job.
        job: JobId,
    },
    /// Claims are answered again.
    ClaimsReleased,
    /// A schedule waits for another time, or is no more.
    ScheduleChanged {
        /// The schedule.
        schedule: ScheduleId,
    },
    /// A service waits for a host, or a host must look at its services again.
    ServiceChanged {
        /// The service.
        service: ServiceId,
    },
}
