//! What clients, hosts and operators ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use skyclaw_proto::request::{DeployService, ReportService};
use skyclaw_proto::{
    AgentId, Capabilities, Concurrency, Enforces, Isolation, Links, OnDependencyFailure, OnLost, Plan,
    Resolution, RestoreId, Retry, Scope, Terms, Timestamp,
};
use uuid::Uuid;

use super::super::kit::{claim, enqueue, freeze_id, host_id, job_id, service_id};
use super::{FREEZES, JOBS, RESTORES, SERVICES, assignment_status, capabilities, host, one_of, time};
use crate::command::Operation;
use crate::model::HostFreeze;
use crate::outcome::StagedPart;
use crate::restore::RollBack;

pub(super) fn of_a_job() -> impl Strategy<Value = Operation> {
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
        1 => of_a_restore(),
        4 => of_an_operator(),
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

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
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

fn of_an_operator() -> impl Strategy<Value = Operation> {
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

fn of_a_restore() -> impl Strategy<Value = Operation> {
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

pub(super) fn of_a_service() -> impl Strategy<Value = Operation> {
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
