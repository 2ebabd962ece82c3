//! Random command sequences, with few ids so that they meet.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use skyclaw_proto::request::{DeployService, ReportService};
use skyclaw_proto::{
    Actor, ActorKind, AgentId, AssignmentStatus, Capabilities, Concurrency, Enforces, HostId, Isolation,
    JobStatus, Links, OnDependencyFailure, OnLost, Payload, Plan, Resolution, RestoreId, Retry, Scope,
    ServiceStatus, ShellPayload, Stopped, Terms, Timestamp, canonical, record,
};
use uuid::Uuid;

use super::kit::{
    LEASE_MS, Memory, Records, START_MS, World, claim, completion, enqueue, freeze_id, host_id, job_id,
    node_id, service_id,
};
use crate::command::{Command, IdempotencyKey, LeaseRef, Operation};
use crate::history::Event;
use crate::model::HostFreeze;
use crate::outcome::{Outcome, StagedPart};
use crate::restore::RollBack;
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

fn job_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => (host(), capabilities(), 1u32..4).prop_map(|(host, caps, max_parallel)| {
            (host, Capabilities::new(caps), max_parallel)
        }).prop_flat_map(|(host, capabilities, max_parallel)| enforces().prop_map(move |enforces| {
            let (id, name, capabilities) = (host_id(host), host.into(), capabilities.clone());
            Operation::RegisterHost { id, name, capabilities, max_parallel, enforces }
        })),
        8 => (one_of(&JOBS), capabilities(), prop::sample::select(vec![0u8, 50, 50, 50, 100]), terms(), plan(), (labels(), links()))
            .prop_map(|(job, caps, priority, wanted, when, (pairs, ties))| {
                let mut operation = enqueue(job, &caps, priority);
                if let Operation::Enqueue { terms, plan, labels, links, submitted_by, .. } = &mut operation {
                    (*links, *submitted_by) = (ties.0.kept().map(Into::into), ties.1);
                    *terms = wanted.kept().map(Into::into);
                    *plan = when.kept().map(Into::into);
                    *labels = pairs;
                }
                operation
            }),
        8 => (host(), 0u32..4).prop_map(|(host, max)| claim(host, max)),
        2 => one_of(&JOBS).prop_map(|job| Operation::Cancel { id: job_id(job) }),
        1 => Just(Operation::PruneReplies),
        3 => (0u32..4).prop_map(|most| Operation::PassTime { most }),
        2 => prop::sample::subsequence(&JOBS[..], 0..4)
            .prop_map(|ids| Operation::SettleDependents { ended: ids.into_iter().map(job_id).collect() }),
        1 => restore_operation(),
        4 => operators_operation(),
    ]
}

fn enforces() -> impl Strategy<Value = Option<Arc<Enforces>>> {
    let words =
        prop::sample::subsequence(vec!["podman", "podman.memory", "process", "process.memory"], 0..=4);
    prop::option::weighted(0.3, words).prop_map(|words| {
        let can = words?.into_iter().map(str::to_owned).collect();
        Some(Arc::new(Enforces { can, ..Enforces::default() }))
    })
}

fn terms() -> impl Strategy<Value = Terms> {
    let isolation = prop::option::weighted(0.2, prop::sample::select(Isolation::ALL));
    let agent = prop::option::weighted(0.3, Just("bot"));
    (prop::sample::select(OnLost::ALL), isolation, agent, prop::bool::weighted(0.1)).prop_map(
        |(on_lost, isolation, agent, memory)| {
            let mut terms = Terms { on_lost, isolation, ..Terms::default() };
            terms.agent_id = agent.and_then(|agent| AgentId::parse(agent).ok());
            terms.resources.memory_bytes = memory.then_some(1 << 20);
            terms
        },
    )
}

fn plan() -> impl Strategy<Value = Plan> {
    let retry = (1u32..4, 0u64..5000, 0u64..9000).prop_map(|(max_attempts, backoff_ms, max_backoff_ms)| {
        Retry { max_attempts, backoff_ms, max_backoff_ms }
    });
    let times = (prop::option::weighted(0.2, 1u64..20_000), prop::option::weighted(0.2, time()));
    let retain = prop::option::weighted(0.2, 0u64..20_000);
    (times, prop::option::weighted(0.3, retry), retain)
        .prop_map(|((ttl_ms, not_before), retry, retain_ms)| Plan { ttl_ms, not_before, retry, retain_ms })
}

/// What ties a job to others, and who submits it.
fn links() -> impl Strategy<Value = (Links, Option<String>)> {
    let depends_on = prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::sample::subsequence(&JOBS[..], 1..4).prop_map(|ids| ids.into_iter().map(job_id).collect())
    ];
    let concurrency =
        (one_of(&["x", "y"]), 1u32..4).prop_map(|(key, limit)| Concurrency { key: key.into(), limit });
    let unique = prop::option::weighted(0.1, one_of(&["u", "v"]));
    let by = prop::option::weighted(0.2, one_of(&["public:a", "public:b", "ann"]));
    let on_failure = prop::sample::select(OnDependencyFailure::ALL);
    (depends_on, on_failure, prop::option::weighted(0.4, concurrency), unique, by).prop_map(
        |(depends_on, on_dependency_failure, concurrency, unique, by)| {
            let unique_key = unique.map(Into::into);
            (Links { depends_on, on_dependency_failure, concurrency, unique_key }, by.map(str::to_owned))
        },
    )
}

fn labels() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    prop::option::weighted(0.3, one_of(&["a", "b"]))
        .prop_map(|team| team.map(|team| ("team".to_owned(), team.to_owned())).into_iter().collect())
}

fn scope() -> impl Strategy<Value = Scope> {
    let agent = prop::option::weighted(0.3, Just("bot"));
    (labels(), agent).prop_map(|(labels, agent)| Scope {
        labels,
        agent_id: agent.and_then(|agent| AgentId::parse(agent).ok()),
    })
}

fn operators_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        2 => (one_of(&JOBS), prop::sample::select(Resolution::ALL)).prop_map(|(job, action)| {
            Operation::ResolveJob { id: job_id(job), action, reason: None, by: None, result: None }
        }),
        3 => one_of(&JOBS).prop_map(|job| Operation::RetryJob { id: job_id(job), reason: None, by: None }),
        2 => (one_of(&FREEZES), scope())
            .prop_map(|(id, scope)| Operation::Freeze { id: freeze_id(id), scope, reason: None, by: None }),
        4 => one_of(&FREEZES).prop_map(|id| Operation::Thaw { id: freeze_id(id), by: None }),
        1 => (host(), prop::option::of(0u64..9)).prop_map(|(id, deadline_ms)| {
            Operation::DrainHost { id: host_id(id), deadline_ms, reason: None, by: None }
        }),
        2 => host().prop_map(|id| Operation::UndrainHost { id: host_id(id) }),
        1 => (host(), prop::bool::weighted(0.2))
            .prop_map(|(id, force)| Operation::RemoveHost { id: host_id(id), force }),
        2 => (host(), prop::option::of(0i64..4)).prop_map(|(id, since)| {
            let since = since.map(Timestamp::from_millis);
            let frozen = since.map(|since| HostFreeze { since, reason: None, by: None });
            Operation::NoteSwitch { id: host_id(id), frozen, by: None }
        }),
        1 => (host(), host())
            .prop_map(|(up, down)| Operation::NoteHosts { up: vec![host_id(up)], down: vec![host_id(down)] }),
    ]
}

fn restore_operation() -> impl Strategy<Value = Operation> {
    let id = || one_of(&RESTORES).prop_map(|id| RestoreId::parse(id).expect("an id"));
    prop_oneof![
        (id(), 0u32..3, any::<[u8; 2]>()).prop_map(|(restore, part, bytes)| {
            Operation::StageRestore(Arc::new(StagedPart { restore, part, bytes: bytes.to_vec() }))
        }),
        id().prop_map(|restore| Operation::CancelRestore { restore }),
        id().prop_map(|restore| Operation::ReleaseClaims { restore }),
        id().prop_map(|restore| Operation::RollBack(RollBack {
            restore,
            cluster: Uuid::nil(),
            force: false,
            requested_by: None,
        })),
    ]
}

fn service_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (one_of(&SERVICES), 1u32..3, capabilities()).prop_map(|(id, replicas, caps)| {
            let service = DeployService {
                service_id: None,
                name: id.into(),
                command: "serve".into(),
                args: Vec::new(),
                cwd: None,
                env: None,
                replicas,
                required_capabilities: Capabilities::new(caps),
                labels: Default::default(),
                agent_id: None,
            };
            Operation::DeployService { id: service_id(id), service: Box::new(service) }
        }),
        (host(), prop::option::of(prop::sample::subsequence(&SERVICES[..], 0..3)), one_of(&SERVICES))
            .prop_map(|(host, running, after)| Operation::ClaimService {
                host: host_id(host),
                running: running.map(|ids| ids.into_iter().map(service_id).collect()),
                after: Some(service_id(after)),
            }),
        (one_of(&SERVICES), host(), assignment_status()).prop_map(|(id, host, status)| {
            let report = ReportService { host_id: host_id(host), status, endpoint: None, error: None };
            Operation::ReportService { id: service_id(id), report }
        }),
    ]
}

fn version() -> impl Strategy<Value = u64> {
    prop_oneof![9 => 0u64..40, 1 => Just(u64::MAX)]
}

fn host_record() -> impl Strategy<Value = record::Host> {
    (one_of(&HOSTS), capabilities(), 0u32..4, version(), one_of(&NODES), time()).prop_map(
        |(id, caps, n, version, node, at)| record::Host {
            id: host_id(id),
            name: id.into(),
            capabilities: Capabilities::new(caps),
            max_parallel: n,
            active_leases: n,
            last_seen_at: at,
            registered_at: at,
            updated_by: node_id(node),
            version,
            state: None,
            state_since: None,
            state_reason: None,
            drain: None,
            enforces: None,
            frozen: None,
            events: Vec::new(),
        },
    )
}

fn job_record() -> impl Strategy<Value = record::Job> {
    let who = (one_of(&JOBS), prop::option::of(one_of(&HOSTS)), one_of(&NODES), capabilities());
    let what = (prop::sample::select(JobStatus::ALL), prop_oneof![Just(0), Just(u32::MAX)], 0u64..9);
    let times = (prop::option::weighted(0.2, time()), prop::option::weighted(0.2, time()));
    (who, what, (version(), times), time(), time()).prop_map(
        |(
            (id, host, node, caps),
            (status, attempts, fence),
            (version, (claimable_at, expires_at)),
            created_at,
            updated_at,
        )| record::Job {
            id: job_id(id),
            created_at,
            updated_at,
            updated_by: node_id(node),
            version,
            status,
            attempts,
            lease_expires_at: None,
            assigned_host_id: host.map(host_id),
            requirement: record::Requirement { required_capabilities: Capabilities::new(caps) },
            payload: Payload::Shell(ShellPayload::default()),
            submitted_by: None,
            result: None,
            error: None,
            priority: None,
            labels: Default::default(),
            fence: Some(fence),
            cancel_requested_at: None,
            lost_at: None,
            on_lost: None,
            isolation: None,
            image: None,
            resources: None,
            agent_id: None,
            network: None,
            mounts: Vec::new(),
            grace_ms: None,
            depends_on: Vec::new(),
            on_dependency_failure: None,
            waits_for: Vec::new(),
            concurrency_key: None,
            concurrency_limit: None,
            unique_key: None,
            ttl_ms: None,
            not_before: None,
            retry: None,
            retain_ms: None,
            claimable_at,
            expires_at,
            failed_attempts: 0,
            attempt_results: Vec::new(),
            schedule_id: None,
            scheduled_at: None,
        },
    )
}

fn service_record() -> impl Strategy<Value = record::Service> {
    let assignments = prop::collection::vec((one_of(&HOSTS), assignment_status(), time()), 0..3);
    (one_of(&SERVICES), version(), one_of(&NODES), time(), assignments).prop_map(
        |(id, version, node, at, assignments)| record::Service {
            id: service_id(id),
            name: id.into(),
            command: "serve".into(),
            args: Vec::new(),
            cwd: None,
            env: None,
            replicas: 1,
            required_capabilities: Capabilities::default(),
            status: ServiceStatus::Pending,
            created_at: at,
            updated_at: at,
            updated_by: node_id(node),
            version,
            assignments: assignments
                .into_iter()
                .map(|(host, status, updated_at)| record::Assignment {
                    host_id: host_id(host),
                    status,
                    endpoint: None,
                    error: None,
                    started_at: None,
                    updated_at,
                })
                .collect(),
            labels: Default::default(),
            agent_id: None,
        },
    )
}

fn merge() -> impl Strategy<Value = Operation> {
    let hosts = prop::collection::vec(host_record(), 0..3);
    let jobs = prop::collection::vec(job_record(), 0..4);
    let services = prop::collection::vec(service_record(), 0..3);
    (hosts, jobs, services).prop_map(|(hosts, jobs, services)| Operation::Merge { hosts, jobs, services })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        11 => job_operation().prop_map(Action::Do),
        5 => service_operation().prop_map(Action::Do),
        4 => super::schedules::operation().prop_map(Action::Do),
        1 => merge().prop_map(Action::Do),
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
