//! Freezes, drained hosts, and hosts that can enforce what jobs ask for.

use std::sync::Arc;

use skyclaw_proto::{
    AgentId, AssignmentStatus, Isolation, OnLost, Resources, Scope, Stopped, Terms, Timestamp, limits,
};

use super::generate::ids;
use super::kit::{World, completion, host_id, host_of, job_id, service_of};
use crate::command::{Completion, Operation};
use crate::freeze::{Freeze, KEPT_FREEZES};
use crate::model::{Condition, HostFreeze, Phase};
use crate::outcome::{Effect, Refusal, Reply};
use crate::state::{Claimable, ServiceOffer};

fn agent(name: &str) -> Terms {
    Terms { agent_id: AgentId::parse(name).ok(), ..Terms::default() }
}

fn of_agent(name: &str) -> Scope {
    Scope { agent_id: AgentId::parse(name).ok(), ..Scope::default() }
}

fn labelled(key: &str, value: &str) -> Scope {
    Scope { labels: [(key.to_owned(), value.to_owned())].into(), ..Scope::default() }
}

fn freeze_of(reply: Result<Reply, Refusal>) -> Arc<Freeze> {
    match reply {
        Ok(Reply::Freeze(freeze)) => freeze,
        other => panic!("not a freeze: {other:?}"),
    }
}

/// A host `h1` with room, and three queued jobs: of agent `bot`, of team `a`, and of nobody.
fn world() -> World {
    let mut world = World::default();
    world.register("h1", &[], 9);
    world.enqueue_with("bots", agent("bot"), &[]);
    world.enqueue_with("teams", Terms::default(), &[("team", "a")]);
    world.enqueue("plain", &[], 50);
    world
}

#[test]
fn nothing_that_is_frozen_is_claimed_until_it_is_thawed() {
    let mut world = world();
    freeze_of(world.freeze("f1", of_agent("bot")));
    freeze_of(world.freeze("f2", labelled("team", "a")));
    assert_eq!(ids(&world.claim("h1", 9)), ["plain"]);
    assert_eq!(world.state.claimable(&host_id("h1")), Claimable::Nothing);
    world.enqueue_with("late", agent("bot"), &[]);
    world.restart();
    assert!(world.claim("h1", 9).is_empty(), "also what came later, and after a restart");
    assert_eq!(world.state.queued(), 3);
    let outcome = world.apply(&world.command(Operation::Thaw { id: super::kit::freeze_id("f1"), by: None }));
    assert!(outcome.effects.contains(&Effect::ClaimsReleased));
    assert_eq!(ids(&world.claim("h1", 9)), ["bots", "late"], "in the order they came");
    world.thaw("f2").expect("thawed");
    assert_eq!(ids(&world.claim("h1", 9)), ["teams"]);
}

#[test]
fn a_freeze_of_everything_stops_every_claim_and_is_one_however_often_it_is_asked_for() {
    let mut world = world();
    let first = freeze_of(world.freeze("f1", Scope::default()));
    assert_eq!(freeze_of(world.freeze("f9", Scope::default())), first);
    assert_eq!(world.state.claimable(&host_id("h1")), Claimable::Nothing);
    assert!(world.claim("h1", 9).is_empty());
    let over = freeze_of(world.thaw("f1"));
    assert!(!over.is_in_force());
    assert_eq!(freeze_of(world.thaw("f1")), over, "thawing twice is the same as once");
    assert_eq!(world.thaw("f9"), Err(Refusal::UnknownFreeze(super::kit::freeze_id("f9"))));
    assert_eq!(world.claim("h1", 9).len(), 3);
}

#[test]
fn hosts_are_told_of_what_runs_and_is_frozen() {
    let mut world = world();
    world.claim("h1", 9);
    world.deploy("s1", 1);
    world.claim_service("h1").expect("a service");
    let outcome = world.apply(&world.command(Operation::Freeze {
        id: super::kit::freeze_id("f1"),
        scope: Scope::default(),
        reason: Some("odd trades".into()),
        by: Some("ann".into()),
    }));
    let told = outcome.effects.iter().filter(|effect| matches!(effect, Effect::StopRun { .. })).count();
    assert_eq!(told, 3);
    assert!(outcome.effects.contains(&Effect::TellHost { host: host_id("h1") }), "of the service");
    let job = world.state.job(&job_id("plain")).cloned().expect("it runs");
    assert!(world.state.freeze_of(&job).is_some());
    let said = job.events().last().and_then(|event| event.detail).expect("an event");
    assert_eq!(&*said, "f1 (everything) by ann: odd trades");
    // Its host confirms, and it waits for the thaw.
    let done = Completion {
        fence: Some(job.fence),
        stopped: Some(Stopped::Frozen),
        ..completion("plain", "h1", false)
    };
    world.run(Operation::Complete(done)).expect("confirmed");
    assert_eq!(world.state.job(&job_id("plain")).map(|job| job.phase.clone()), Some(Phase::Queued));
    assert!(world.claim("h1", 9).is_empty());
    world.thaw("f1").expect("thawed");
    assert_eq!(ids(&world.claim("h1", 9)), ["plain"]);
}

#[test]
fn a_frozen_service_is_offered_to_nobody_and_starts_again_at_once() {
    let mut world = world();
    world.deploy("s1", 1);
    world.claim_service("h1").expect("a service");
    world.report("s1", "h1", AssignmentStatus::Running);
    world.freeze("f1", Scope::default()).expect("frozen");
    let offer = |world: &World| world.state.service_offer(&host_id("h1"), Some(&[]), None, world.now());
    assert_eq!(offer(&world), ServiceOffer::Nothing, "not even to who has it");
    let report = super::kit::report("s1", "h1", AssignmentStatus::Failed);
    let stopped = service_of(world.run(report));
    assert_eq!(stopped.assignments[0].failures, 0, "it was told to stop");
    world.thaw("f1").expect("thawed");
    assert!(matches!(offer(&world), ServiceOffer::Free(_)), "without a pause");
}

#[test]
fn there_are_only_so_many_freezes_and_old_ones_are_forgotten() {
    let mut world = World::default();
    for n in 0..limits::MAX_FREEZES {
        world.freeze(&format!("f{n}"), of_agent(&format!("a{n}"))).expect("frozen");
    }
    assert_eq!(world.freeze("more", of_agent("more")), Err(Refusal::TooManyFreezes));
    for n in 0..limits::MAX_FREEZES {
        world.thaw(&format!("f{n}")).expect("thawed");
    }
    assert_eq!((world.state.freezes().len(), world.records.freezes.len()), (KEPT_FREEZES, KEPT_FREEZES));
    let next = freeze_of(world.freeze("next", of_agent("a")));
    assert_eq!(next.number, limits::MAX_FREEZES as u64 + 1, "numbers are not given out twice");
}

#[test]
fn a_drained_host_is_given_nothing_more_and_is_drained_on_when_it_registers_anew() {
    let mut world = world();
    world.claim("h1", 1);
    world.deploy("s1", 1);
    let drained = world.drain("h1", Some(5000));
    let wire = skyclaw_proto::record::Host::from(&*drained);
    assert_eq!(wire.state, Some(skyclaw_proto::HostState::Draining));
    assert_eq!(wire.state_reason.as_deref(), Some("new disk"));
    let deadline = wire.drain.and_then(|drain| drain.deadline_at);
    assert_eq!(deadline, Some(world.now().plus(std::time::Duration::from_secs(5))));
    assert!(world.claim("h1", 9).is_empty() && world.claim_service("h1").is_none());
    assert_eq!(world.state.claimable(&host_id("h1")), Claimable::Full);
    assert!(world.register("h1", &[], 9).drain().is_some());
    let undrained = host_of(world.run(Operation::UndrainHost { id: host_id("h1") }));
    assert!(undrained.condition.is_none());
    assert_eq!(world.claim("h1", 9).len(), 2);
}

#[test]
fn a_host_that_is_frozen_on_its_machine_is_given_nothing_until_it_says_otherwise() {
    let mut world = world();
    world.deploy("s1", 1);
    let since = world.now();
    let frozen = HostFreeze { since, reason: Some("odd".to_owned()), by: Some("root".to_owned()) };
    let note = |frozen| Operation::NoteSwitch { id: host_id("h1"), frozen, by: Some("ann".to_owned()) };
    let noted = host_of(world.run(note(Some(frozen.clone()))));
    let wire = skyclaw_proto::record::Host::from(&*noted);
    assert_eq!(wire.state, Some(skyclaw_proto::HostState::Frozen));
    assert_eq!((wire.state_since, wire.state_reason.as_deref()), (Some(since), Some("odd")));
    assert!(world.claim("h1", 9).is_empty() && world.claim_service("h1").is_none());
    assert_eq!(world.state.claimable(&host_id("h1")), Claimable::Full);
    // It is so over a registration, a thaw of the cluster, and however often it is said.
    assert!(world.register("h1", &[], 9).frozen().is_some());
    let again = world.apply(&world.command(note(Some(frozen))));
    assert!(again.changes.is_empty(), "no news");
    let thawed = host_of(world.run(note(None)));
    let wire = skyclaw_proto::record::Host::from(&*thawed);
    let told: Vec<_> = wire.events.iter().map(|event| (event.kind.as_str(), event.by.as_deref())).collect();
    assert_eq!(told, [("frozen", Some("root")), ("thawed", Some("ann"))]);
    assert_eq!(world.claim("h1", 9).len(), 3);
    for at in 0..40 {
        let frozen = HostFreeze { since: Timestamp::from_millis(at), reason: None, by: None };
        world.run(note(Some(frozen))).expect("noted");
    }
    let host = world.state.host(&host_id("h1")).expect("known");
    assert_eq!(host.condition.as_ref().map(|it| it.events.len()), Some(Condition::MAX_EVENTS));
    let unknown = Operation::NoteSwitch { id: host_id("h9"), frozen: None, by: None };
    assert_eq!(world.run(unknown), Err(Refusal::UnknownHost(host_id("h9"))));
}

#[test]
fn a_host_is_forgotten_once_it_is_down_or_drained_or_by_force() {
    let remove = |host: &str, force| Operation::RemoveHost { id: host_id(host), force };
    let mut world = world();
    let refused = world.run(remove("h1", false)).expect_err("it is up");
    assert_eq!(refused.to_string(), "host h1 is up: drain it and wait, or stop it, or remove it by force");
    world.claim("h1", 1);
    world.drain("h1", None);
    let refused = world.run(remove("h1", false)).expect_err("it has a job").to_string();
    assert!(refused.contains("still has 1 jobs and 0 services"), "{refused}");
    world.complete("bots", "h1", true).expect("done");
    host_of(world.run(remove("h1", false)));
    assert!(world.state.host(&host_id("h1")).is_none() && world.records.hosts.is_empty());
    assert_eq!(world.run(remove("h1", true)), Err(Refusal::UnknownHost(host_id("h1"))));

    world.register("h2", &[], 1);
    world.deploy("s1", 1);
    world.claim_service("h2").expect("a service");
    world.run(Operation::NoteHosts { up: vec![], down: vec![host_id("h2")] }).expect("noted");
    host_of(world.run(remove("h2", false)));
    world.register("h3", &[], 1);
    assert!(world.claim_service("h3").is_some(), "the replica's place is free");
    host_of(world.run(remove("h3", true)));
}

#[test]
fn a_host_that_is_heard_of_again_is_up_since_then() {
    let mut world = world();
    let note = |up: &[&str], down: &[&str]| Operation::NoteHosts {
        up: up.iter().map(|id| host_id(id)).collect(),
        down: down.iter().map(|id| host_id(id)).collect(),
    };
    world.run(note(&[], &["h1", "h9"])).expect("noted");
    let wire = skyclaw_proto::record::Host::from(&**world.state.host(&host_id("h1")).expect("known"));
    assert_eq!((wire.state, wire.state_since), (Some(skyclaw_proto::HostState::Down), Some(world.now())));
    let again = world.apply(&world.command(note(&[], &["h1"])));
    assert!(again.changes.is_empty(), "no news");
    world.run(note(&["h1"], &[])).expect("noted");
    assert!(world.state.host(&host_id("h1")).is_some_and(|host| host.down_since().is_none()));
    world.run(note(&[], &["h1"])).expect("noted");
    assert!(world.register("h1", &[], 9).down_since().is_none(), "who registers is there");
}

#[test]
fn a_job_is_given_only_to_hosts_that_can_enforce_what_it_asks_for() {
    let mut world = World::default();
    world.register("silent", &["a"], 9);
    world.register_enforcing("process", &["process", "process.memory"]);
    world.register_enforcing("podman", &["podman", "podman.memory", "podman.network.host"]);
    let memory = Resources { memory_bytes: Some(1 << 20), ..Resources::default() };
    let isolated = |isolation, resources| Terms { isolation, resources, ..Terms::default() };
    world.enqueue_with("any", Terms { on_lost: OnLost::Hold, ..Terms::default() }, &[]);
    world.enqueue_with("as_process", isolated(Some(Isolation::Process), Resources::default()), &[]);
    world.enqueue_with("bounded", isolated(None, memory), &[]);
    world.enqueue_with("contained", isolated(Some(Isolation::Podman), memory), &[]);
    let network = Some("lan".to_owned());
    world.enqueue_with(
        "networked",
        Terms { network, ..isolated(Some(Isolation::Podman), Resources::default()) },
        &[],
    );
    assert_eq!(ids(&world.claim("silent", 9)), ["any", "as_process"]);
    assert_eq!(ids(&world.claim("podman", 9)), ["contained"]);
    assert_eq!(ids(&world.claim("process", 9)), ["bounded"]);
    world.register_enforcing("process", &["podman", "podman.network.lan"]);
    assert_eq!(ids(&world.claim("process", 9)), ["networked"], "what it says anew counts");
}
