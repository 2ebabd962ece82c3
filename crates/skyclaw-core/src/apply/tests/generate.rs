//! Random command sequences, with few ids so that they meet.

mod operations;
mod records;

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use skyclaw_proto::{Actor, ActorKind, AssignmentStatus, HostId, Stopped, Timestamp, canonical};

use super::kit::{
    LEASE_MS, Memory, Records, START_MS, World, completion, freeze_id, host_id, job_id, node_id,
};
use crate::command::{Command, IdempotencyKey, LeaseRef, Operation};
use crate::history::Event;
use crate::outcome::Outcome;
use crate::retention::{Expendable, PruneJobs, WhyPruned};

/// One command to be, before it is known what it meets.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// Clocks of two coordinators may differ, so time goes back at times.
    wait_ms: i64,
    node: usize,
    key: Option<usize>,
    action: Action,
}

#[derive(Debug, Clone)]
enum Action {
    Do(Operation),
    Complete {
        job: usize,
        host: Option<usize>,
        fence: Fence,
        success: bool,
        stopped: Option<Stopped>,
    },
    Tell {
        job: usize,
        fence: Fence,
    },
    Renew(Vec<(usize, Fence)>),
    Expire(Vec<(usize, Fence)>),
    /// Jobs, by how they are at the time or otherwise.
    Prune {
        jobs: Vec<(usize, bool)>,
        why: WhyPruned,
        up_to: Option<Timestamp>,
    },
    /// An earlier command, come again at a later time with its key.
    Again(prop::sample::Index),
}

/// A fencing token, by what it is to the job's own.
#[derive(Debug, Clone, Copy)]
enum Fence {
    Absent,
    Current,
    Stale,
    Future,
}

/// Short, so that keys are forgotten within a sequence.
const KEY_TTL: Duration = Duration::from_secs(20);
const CALLERS: [&str; 2] = ["core", "public:x"];
const NODES: [&str; 2] = ["node_a", "node_b"];
const HOSTS: [&str; 4] = ["h0", "h1", "h2", "h3"];
const JOBS: [&str; 8] = ["j0", "j1", "j2", "j3", "j4", "j5", "j6", "j7"];
const RESTORES: [&str; 2] = ["r0", "r1"];
const SERVICES: [&str; 3] = ["s0", "s1", "s2"];
const FREEZES: [&str; 3] = ["f0", "f1", "f2"];

fn one_of(names: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(names)
}

/// Only three of the four hosts ever register; the other one is known from merged records at most.
fn host() -> impl Strategy<Value = &'static str> {
    one_of(&HOSTS[..3])
}

fn capabilities() -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(vec!["a", "b", "c"], 0..=3)
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0i64..60).prop_map(|s| Timestamp::from_millis(START_MS + s * 1000))
}

fn fence() -> impl Strategy<Value = Fence> {
    prop_oneof![
        1 => Just(Fence::Absent), 6 => Just(Fence::Current), 1 => Just(Fence::Stale), 1 => Just(Fence::Future)
    ]
}

fn leases() -> impl Strategy<Value = Vec<(usize, Fence)>> {
    prop::collection::vec((0..JOBS.len(), fence()), 1..6)
}

fn assignment_status() -> impl Strategy<Value = AssignmentStatus> {
    prop::sample::select(AssignmentStatus::ALL)
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        11 => operations::of_a_job().prop_map(Action::Do),
        5 => operations::of_a_service().prop_map(Action::Do),
        4 => super::schedules::operation().prop_map(Action::Do),
        1 => records::merge().prop_map(Action::Do),
        3 => (0..JOBS.len(), prop::option::weighted(0.2, 0..3usize), fence(), any::<bool>(), stopped())
            .prop_map(|(job, host, fence, success, stopped)| {
                Action::Complete { job, host, fence, success, stopped }
            }),
        1 => (0..JOBS.len(), fence()).prop_map(|(job, fence)| Action::Tell { job, fence }),
        1 => leases().prop_map(Action::Renew),
        1 => leases().prop_map(Action::Expire),
        4 => any::<prop::sample::Index>().prop_map(Action::Again),
        2 => prune(),
    ]
}

fn prune() -> impl Strategy<Value = Action> {
    let jobs = prop::collection::vec((0..JOBS.len(), prop::bool::weighted(0.9)), 1..9);
    let up_to = prop::option::weighted(0.7, time());
    (jobs, prop::sample::select(WhyPruned::ALL.as_slice()), up_to)
        .prop_map(|(jobs, why, up_to)| Action::Prune { jobs, why, up_to })
}

fn stopped() -> impl Strategy<Value = Option<Stopped>> {
    prop::option::weighted(0.3, prop::sample::select(Stopped::ALL))
}

/// A sequence of commands.
pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (-500i64..3000, 0..NODES.len(), prop::option::of(0usize..4), action())
        .prop_map(|(wait_ms, node, key, action)| Step { wait_ms, node, key, action });
    prop::collection::vec(step, 0..60)
}

/// The command a step stands for in this state; `None` when there is nothing to repeat.
fn resolve(step: &Step, at: Timestamp, world: &World, earlier: &[Command]) -> Option<Command> {
    let (state, records) = (&world.state, &world.records);
    let own = |job: usize| state.job(&job_id(JOBS[job])).map_or(0, |job| job.fence);
    let token = |job: usize, fence: Fence| match fence {
        Fence::Absent => None,
        Fence::Current => Some(own(job)),
        Fence::Stale => Some(own(job).saturating_sub(1)),
        Fence::Future => Some(own(job) + 1),
    };
    let refs = |leases: &[(usize, Fence)]| -> Vec<LeaseRef> {
        let named = leases.iter().filter_map(|(job, fence)| Some((*job, token(*job, *fence)?)));
        named.map(|(job, fence)| LeaseRef { job: job_id(JOBS[job]), fence }).collect()
    };
    let operation = match &step.action {
        Action::Do(operation) => operation.clone(),
        Action::Tell { job, fence } => {
            let holder = state.job(&job_id(JOBS[*job])).and_then(|job| job.host().cloned());
            let host = holder.unwrap_or_else(|| host_id(HOSTS[0]));
            let events = vec![Event::new(at, "started", "")];
            Operation::TellEvents {
                id: job_id(JOBS[*job]),
                host,
                fence: token(*job, *fence).unwrap_or(0),
                events,
            }
        }
        Action::Complete { job, host, fence, success, stopped } => {
            let holder = state.job(&job_id(JOBS[*job])).and_then(|job| job.host().map(HostId::to_string));
            let host = host.map(|h| HOSTS[h].to_owned()).or(holder).unwrap_or_else(|| HOSTS[0].into());
            let mut done = completion(JOBS[*job], &host, *success);
            done.fence = token(*job, *fence);
            done.stopped = *stopped;
            Operation::Complete(done)
        }
        Action::Renew(leases) => Operation::RenewLeases { leases: refs(leases), lease_ms: LEASE_MS },
        Action::Expire(leases) => Operation::ExpireLeases { leases: refs(leases) },
        Action::Prune { jobs, why, up_to } => {
            let jobs = jobs.iter().map(|(job, as_it_is)| {
                let known = records.jobs.get(&job_id(JOBS[*job])).filter(|_| *as_it_is);
                Expendable { id: job_id(JOBS[*job]), ended_at: known.map_or(at, |job| job.updated_at) }
            });
            Operation::PruneJobs(PruneJobs { jobs: jobs.collect(), why: *why, up_to: *up_to })
        }
        Action::Again(which) => {
            let mut again = (!earlier.is_empty()).then(|| which.get(earlier).clone())?;
            again.at = at;
            // It is stamped anew by whoever proposes it.
            again.idempotency.iter_mut().for_each(|key| key.expires_at = at.plus(KEY_TTL));
            return Some(again);
        }
    };
    let idempotency = step.key.and_then(|key| key_for(&operation, key, at));
    let node = node_id(NODES[step.node]);
    // Some say who they are.
    let by = (at.as_millis() % 3 == 0).then(|| Actor {
        stated: Some("ann".into()),
        node_id: Some(node.clone()),
        ..Actor::new(ActorKind::Client)
    });
    Some(Command { at, node, idempotency, by: by.map(Arc::new), operation })
}

/// The key a client would give: the route names what it is for, the fingerprint what was asked.
fn key_for(operation: &Operation, key: usize, at: Timestamp) -> Option<IdempotencyKey> {
    let route = match operation {
        Operation::RegisterHost { .. } => "register".to_owned(),
        Operation::Enqueue { .. } => "enqueue".to_owned(),
        Operation::Claim { host, .. } => format!("claim {host}"),
        Operation::Complete(done) => format!("complete {}", done.id),
        Operation::Cancel { id } => format!("cancel {id}"),
        Operation::DeployService { .. } => "deploy".to_owned(),
        Operation::ClaimService { host, .. } => format!("claim service {host}"),
        Operation::ReportService { id, .. } => format!("report {id}"),
        Operation::Merge { .. } => "merge".to_owned(),
        Operation::ResolveJob { id, .. } => format!("resolve {id}"),
        Operation::TellEvents { id, .. } => format!("events {id}"),
        Operation::RetryJob { id, .. } => format!("retry {id}"),
        Operation::Freeze { .. } => "freeze".to_owned(),
        Operation::Thaw { id, .. } => format!("thaw {id}"),
        Operation::DrainHost { id, .. } => format!("drain {id}"),
        Operation::UndrainHost { id } => format!("undrain {id}"),
        Operation::RemoveHost { id, .. } => format!("remove {id}"),
        Operation::CreateSchedule { .. } => "schedule".to_owned(),
        Operation::PauseSchedule { schedule, .. } => format!("pause {schedule}"),
        Operation::ResumeSchedule { schedule, .. } => format!("resume {schedule}"),
        Operation::DeleteSchedule { schedule } => format!("delete {schedule}"),
        Operation::TriggerSchedule { schedule, .. } => format!("trigger {schedule}"),
        Operation::RenewLeases { .. }
        | Operation::ExpireLeases { .. }
        | Operation::PruneReplies
        | Operation::StageRestore(_)
        | Operation::CancelRestore { .. }
        | Operation::RollBack(_)
        | Operation::ReleaseClaims { .. }
        | Operation::NoteHosts { .. }
        | Operation::NoteSwitch { .. }
        | Operation::SettleDependents { .. }
        | Operation::PassTime { .. }
        | Operation::FireSchedule(_)
        | Operation::SubmitWaiting { .. }
        | Operation::PruneJobs(_) => {
            return None;
        }
    };
    let mut body = operation.clone();
    if let Operation::Enqueue { id, .. } = &mut body {
        *id = job_id("minted-by-the-proposer");
    }
    if let Operation::Freeze { id, .. } = &mut body {
        *id = freeze_id("minted-by-the-proposer");
    }
    let body = serde_json::to_value(&body).expect("json");
    Some(IdempotencyKey {
        caller: CALLERS[key % CALLERS.len()].into(),
        route,
        key: format!("key-{}", key / CALLERS.len()),
        fingerprint: canonical::fingerprint(&body),
        expires_at: at.plus(KEY_TTL),
    })
}

/// One command with what was before it, what came of it and what is after it.
pub(super) struct Turn<'a> {
    pub(super) command: &'a Command,
    pub(super) outcome: &'a Outcome,
    pub(super) before: (Memory, Records),
    pub(super) after: &'a mut World,
}

impl Turn<'_> {
    pub(super) fn is_merge(&self) -> bool {
        matches!(self.command.operation, Operation::Merge { .. })
    }
}

/// Carries the steps out on a world of their own and has `check` look at each turn; gives the commands.
pub(super) fn play(
    steps: &[Step],
    mut check: impl FnMut(Turn<'_>) -> Result<(), TestCaseError>,
) -> Result<Vec<Command>, TestCaseError> {
    let mut world = World::default();
    let mut commands = Vec::new();
    let mut ms = START_MS;
    for step in steps {
        ms += step.wait_ms;
        let at = Timestamp::from_millis(ms);
        let Some(command) = resolve(step, at, &world, &commands) else { continue };
        let before = (Memory::of(&world.state), world.records.clone());
        let outcome = world.apply(&command);
        check(Turn { command: &command, outcome: &outcome, before, after: &mut world })?;
        commands.push(command);
    }
    Ok(commands)
}

/// The commands of the steps.
pub(super) fn commands(steps: &[Step]) -> Vec<Command> {
    play(steps, |_| Ok(())).expect("nothing is checked")
}

/// Ids of jobs as a plain list.
pub(super) fn ids(jobs: &[Arc<crate::model::Job>]) -> Vec<&str> {
    jobs.iter().map(|job| job.id.as_str()).collect()
}
