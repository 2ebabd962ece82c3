//! What can be asked of the state machine. Commands are the entries of the replicated log, so a
//! variant or field that was ever released keeps its name and meaning; new fields have a default.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skyclaw_proto::record::{self, Usage};
use skyclaw_proto::request::{DeployService, FoundResult, ReportService};
use skyclaw_proto::{
    Actor, ActorKind, Capabilities, Enforces, FreezeId, HostId, JobId, Links, NodeId, Payload, Plan,
    Resolution, RestoreId, ScheduleId, Scope, ServiceId, Stopped, Terms, Timestamp,
};

use crate::history::Event;
use crate::model::{self, HostFreeze};
use crate::outcome::StagedPart;
use crate::restore::RollBack;
use crate::retention::PruneJobs;
use crate::schedule::{Fire, ScheduleSpec};

/// One thing to do, with everything that must be the same on every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// When the proposer made it.
    pub at: Timestamp,
    /// The coordinator that made it.
    pub node: NodeId,
    /// The client's idempotency key, if it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<IdempotencyKey>,
    /// Who asks for it, where that is to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<Actor>>,
    /// What to do.
    pub operation: Operation,
}

/// A client's key, and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// Whose key it is; the same key of two callers is two keys.
    pub caller: String,
    /// The route it was used on, ids included.
    pub route: String,
    /// The key.
    pub key: String,
    /// What the body was, as [`skyclaw_proto::canonical::fingerprint`] gives it.
    pub fingerprint: [u8; 32],
    /// Until when the reply is kept.
    pub expires_at: Timestamp,
}

/// Names one lease of a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeaseRef {
    /// The job.
    pub job: JobId,
    /// The fencing token of the lease.
    pub fence: u64,
}

/// The end of a run, as its host reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// The job.
    pub id: JobId,
    /// The host.
    pub host: HostId,
    /// The fencing token of the lease, if the host knows of such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// Whether it succeeded.
    pub success: bool,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// The exit code.
    pub exit_code: i32,
    /// What it wrote.
    pub stdout: String,
    /// What it wrote.
    pub stderr: String,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why the host stopped it before its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// What it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Whether it ran out of the memory it may use.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oom: bool,
    /// What happened to the run and was not told yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
}

impl Completion {
    /// The end of a run of which nothing else is told.
    #[must_use]
    pub fn new(id: JobId, host: HostId, success: bool) -> Self {
        Self {
            id,
            host,
            fence: None,
            success,
            duration_ms: 0,
            exit_code: i32::from(!success),
            stdout: String::new(),
            stderr: String::new(),
            error: None,
            stopped: None,
            usage: None,
            oom: false,
            events: Vec::new(),
        }
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A host says who it is.
    RegisterHost {
        /// Its id, made by the proposer when the host gave none.
        id: HostId,
        /// For people.
        name: String,
        /// What it can do.
        capabilities: Capabilities,
        /// How many jobs it takes at once.
        max_parallel: u32,
        /// What it can enforce; `None` when it does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        enforces: Option<Arc<Enforces>>,
    },
    /// A job joins the queue.
    Enqueue {
        /// Its id, made by the proposer.
        id: JobId,
        /// What it runs.
        payload: Arc<Payload>,
        /// What it asks of a host.
        required: Capabilities,
        /// Who submits it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted_by: Option<String>,
        /// 0 to 100, higher first.
        priority: u8,
        /// For finding it again.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
        /// How it is to be run; `None` when nothing was said of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terms: Option<Arc<Terms>>,
        /// What ties it to other jobs; `None` when nothing does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        links: Option<Arc<Links>>,
        /// When it is to be run, and how often; `None` when nothing was said of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<Arc<Plan>>,
    },
    /// A host takes jobs.
    Claim {
        /// The host.
        host: HostId,
        /// How many at most.
        max: u32,
        /// How long the leases last, in milliseconds.
        lease_ms: u64,
    },
    /// A host reports the end of a run.
    Complete(Completion),
    /// The leader found that these have ended and that others still wait for them: those are told.
    SettleDependents {
        /// The jobs that have ended.
        ended: Vec<JobId>,
    },
    /// A job is called off.
    Cancel {
        /// The job.
        id: JobId,
    },
    /// The leader heard of the runs these leases stand for.
    RenewLeases {
        /// The leases.
        leases: Vec<LeaseRef>,
        /// How long they last from now, in milliseconds.
        lease_ms: u64,
    },
    /// The leader waited for these leases to be renewed long enough.
    ExpireLeases {
        /// The leases.
        leases: Vec<LeaseRef>,
    },
    /// A service is deployed, or deployed anew under the same id.
    DeployService {
        /// Its id, made by the proposer when the client gave none.
        id: ServiceId,
        /// What it is.
        service: Box<DeployService>,
    },
    /// A host takes a replica of a service.
    ClaimService {
        /// The host.
        host: HostId,
        /// The services it runs and need not be told of; `None` from a host that does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        running: Option<Vec<ServiceId>>,
        /// The service it was told of last: the one after it is offered first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<ServiceId>,
    },
    /// A host says how its replica does.
    ReportService {
        /// The service.
        id: ServiceId,
        /// What the host says.
        report: ReportService,
    },
    /// Records of a reference coordinator, the newer of two wins.
    Merge {
        /// Hosts.
        hosts: Vec<record::Host>,
        /// Jobs.
        jobs: Vec<record::Job>,
        /// Services.
        services: Vec<record::Service>,
    },
    /// Replies that have been kept long enough are forgotten: those that expire before the time of the command,
    /// which may be an earlier one than when it is proposed, so that they are not too many.
    PruneReplies,
    /// A part of a snapshot is laid by on every node.
    StageRestore(Arc<StagedPart>),
    /// What was laid by for a restore is dropped.
    CancelRestore {
        /// The restore.
        restore: RestoreId,
    },
    /// Everything becomes as it is in the snapshot that was staged. The only command of its entry.
    RollBack(RollBack),
    /// The leader waited long enough after a restore for runs that nobody here knows of to be over.
    ReleaseClaims {
        /// The restore.
        restore: RestoreId,
    },
    /// An operator decides about a lost job.
    ResolveJob {
        /// The job.
        id: JobId,
        /// What is decided.
        action: Resolution,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Who decides it, as they say themselves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// How the run ended, when it is found to be done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<FoundResult>,
    },
    /// A host tells what happened to a run.
    TellEvents {
        /// The job.
        id: JobId,
        /// The host.
        host: HostId,
        /// The fencing token of the lease.
        fence: u64,
        /// What happened, in its order.
        events: Vec<Event>,
    },
    /// Nothing that this covers is claimed any more, and what of it runs is stopped.
    Freeze {
        /// Its id, made by the proposer.
        id: FreezeId,
        /// What it covers.
        scope: Scope,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Who asks for it, as they say themselves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// A freeze ends.
    Thaw {
        /// The freeze.
        id: FreezeId,
        /// Who asks for it, as they say themselves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// A host takes no more work.
    DrainHost {
        /// The host.
        id: HostId,
        /// After how long what still runs is told to stop, in milliseconds; never, when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline_ms: Option<u64>,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Who asks for it, as they say themselves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// A drained host takes work again.
    UndrainHost {
        /// The host.
        id: HostId,
    },
    /// A host is forgotten.
    RemoveHost {
        /// The host.
        id: HostId,
        /// Also when it is up or holds work.
        #[serde(default)]
        force: bool,
    },
    /// The leader has not heard of hosts for some time, or hears of them again.
    NoteHosts {
        /// Heard of again.
        up: Vec<HostId>,
        /// Not heard of.
        down: Vec<HostId>,
    },
    /// A host says that it was frozen on its machine, or is not any more.
    NoteSwitch {
        /// The host.
        id: HostId,
        /// That it is frozen; `None` when it is not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        frozen: Option<HostFreeze>,
        /// Who thawed it, when it is not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// Somebody wants a job that ended without success queued again.
    RetryJob {
        /// The job.
        id: JobId,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Who asks for it, as they say themselves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// The leader's clock says that queued jobs can be claimed now that were for later, or have waited too long.
    PassTime {
        /// How many at most are looked at.
        most: u32,
    },
    /// Jobs are to be submitted at certain times.
    CreateSchedule {
        /// Its id, made by the proposer.
        id: ScheduleId,
        /// What it is.
        spec: Arc<ScheduleSpec>,
        /// Its first time, as the proposer found it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_at: Option<Timestamp>,
        /// Whether it submits nothing until it is resumed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        paused: bool,
        /// Who asks for it, as they say themselves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// A schedule submits nothing for the time being.
    PauseSchedule {
        /// The schedule, by its id or name.
        schedule: ScheduleId,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Who asks for it, as they say themselves; `None` for a coordinator.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// A paused schedule goes on.
    ResumeSchedule {
        /// The schedule, by its id or name.
        schedule: ScheduleId,
        /// Its next time, as the proposer found it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_at: Option<Timestamp>,
        /// Who asks for it, as they say themselves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// A schedule is no more.
    DeleteSchedule {
        /// The schedule, by its id or name.
        schedule: ScheduleId,
    },
    /// The leader found that the time of a schedule has come.
    FireSchedule(Box<Fire>),
    /// The leader found that the last job of a schedule has ended for which another waits.
    SubmitWaiting {
        /// The schedule.
        schedule: ScheduleId,
        /// The time the waiting one is for.
        at: Timestamp,
        /// The job: an [`Operation::Enqueue`].
        job: Box<Operation>,
    },
    /// The job of a schedule is submitted now.
    TriggerSchedule {
        /// The schedule, by its id or name.
        schedule: ScheduleId,
        /// The job: an [`Operation::Enqueue`]; `None` from a proposer that knows of no such schedule.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<Box<Operation>>,
        /// Who asks for it, as they say themselves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// The leader found that these jobs have been kept long enough.
    PruneJobs(PruneJobs),
}

impl Command {
    /// Whom what it brings about is to be put down to: who asked for it, or a coordinator or a schedule of its own
    /// accord. `None` where nobody said, and for what hosts do, which the records say themselves.
    pub(crate) fn whose(&self) -> Option<Arc<Actor>> {
        if let Some(by) = &self.by {
            return Some(Arc::clone(by));
        }
        let node_id = Some(self.node.clone());
        let own = match &self.operation {
            Operation::ExpireLeases { .. }
            | Operation::PassTime { .. }
            | Operation::SettleDependents { .. } => Actor::new(ActorKind::Coordinator),
            Operation::FireSchedule(fire) => Actor::of_schedule(&fire.schedule),
            Operation::SubmitWaiting { schedule, .. } => Actor::of_schedule(schedule),
            _ => return None,
        };
        Some(Arc::new(Actor { node_id, ..own }))
    }
}

impl Operation {
    /// What the job that it puts into the queue will ask of a host; `None` for one that is for later, or whose
    /// turn depends on others.
    #[must_use]
    pub fn asks_of_a_host(&self) -> Option<Capabilities> {
        match self {
            Self::Enqueue { plan: Some(plan), .. } if plan.not_before.is_some() => None,
            // It may have to wait; if not, who waits for work is woken when it is there.
            Self::Enqueue { links: Some(_), .. } => None,
            Self::Enqueue { required, terms, .. } => Some(model::needs(required, terms.as_deref())),
            _ => None,
        }
    }
}
