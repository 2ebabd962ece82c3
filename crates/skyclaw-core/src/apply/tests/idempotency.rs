//! What an idempotency key stands for.

use std::time::Duration;

use expect_test::expect;
use skyclaw_proto::AssignmentStatus;

use super::generate::ids;
use super::kit::{World, claim, enqueue, job_id, job_of, report};
use crate::command::{Command, IdempotencyKey, Operation};
use crate::outcome::{Outcome, Reply};

const TTL: Duration = Duration::from_secs(3600);

/// Asks with a key; `body` stands for what the client sent.
fn ask(world: &mut World, caller: &str, route: &str, body: u8, operation: Operation) -> Outcome {
    let key = IdempotencyKey {
        caller: caller.into(),
        route: route.into(),
        key: "key".into(),
        fingerprint: [body; 32],
        expires_at: world.now().plus(TTL),
    };
    let command = Command { idempotency: Some(key), ..world.command(operation) };
    world.apply(&command)
}

#[test]
fn the_same_key_with_another_body_is_refused() {
    let mut world = World::default();
    assert!(ask(&mut world, "core", "/v1/jobs", 1, enqueue("j1", &[], 50)).reply.is_ok());
    let other = ask(&mut world, "core", "/v1/jobs", 2, enqueue("j2", &["a"], 50));
    let refusal = other.reply.expect_err("must be refused");
    expect!["idempotency key reuse conflict for route /v1/jobs"].assert_eq(&refusal.to_string());
    assert!(world.state.job(&job_id("j2")).is_none());
}

#[test]
fn the_same_key_of_another_caller_or_route_is_another_key() {
    let mut world = World::default();
    ask(&mut world, "core", "/v1/jobs", 1, enqueue("j1", &[], 50));
    ask(&mut world, "public:x", "/v1/jobs", 2, enqueue("j2", &[], 50));
    ask(&mut world, "core", "/v1/other", 3, enqueue("j3", &[], 50));
    assert_eq!(world.state.queued(), 3);
}

#[test]
fn a_key_is_forgotten_when_its_time_has_come() {
    let mut world = World::default();
    ask(&mut world, "core", "/v1/jobs", 1, enqueue("j1", &[], 50));
    world.wait(TTL - Duration::from_millis(1));
    let known = ask(&mut world, "core", "/v1/jobs", 1, enqueue("j2", &[], 50));
    assert_eq!(job_of(known.reply).id, job_id("j1"));
    world.wait(Duration::from_millis(1));
    let forgotten = ask(&mut world, "core", "/v1/jobs", 2, enqueue("j3", &[], 50));
    assert_eq!(job_of(forgotten.reply).id, job_id("j3"));
}

#[test]
fn a_refused_command_keeps_no_reply() {
    let mut world = World::default();
    world.enqueue("j1", &[], 50);
    assert!(ask(&mut world, "core", "claim", 1, claim("h1", 1)).reply.is_err());
    world.register("h1", &[], 1);
    let later = ask(&mut world, "core", "claim", 2, claim("h1", 1));
    assert!(matches!(later.reply, Ok(Reply::Claimed(jobs)) if ids(&jobs) == ["j1"]));
}

#[test]
fn a_repeated_claim_gives_the_same_jobs_while_they_are_held_and_then_none() {
    let mut world = World::default();
    world.register("h1", &[], 2);
    for job in ["j1", "j2", "j3"] {
        world.enqueue(job, &[], 50);
    }
    let first = ask(&mut world, "core", "claim", 1, claim("h1", 2));
    assert_eq!(ask(&mut world, "core", "claim", 1, claim("h1", 2)).reply, first.reply);
    world.complete("j1", "h1", true).expect("it has the lease");
    let Ok(Reply::Claimed(jobs)) = ask(&mut world, "core", "claim", 1, claim("h1", 2)).reply else {
        panic!("not a claim");
    };
    assert_eq!(ids(&jobs), ["j2"]);
    world.expire(&jobs[0]).expect("done");
    world.claim("h1", 1);
    let over = ask(&mut world, "core", "claim", 1, claim("h1", 2));
    assert_eq!(over.reply, Ok(Reply::Claimed(Vec::new())), "a newer lease of j2 is not the one it stood for");
}

#[test]
fn a_claim_that_found_nothing_is_asked_anew() {
    let mut world = World::default();
    world.register("h1", &[], 1);
    let empty = ask(&mut world, "core", "claim", 1, claim("h1", 1));
    assert!(empty.changes.is_empty());
    world.enqueue("j1", &[], 50);
    let found = ask(&mut world, "core", "claim", 1, claim("h1", 1));
    assert!(matches!(found.reply, Ok(Reply::Claimed(jobs)) if jobs.len() == 1));
}

#[test]
fn an_answer_stays_the_same_even_where_it_changed_nothing() {
    let mut world = World::default();
    world.register("h1", &[], 1);
    world.deploy("s1", 1);
    world.claim_service("h1");
    let pending = report("s1", "h1", AssignmentStatus::Pending);
    let first = ask(&mut world, "core", "report", 1, pending.clone());
    world.report("s1", "h1", AssignmentStatus::Running);
    let late = ask(&mut world, "core", "report", 1, pending);
    assert_eq!(late.reply, first.reply);
    let service = world.state.services().next().cloned().expect("it is there");
    assert_eq!(service.assignments[0].status, AssignmentStatus::Running);
    assert!(
        ask(&mut world, "core", "report", 2, report("s1", "h1", AssignmentStatus::Failed)).reply.is_err()
    );
}
