//! Jobs that depend on others, share a limit, or are unique: single cases.

use std::sync::Arc;

use skyclaw_proto::explanation::ReasonCode;
use skyclaw_proto::{Concurrency, JobStatus, Links, OnDependencyFailure, OnLost, Resolution, Scope, Terms};

use super::generate::ids;
use super::kit::{World, enqueue, job_id, job_of};
use crate::apply::SETTLED_AT_ONCE;
use crate::command::Operation;
use crate::model::Job;
use crate::outcome::{Effect, Refusal, Reply};

fn after(on: &[&str]) -> Links {
    Links { depends_on: on.iter().map(|id| job_id(id)).collect(), ..Links::default() }
}

fn skipping(on: &[&str]) -> Links {
    Links { on_dependency_failure: OnDependencyFailure::Skip, ..after(on) }
}

fn sharing(key: &str, limit: u32) -> Links {
    Links { concurrency: Some(Concurrency { key: key.into(), limit }), ..Links::default() }
}

fn unique(key: &str) -> Links {
    Links { unique_key: Some(key.into()), ..Links::default() }
}

fn tied(job: &str, links: Links, by: Option<&str>) -> Operation {
    let mut operation = enqueue(job, &[], 50);
    if let Operation::Enqueue { links: own, submitted_by, .. } = &mut operation {
        (*own, *submitted_by) = (links.kept().map(Into::into), by.map(str::to_owned));
    }
    operation
}

fn tie(world: &mut World, job: &str, links: Links) -> Arc<Job> {
    job_of(world.run(tied(job, links, None)))
}

fn status(world: &World, job: &str) -> JobStatus {
    world.records.jobs[&job_id(job)].status()
}

fn error(world: &World, job: &str) -> String {
    match &world.records.jobs[&job_id(job)].phase {
        crate::Phase::Ended(ended) => ended.error.clone().unwrap_or_default(),
        other => panic!("{job} has not ended: {other:?}"),
    }
}

fn codes(world: &World, job: &str) -> Vec<ReasonCode> {
    let job = world.state.job(&job_id(job)).expect("active");
    world.state.explain(job).reasons.iter().map(|reason| reason.code).collect()
}

fn world() -> World {
    let mut world = World::default();
    world.register("h", &[], 100);
    world
}

#[test]
fn a_job_is_claimed_when_all_that_it_depends_on_are_completed() {
    let mut world = world();
    world.enqueue("a", &[], 50);
    world.enqueue("b", &[], 50);
    let job = tie(&mut world, "c", after(&["a", "b"]));
    assert_eq!(job.waits_for(), [job_id("a"), job_id("b")]);
    assert_eq!(ids(&world.claim("h", 9)), ["a", "b"]);
    assert_eq!(codes(&world, "c"), [ReasonCode::Dependencies]);
    world.complete("a", "h", true).expect("done");
    assert_eq!(ids(&world.claim("h", 9)), [""; 0], "one is not enough");
    let command = world.command(Operation::Complete(super::kit::completion("b", "h", true)));
    let outcome = world.apply(&command);
    let woken = |effect: &Effect| matches!(effect, Effect::JobQueued { .. });
    assert!(outcome.effects.iter().any(woken), "whoever waits for work is woken");
    assert_eq!(ids(&world.claim("h", 9)), ["c"]);
}

#[test]
fn a_job_that_depends_on_what_is_completed_already_waits_for_nothing() {
    let mut world = world();
    world.enqueue("a", &[], 50);
    world.claim("h", 1);
    world.complete("a", "h", true).expect("done");
    assert!(tie(&mut world, "b", after(&["a"])).waits_for().is_empty());
    assert_eq!(ids(&world.claim("h", 9)), ["b"]);
}

#[test]
fn a_job_that_nobody_knows_cannot_be_depended_on() {
    let mut world = world();
    let refused = world.run(tied("b", after(&["nobody"]), None));
    assert_eq!(refused, Err(Refusal::UnknownDependency(job_id("nobody"))));
    let itself = world.run(tied("b", after(&["b"]), None));
    assert_eq!(itself, Err(Refusal::UnknownDependency(job_id("b"))), "there are no circles");
}

#[test]
fn the_jobs_of_others_do_not_exist_for_a_public_caller() {
    let mut world = world();
    world.run(tied("ours", Links::default(), None)).expect("taken");
    world.run(tied("own", Links::default(), Some("public:ann"))).expect("taken");
    let refused = world.run(tied("x", after(&["ours"]), Some("public:ann")));
    assert_eq!(refused, Err(Refusal::UnknownDependency(job_id("ours"))));
    world.run(tied("y", after(&["own"]), Some("public:ann"))).expect("its own it may depend on");
    world.run(tied("z", after(&["own"]), Some("operator"))).expect("who holds the token may depend on all");
}

#[test]
fn what_fails_takes_its_dependents_along_and_theirs() {
    let mut world = world();
    world.enqueue("a", &[], 50);
    tie(&mut world, "b", after(&["a"]));
    tie(&mut world, "c", skipping(&["a"]));
    tie(&mut world, "d", after(&["b"]));
    tie(&mut world, "e", skipping(&["c", "d"]));
    world.claim("h", 1);
    world.complete("a", "h", false).expect("reported");
    let all: Vec<_> = ["b", "c", "d", "e"].iter().map(|job| status(&world, job)).collect();
    assert_eq!(all, [JobStatus::Failed, JobStatus::Cancelled, JobStatus::Failed, JobStatus::Cancelled]);
    assert_eq!(error(&world, "b"), "job a, which it depends on, has failed");
    assert_eq!(error(&world, "e"), "job c, which it depends on, was cancelled");
    assert_eq!(world.state.active_jobs().count(), 0);
}

#[test]
fn a_job_that_comes_after_the_failure_ends_as_if_it_had_come_before() {
    let mut world = world();
    world.enqueue("a", &[], 50);
    world.cancel("a").expect("called off");
    assert_eq!(tie(&mut world, "b", after(&["a"])).status(), JobStatus::Failed);
    assert_eq!(tie(&mut world, "c", skipping(&["a"])).status(), JobStatus::Cancelled);
    assert_eq!(error(&world, "b"), "job a, which it depends on, was cancelled");
}

#[test]
fn a_dependent_that_is_queued_again_waits_anew_for_what_was_not_completed() {
    let mut world = world();
    world.enqueue("a", &[], 50);
    tie(&mut world, "b", after(&["a"]));
    world.cancel("a").expect("called off");
    assert_eq!(status(&world, "b"), JobStatus::Failed);
    let retry = |world: &mut World, job: &str| {
        job_of(world.run(Operation::RetryJob { id: job_id(job), reason: None, by: None }))
    };
    let settle = |world: &mut World| {
        let ended = world.state.unsettled().cloned().collect();
        world.run(Operation::SettleDependents { ended }).expect("told");
    };
    retry(&mut world, "b");
    settle(&mut world);
    assert_eq!(status(&world, "b"), JobStatus::Failed, "nothing has changed");
    retry(&mut world, "a");
    assert_eq!(status(&world, "b"), JobStatus::Failed, "nobody asked for it again");
    retry(&mut world, "b");
    settle(&mut world);
    assert_eq!(ids(&world.claim("h", 9)), ["a"]);
    world.complete("a", "h", true).expect("done");
    assert_eq!(ids(&world.claim("h", 9)), ["b"]);
}

#[test]
fn a_job_whose_unique_key_another_one_has_is_not_queued_again() {
    let mut world = world();
    tie(&mut world, "a", unique("u"));
    world.cancel("a").expect("called off");
    tie(&mut world, "b", unique("u"));
    let retry = Operation::RetryJob { id: job_id("a"), reason: None, by: None };
    let refused = Refusal::UniqueKeyTaken { job: job_id("a"), holder: job_id("b") };
    assert_eq!(world.run(retry.clone()), Err(refused));
    world.cancel("b").expect("called off");
    assert_eq!(job_of(world.run(retry)).status(), JobStatus::Queued);
}

#[test]
fn a_lost_job_keeps_those_who_wait_for_it_waiting() {
    let mut world = world();
    world.enqueue_with("a", Terms { on_lost: OnLost::Hold, ..Terms::default() }, &[]);
    tie(&mut world, "b", after(&["a"]));
    let held = world.claim("h", 9);
    world.expire(&held[0]).expect("lost");
    assert_eq!((status(&world, "a"), status(&world, "b")), (JobStatus::Lost, JobStatus::Queued));
    assert_eq!(ids(&world.claim("h", 9)), [""; 0]);
    world.resolve("a", Resolution::Complete).expect("found to be done");
    assert_eq!(ids(&world.claim("h", 9)), ["b"]);
}

#[test]
fn what_was_completed_stays_so_across_restarts_even_when_its_record_is_gone() {
    let mut world = world();
    world.enqueue("a", &[], 50);
    world.enqueue("b", &[], 50);
    tie(&mut world, "c", after(&["a", "b"]));
    world.claim("h", 9);
    world.complete("a", "h", true).expect("done");
    world.records.jobs.remove(&job_id("a"));
    world.restart();
    world.complete("b", "h", true).expect("done");
    assert_eq!(ids(&world.claim("h", 9)), ["c"]);
}

/// Any number of dependents are told, by so many commands, each of which tells no more than so many.
fn fan_out(success: bool, expected: JobStatus) {
    let mut world = world();
    world.enqueue("a", &[], 50);
    let many = 3 * SETTLED_AT_ONCE + 7;
    for n in 0..many {
        tie(&mut world, &format!("d{n}"), after(&["a"]));
    }
    world.claim("h", 1);
    let command = world.command(Operation::Complete(super::kit::completion("a", "h", success)));
    let outcome = world.apply(&command);
    assert!(outcome.changes.len() <= SETTLED_AT_ONCE + 3, "{} changes", outcome.changes.len());
    let mut rounds = 0;
    loop {
        // On whatever node, and whenever it was started.
        world.restart();
        let ended: Vec<_> = world.state.unsettled().cloned().collect();
        if ended.is_empty() {
            break;
        }
        assert_eq!(ended, [job_id("a")]);
        rounds += 1;
        world.run(Operation::SettleDependents { ended }).expect("told");
    }
    assert_eq!(rounds, 3);
    let told = (0..many).filter(|n| {
        let job = &world.records.jobs[&job_id(&format!("d{n}"))];
        job.status() == expected && (job.is_ended() || job.waits_for().is_empty())
    });
    assert_eq!(told.count(), many);
}

#[test]
fn however_many_wait_for_a_job_each_command_tells_a_bounded_number_that_it_is_completed() {
    fan_out(true, JobStatus::Queued);
}

#[test]
fn however_many_wait_for_a_job_each_command_tells_a_bounded_number_that_it_failed() {
    fan_out(false, JobStatus::Failed);
}

#[test]
fn at_most_as_many_run_as_a_key_allows_and_the_next_is_claimed_when_one_is_over() {
    let mut world = world();
    for job in ["a", "b", "c"] {
        tie(&mut world, job, sharing("db", 2));
    }
    tie(&mut world, "other", sharing("net", 1));
    assert_eq!(ids(&world.claim("h", 9)), ["a", "b", "other"]);
    assert_eq!(codes(&world, "c"), [ReasonCode::Concurrency]);
    let command = world.command(Operation::Complete(super::kit::completion("b", "h", false)));
    let outcome = world.apply(&command);
    assert!(outcome.effects.iter().any(|effect| matches!(effect, Effect::JobQueued { .. })));
    assert_eq!(ids(&world.claim("h", 9)), ["c"]);
}

#[test]
fn nobody_is_woken_for_a_job_whose_turn_has_not_come() {
    let mut world = world();
    tie(&mut world, "a", sharing("db", 1));
    world.claim("h", 9);
    let command = world.command(tied("b", sharing("db", 1), None));
    let outcome = world.apply(&command);
    assert!(!outcome.effects.iter().any(|effect| matches!(effect, Effect::JobQueued { .. })));
}

#[test]
fn a_jobs_own_limit_is_compared_with_all_that_run() {
    let mut world = world();
    tie(&mut world, "a", sharing("db", 3));
    tie(&mut world, "b", sharing("db", 3));
    tie(&mut world, "c", sharing("db", 1));
    assert_eq!(ids(&world.claim("h", 9)), ["a", "b"]);
    world.complete("a", "h", true).expect("done");
    assert_eq!(ids(&world.claim("h", 9)), [""; 0], "it would run beside another one");
    world.complete("b", "h", true).expect("done");
    assert_eq!(ids(&world.claim("h", 9)), ["c"]);
}

#[test]
fn a_job_that_is_held_may_run_still_and_takes_its_place() {
    let mut world = world();
    let mut first = tied("a", sharing("db", 1), None);
    if let Operation::Enqueue { terms, .. } = &mut first {
        *terms = Some(Arc::new(Terms { on_lost: OnLost::Hold, ..Terms::default() }));
    }
    world.run(first).expect("taken");
    tie(&mut world, "b", sharing("db", 1));
    let held = world.claim("h", 9);
    world.expire(&held[0]).expect("lost");
    assert_eq!(ids(&world.claim("h", 9)), [""; 0]);
    world.resolve("a", Resolution::Fail).expect("decided");
    assert_eq!(ids(&world.claim("h", 9)), ["b"]);
}

#[test]
fn a_first_that_no_host_can_take_does_not_hold_up_the_others_of_its_key() {
    let mut world = world();
    let mut first = tied("a", sharing("db", 1), None);
    if let Operation::Enqueue { required, .. } = &mut first {
        *required = skyclaw_proto::Capabilities::new(["gpu"]);
    }
    world.run(first).expect("taken");
    tie(&mut world, "b", sharing("db", 1));
    assert_eq!(ids(&world.claim("h", 9)), ["b"]);
}

#[test]
fn a_frozen_job_does_not_hold_up_the_others_of_its_key() {
    let mut world = world();
    let mut first = tied("a", sharing("db", 1), None);
    if let Operation::Enqueue { labels, .. } = &mut first {
        labels.insert("team".into(), "x".into());
    }
    world.run(first).expect("taken");
    tie(&mut world, "b", sharing("db", 1));
    let labels = [("team".to_owned(), "x".to_owned())].into_iter().collect();
    world.freeze("f", Scope { labels, agent_id: None }).expect("frozen");
    assert_eq!(ids(&world.claim("h", 9)), ["b"]);
    world.thaw("f").expect("thawed");
    assert_eq!(ids(&world.claim("h", 9)), [""; 0]);
    world.complete("b", "h", true).expect("done");
    assert_eq!(ids(&world.claim("h", 9)), ["a"]);
}

#[test]
fn a_public_callers_keys_are_its_own() {
    let mut world = world();
    for (job, by) in [("a", None), ("b", Some("public:ann")), ("c", Some("public:bob")), ("d", Some("ann"))] {
        world.run(tied(job, sharing("db", 1), by)).expect("taken");
    }
    assert_eq!(ids(&world.claim("h", 9)), ["a", "b", "c"]);
    for (job, by, existing) in [
        ("k", None, false),
        ("l", Some("public:ann"), false),
        ("m", Some("public:ann"), true),
        ("n", Some("public:bob"), false),
        ("o", Some("ann"), true),
    ] {
        let reply = world.run(tied(job, unique("u"), by)).expect("answered");
        assert_eq!(matches!(reply, Reply::Existing(_)), existing, "{job}");
    }
}

#[test]
fn a_unique_key_gives_the_job_that_has_it_until_that_has_ended() {
    let mut world = world();
    let first = tie(&mut world, "a", unique("nightly"));
    assert_eq!(world.run(tied("b", unique("nightly"), None)), Ok(Reply::Existing(first)));
    world.claim("h", 1);
    world.restart();
    let reply = world.run(tied("c", unique("nightly"), None)).expect("answered");
    assert!(matches!(reply, Reply::Existing(job) if job.id == job_id("a") && job.lease().is_some()));
    world.complete("a", "h", false).expect("reported");
    assert_eq!(tie(&mut world, "d", unique("nightly")).id, job_id("d"));
    assert!(!world.records.jobs.contains_key(&job_id("b")), "what was not made is not there");
}
