//! Records of the domain as records of the wire, and back.

use std::sync::Arc;

use skyclaw_proto::{AssignmentStatus, HostState, JobStatus, Payload, limits};
use skyclaw_proto::{record, response};

use crate::bonds::Bonds;
use crate::freeze::Freeze;
use crate::life::{Attempt, Life};
use crate::model::{
    Assignment, Drain, EndStatus, Ended, Host, HostEvent, HostFreeze, Job, Lease, Lost, Phase, Run, Service,
};
use crate::restore::Restore;
use crate::schedule::Origin;

/// How a host does is said when there is something to say of it: who answers a client says the rest.
impl From<&Host> for record::Host {
    fn from(host: &Host) -> Self {
        let drain = host.drain();
        let condition = host.condition.as_deref();
        let (state, since, reason) = match (host.down_since(), host.frozen(), drain) {
            (Some(since), ..) => {
                (Some(HostState::Down), Some(since), Some("it has not been heard of since".to_owned()))
            }
            (None, Some(frozen), _) => (Some(HostState::Frozen), Some(frozen.since), frozen.reason.clone()),
            (None, None, Some(drain)) => (Some(HostState::Draining), Some(drain.since), drain.reason.clone()),
            (None, None, None) => (None, condition.and_then(|condition| condition.up_since), None),
        };
        Self {
            state,
            state_since: since,
            state_reason: reason,
            drain: drain.map(Into::into),
            enforces: host.enforces.as_deref().cloned(),
            frozen: host.frozen().map(Into::into),
            events: condition.map(|it| it.events.iter().map(Into::into).collect()).unwrap_or_default(),
            id: host.id.clone(),
            name: host.name.clone(),
            capabilities: host.capabilities.clone(),
            max_parallel: host.max_parallel,
            active_leases: host.active_leases,
            last_seen_at: host.last_seen_at,
            registered_at: host.registered_at,
            updated_by: host.updated_by.clone(),
            version: host.version,
        }
    }
}

impl From<&Drain> for record::Drain {
    fn from(drain: &Drain) -> Self {
        Self {
            since: drain.since,
            deadline_at: drain.deadline,
            reason: drain.reason.clone(),
            by: drain.by.clone(),
        }
    }
}

impl From<&HostFreeze> for record::HostFreeze {
    fn from(frozen: &HostFreeze) -> Self {
        Self { since: frozen.since, reason: frozen.reason.clone(), by: frozen.by.clone() }
    }
}

impl From<record::HostFreeze> for HostFreeze {
    fn from(frozen: record::HostFreeze) -> Self {
        Self { since: frozen.since, reason: frozen.reason, by: frozen.by }
    }
}

impl From<&HostEvent> for record::HostEvent {
    fn from(event: &HostEvent) -> Self {
        let kind = if event.frozen { "frozen" } else { "thawed" };
        Self { at: event.at, kind: kind.to_owned(), reason: event.reason.clone(), by: event.by.clone() }
    }
}

impl From<&Freeze> for record::Freeze {
    fn from(freeze: &Freeze) -> Self {
        Self {
            id: freeze.id.clone(),
            scope: freeze.scope.clone(),
            frozen_at: freeze.at,
            reason: freeze.reason.clone(),
            by: freeze.by.clone(),
            thawed_at: freeze.thawed.as_ref().map(|thawed| thawed.at),
            thawed_by: freeze.thawed.as_ref().and_then(|thawed| thawed.by.clone()),
        }
    }
}

impl From<&record::Host> for Host {
    fn from(host: &record::Host) -> Self {
        Self {
            condition: None,
            enforces: host.enforces.clone().map(Arc::new),
            id: host.id.clone(),
            name: host.name.clone(),
            capabilities: host.capabilities.clone(),
            max_parallel: host.max_parallel.clamp(1, limits::MAX_PARALLEL),
            active_leases: host.active_leases,
            last_seen_at: host.last_seen_at,
            registered_at: host.registered_at,
            updated_by: host.updated_by.clone(),
            version: host.version,
        }
    }
}

impl From<&Job> for record::Job {
    fn from(job: &Job) -> Self {
        on_wire(job, (*job.payload).clone())
    }
}

impl Job {
    /// The record of the wire for who writes it down at once: what is large in it is lent.
    #[must_use]
    pub fn lent(&self) -> record::Job<&Payload> {
        on_wire(self, &self.payload)
    }
}

fn on_wire<P>(job: &Job, payload: P) -> record::Job<P> {
    let (ended, lost) = match &job.phase {
        Phase::Ended(ended) => (Some(ended), None),
        Phase::Lost(lost) => (None, Some(lost)),
        Phase::Queued | Phase::Leased(_) => (None, None),
    };
    let record = record::Job {
        updated_at: job.updated_at,
        version: job.version,
        status: job.status(),
        attempts: job.attempts,
        lease_expires_at: job.lease().map(|lease| lease.expires_at),
        assigned_host_id: job.host().cloned(),
        requirement: record::Requirement { required_capabilities: job.required.clone() },
        submitted_by: job.submitted_by.clone(),
        result: ended.and_then(|e| e.run.as_deref()).map(Into::into),
        error: ended.and_then(|e| e.error.clone()).or_else(|| lost.map(|lost| lost.why.to_string())),
        priority: (job.priority != limits::DEFAULT_PRIORITY).then_some(job.priority),
        labels: job.labels.clone(),
        fence: (job.fence != 0).then_some(job.fence),
        cancel_requested_at: job.lease().and_then(|lease| lease.cancel_requested_at),
        lost_at: lost.map(|lost| lost.since),
        schedule_id: job.origin.as_ref().map(|origin| origin.schedule.clone()),
        scheduled_at: job.origin.as_ref().map(|origin| origin.at),
        ..record::Job::new(job.id.clone(), payload, job.created_at, job.updated_by.clone())
    };
    let record = match &job.terms {
        Some(terms) => record.with_terms(terms),
        None => record,
    };
    let record = match &job.bonds {
        Some(bonds) => with_bonds(record, bonds, matches!(job.phase, Phase::Queued)),
        None => record,
    };
    match &job.life {
        Some(life) => with_life(record, life),
        None => record,
    }
}

fn with_bonds<P>(record: record::Job<P>, bonds: &Bonds, is_queued: bool) -> record::Job<P> {
    let waits_for = if is_queued { bonds.waits_for.clone() } else { Vec::new() };
    record::Job { waits_for, ..record.with_links(&bonds.links) }
}

fn with_life<P>(record: record::Job<P>, life: &Life) -> record::Job<P> {
    record::Job {
        claimable_at: life.claimable_at,
        expires_at: life.expires_at,
        failed_attempts: life.failures,
        attempt_results: life.attempts.iter().map(|attempt| (&**attempt).into()).collect(),
        ..record.with_plan(&life.plan)
    }
}

/// What another mesh says of when a job is to be run; `None` when it says nothing.
fn adopt_life(job: &record::Job, is_queued: bool) -> Option<Arc<Life>> {
    let mut life = Life {
        plan: Arc::new(job.plan()),
        claimable_at: job.claimable_at.filter(|_| is_queued),
        expires_at: job.expires_at.filter(|_| is_queued),
        failures: job.failed_attempts,
        ..Life::default()
    };
    for result in &job.attempt_results {
        life.keep(result.into());
    }
    (life != Life::default()).then(|| Arc::new(life))
}

impl From<&Attempt> for record::AttemptResult {
    fn from(attempt: &Attempt) -> Self {
        Self {
            attempt: attempt.number,
            status: attempt.status,
            ended_at: attempt.ended_at,
            host_id: attempt.host.clone(),
            fence: (attempt.fence != 0).then_some(attempt.fence),
            duration_ms: attempt.duration_ms,
            exit_code: attempt.exit_code,
            error: attempt.error.as_deref().map(str::to_owned),
            stdout: attempt.stdout.to_string(),
            stderr: attempt.stderr.to_string(),
            oom: attempt.oom,
        }
    }
}

impl From<&record::AttemptResult> for Attempt {
    fn from(result: &record::AttemptResult) -> Self {
        Self {
            number: result.attempt,
            status: result.status,
            ended_at: result.ended_at,
            host: result.host_id.clone(),
            fence: result.fence.unwrap_or(0),
            duration_ms: result.duration_ms,
            exit_code: result.exit_code,
            error: result.error.as_deref().map(Into::into),
            stdout: result.stdout.as_str().into(),
            stderr: result.stderr.as_str().into(),
            oom: result.oom,
        }
    }
}

fn origin_of<P>(job: &record::Job<P>) -> Option<Origin> {
    Some(Origin { schedule: job.schedule_id.clone()?, at: job.scheduled_at? })
}

impl From<&Run> for record::JobResult {
    fn from(run: &Run) -> Self {
        Self {
            finished_at: run.finished_at,
            duration_ms: run.duration_ms,
            exit_code: run.exit_code,
            stdout: run.stdout.clone(),
            stderr: run.stderr.clone(),
            usage: run.usage,
            oom: run.oom,
        }
    }
}

/// A job of another mesh, at a place in our order of enqueueing.
///
/// What cannot be is turned into the nearest thing that can: a leased job without a host is queued.
pub(crate) fn adopt_job(job: &record::Job, seq: u64) -> Job {
    let run = job.result.as_ref().map(|result| {
        Arc::new(Run {
            finished_at: result.finished_at,
            duration_ms: result.duration_ms,
            exit_code: result.exit_code,
            stdout: result.stdout.clone(),
            stderr: result.stderr.clone(),
            usage: result.usage,
            oom: result.oom,
        })
    });
    let host = job.assigned_host_id.clone();
    let ended = |status| Phase::Ended(Ended { status, host: host.clone(), run, error: job.error.clone() });
    let phase = match job.status {
        JobStatus::Queued => Phase::Queued,
        JobStatus::Leased => match host {
            None => Phase::Queued,
            Some(host) => Phase::Leased(Lease {
                host,
                expires_at: job.lease_expires_at.unwrap_or(job.updated_at),
                cancel_requested_at: job.cancel_requested_at,
            }),
        },
        JobStatus::Completed => ended(EndStatus::Completed),
        // A lost job of another mesh is not ours to run again unless somebody decides so.
        JobStatus::Lost => match host {
            None => ended(EndStatus::Failed),
            Some(host) => Phase::Lost(Lost {
                host,
                since: job.lost_at.unwrap_or(job.updated_at),
                why: job.error.clone().unwrap_or_default().into(),
            }),
        },
        JobStatus::Failed => ended(EndStatus::Failed),
        JobStatus::Cancelled => ended(EndStatus::Cancelled),
        JobStatus::Expired => ended(EndStatus::Expired),
    };
    Job {
        id: job.id.clone(),
        seq,
        created_at: job.created_at,
        updated_at: job.updated_at,
        updated_by: job.updated_by.clone(),
        version: job.version,
        attempts: job.attempts,
        priority: job.priority.unwrap_or(limits::DEFAULT_PRIORITY).min(limits::MAX_PRIORITY),
        required: job.requirement.required_capabilities.clone(),
        payload: Arc::new(job.payload.clone()),
        labels: job.labels.clone(),
        submitted_by: job.submitted_by.clone(),
        fence: job.fence.unwrap_or(0),
        terms: job.terms().kept().map(Into::into),
        bonds: job.links().kept().map(|links| {
            // Who is known to be completed here is found out when it is told so.
            Arc::new(Bonds { waits_for: links.depends_on.clone(), links: links.into() })
        }),
        life: adopt_life(job, matches!(phase, Phase::Queued)),
        history: None,
        origin: origin_of(job).map(Arc::new),
        phase,
    }
}

impl From<&Restore> for response::Restore {
    fn from(restore: &Restore) -> Self {
        Self {
            id: restore.id.clone(),
            number: restore.number,
            at: restore.at,
            node_id: restore.node.clone(),
            requested_by: restore.requested_by.clone(),
            snapshot_cluster_id: restore.snapshot.cluster.to_string(),
            snapshot_created_at: restore.snapshot.created_at,
            snapshot_index: restore.snapshot.index,
            foreign: restore.foreign,
            claims_held: restore.claims_held,
        }
    }
}

impl From<&Service> for record::Service {
    fn from(service: &Service) -> Self {
        Self {
            id: service.id.clone(),
            name: service.name.clone(),
            command: service.command.clone(),
            args: service.args.clone(),
            cwd: service.cwd.clone(),
            env: service.env.clone(),
            replicas: service.replicas,
            required_capabilities: service.required.clone(),
            status: service.status,
            created_at: service.created_at,
            updated_at: service.updated_at,
            updated_by: service.updated_by.clone(),
            version: service.version,
            assignments: service.assignments.iter().map(Into::into).collect(),
            labels: service.labels.clone(),
            agent_id: service.agent.clone(),
        }
    }
}

impl From<&Assignment> for record::Assignment {
    fn from(assignment: &Assignment) -> Self {
        Self {
            host_id: assignment.host.clone(),
            status: assignment.status,
            endpoint: assignment.endpoint.clone(),
            error: assignment.error.clone(),
            started_at: assignment.started_at,
            updated_at: assignment.updated_at,
        }
    }
}

/// A service of another mesh, at a place in our order of deployment.
pub(crate) fn adopt_service(service: &record::Service, seq: u64) -> Service {
    let mut assignments: Vec<Assignment> = Vec::new();
    for given in &service.assignments {
        if assignments.iter().any(|a| a.host == given.host_id) {
            continue;
        }
        assignments.push(Assignment {
            host: given.host_id.clone(),
            status: given.status,
            endpoint: given.endpoint.clone(),
            error: given.error.clone(),
            started_at: given.started_at,
            updated_at: given.updated_at,
            failures: u32::from(given.status == AssignmentStatus::Failed),
        });
    }
    Service {
        id: service.id.clone(),
        seq,
        name: service.name.clone(),
        command: service.command.clone(),
        args: service.args.clone(),
        cwd: service.cwd.clone(),
        env: service.env.clone(),
        replicas: service.replicas.clamp(1, limits::MAX_REPLICAS),
        required: service.required_capabilities.clone(),
        status: service.status,
        created_at: service.created_at,
        updated_at: service.updated_at,
        updated_by: service.updated_by.clone(),
        version: service.version,
        assignments,
        labels: service.labels.clone(),
        agent: service.agent_id.clone(),
    }
}
