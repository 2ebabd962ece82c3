//! What is written since jobs can be lost, frozen and isolated, and hosts drained.

use std::collections::BTreeMap;
use std::sync::Arc;

use skyclaw_core::{
    Completion, Condition, Drain, EndStatus, Ended, Event, Freeze, History, Host, HostEvent, HostFreeze, Job,
    Lost, Operation, Phase, Reply, Service, StoredReply, Thawed,
};
use skyclaw_proto::record::Usage;
use skyclaw_proto::request::{DeployService, FoundResult};
use skyclaw_proto::{
    Capabilities, Enforces, Isolation, Mount, OnLost, Resolution, Resources, Scope, Stopped, Terms,
};

use crate::{Failure, at, completion, ended, frozen_in, host, id, job, key, openclaw, pairs, service, text};

fn terms() -> Result<Terms, Failure> {
    Ok(Terms {
        on_lost: OnLost::Hold,
        isolation: Some(Isolation::Podman),
        image: text("localhost/busybox:latest"),
        resources: Resources {
            cpu_millis: Some(500),
            memory_bytes: Some(64 << 20),
            pids: Some(32),
            tmpfs_bytes: Some(1 << 20),
        },
        agent_id: Some(id("agent_1")?),
        network: text("host"),
        mounts: vec![Mount { source: "/srv/data".into(), target: "/data".into(), read_only: false }],
        grace_ms: Some(2500),
    })
}

fn enforces() -> Enforces {
    Enforces {
        can: vec!["podman".into(), "podman.memory".into()],
        best_effort: vec!["podman.cpu".into()],
        unavailable: pairs("process.memory", "no cgroups"),
        ..Enforces::default()
    }
}

fn scope() -> Result<Scope, Failure> {
    Ok(Scope { labels: pairs("team", "a"), agent_id: Some(id("agent_1")?) })
}

fn event(kind: &str) -> Result<Event, Failure> {
    Ok(Event {
        by: None,
        at: at(3),
        kind: kind.into(),
        detail: Some("pid 7".into()),
        host: Some(id("host_1")?),
        fence: 7,
    })
}

fn usage() -> Option<Usage> {
    Some(Usage { cpu_ms: Some(120), peak_memory_bytes: Some(1 << 20) })
}

fn host_freeze() -> HostFreeze {
    HostFreeze { since: at(2), reason: text("odd"), by: text("root") }
}

/// What jobs, hosts and operators can say since there are lost jobs, freezes and drained hosts.
pub(crate) fn operations() -> Result<Vec<(&'static str, Operation)>, Failure> {
    let found = FoundResult { exit_code: 0, stdout: "done".into(), stderr: String::new(), duration_ms: 9 };
    let host = || id("host_1");
    let mut all = vec![
        (
            "register_host_enforcing",
            Operation::RegisterHost {
                id: host()?,
                name: "alpha".into(),
                capabilities: Capabilities::default(),
                max_parallel: 4,
                enforces: Some(Arc::new(enforces())),
            },
        ),
        (
            "enqueue_with_terms",
            Operation::Enqueue {
                id: id("job_1")?,
                payload: Arc::new(openclaw()),
                required: Capabilities::default(),
                submitted_by: None,
                priority: 50,
                labels: BTreeMap::new(),
                terms: Some(Arc::new(terms()?)),
                plan: None,
                links: None,
            },
        ),
        (
            "complete_stopped",
            Operation::Complete(Completion {
                stopped: Some(Stopped::Frozen),
                usage: usage(),
                oom: true,
                events: vec![event("exit")?],
                ..completion()?
            }),
        ),
        (
            "resolve_job",
            Operation::ResolveJob {
                id: id("job_1")?,
                action: Resolution::Complete,
                reason: text("seen"),
                by: text("ann"),
                result: Some(found),
            },
        ),
        (
            "tell_events",
            Operation::TellEvents {
                id: id("job_1")?,
                host: host()?,
                fence: 7,
                events: vec![event("started")?],
            },
        ),
        (
            "freeze",
            Operation::Freeze { id: id("freeze_1")?, scope: scope()?, reason: text("odd"), by: text("ann") },
        ),
        ("thaw", Operation::Thaw { id: id("freeze_1")?, by: text("ann") }),
    ];
    all.extend(operations_on_hosts()?);
    Ok(all)
}

fn operations_on_hosts() -> Result<Vec<(&'static str, Operation)>, Failure> {
    let host = || id("host_1");
    Ok(vec![
        (
            "drain_host",
            Operation::DrainHost {
                id: host()?,
                deadline_ms: Some(60_000),
                reason: text("disk"),
                by: text("ann"),
            },
        ),
        ("undrain_host", Operation::UndrainHost { id: host()? }),
        ("remove_host", Operation::RemoveHost { id: host()?, force: true }),
        ("note_switch", Operation::NoteSwitch { id: host()?, frozen: Some(host_freeze()), by: text("ann") }),
        ("note_hosts", Operation::NoteHosts { up: vec![host()?], down: vec![id("host_2")?] }),
        (
            "deploy_service_labelled",
            Operation::DeployService {
                id: id("svc_1")?,
                service: Box::new(DeployService {
                    service_id: None,
                    name: "my-api".into(),
                    command: "node".into(),
                    args: Vec::new(),
                    cwd: None,
                    env: None,
                    replicas: 1,
                    required_capabilities: Capabilities::default(),
                    labels: pairs("team", "a"),
                    agent_id: Some(id("agent_1")?),
                }),
            },
        ),
    ])
}

#[test]
fn records_of_the_second_version_are_read_and_written_as_ever() -> Result<(), Failure> {
    let drain = Drain { since: at(2), deadline: Some(at(9)), reason: text("disk"), by: text("ann") };
    let condition = Condition {
        down_since: Some(at(3)),
        up_since: Some(at(1)),
        drain: Some(drain),
        ..Condition::default()
    };
    let enforces = Some(Arc::new(enforces()));
    frozen_in("records-v2", "host", &Host { condition: Some(Box::new(condition)), enforces, ..host()? })?;
    let frozen = HostEvent { at: at(3), frozen: true, reason: text("odd"), by: text("root") };
    let condition = Condition { frozen: Some(host_freeze()), events: vec![frozen], ..Condition::default() };
    frozen_in("records-v2", "host_frozen", &Host { condition: Some(Box::new(condition)), ..host()? })?;
    let mut history = History::default();
    history.push(event("claimed")?);
    let (terms, history) = (Some(Arc::new(terms()?)), Some(Arc::new(history)));
    let lost = Phase::Lost(Lost { host: id("host_1")?, since: at(5), why: "its lease ran out".into() });
    frozen_in("records-v2", "job_lost", &Job { terms, history, ..job(lost)? })?;
    let mut completed = job(ended(EndStatus::Completed)?)?;
    if let Phase::Ended(Ended { run: Some(run), .. }) = &mut completed.phase {
        let run = Arc::make_mut(run);
        (run.usage, run.oom) = (usage(), true);
    }
    frozen_in("records-v2", "job_completed", &completed)?;
    let labelled = Service { labels: pairs("team", "a"), agent: Some(id("agent_1")?), ..service()? };
    frozen_in("records-v2", "service", &labelled)?;
    let mut freeze = Freeze {
        number: 3,
        id: id("freeze_1")?,
        scope: scope()?,
        at: at(1),
        node: id("node_1")?,
        reason: text("odd"),
        by: text("ann"),
        thawed: None,
    };
    frozen_in("records-v2", "freeze", &freeze)?;
    let kept = StoredReply { key: key(), reply: Reply::Freeze(Arc::new(freeze.clone())) };
    frozen_in("records-v2", "reply_freeze", &kept)?;
    freeze.thawed = Some(Thawed { at: at(2), by: text("ann") });
    frozen_in("records-v2", "freeze_thawed", &freeze)
}
