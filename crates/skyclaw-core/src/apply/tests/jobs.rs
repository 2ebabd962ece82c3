//! Jobs: the sentences of refusals, cancelling, leases.

use std::time::Duration;

use expect_test::{Expect, expect};
use skyclaw_proto::{JobStatus, record};

use super::generate::ids;
use super::kit::{World, claim, completion, enqueue, host_id, job_id, job_of, lease_of, report};
use crate::command::{Completion, LeaseRef, Operation};
use crate::model::Job;
use crate::outcome::{Effect, Reply};

/// A host `h1` with room for two, another `h2`, and a job `j1` of `h1`.
fn world() -> World {
    let mut world = World::default();
    world.register("h1", &["a"], 2);
    world.register("h2", &["a"], 1);
    world.enqueue("j1", &["a"], 50);
    assert_eq!(ids(&world.claim("h1", 1)), ["j1"]);
    world
}

/// How a job looks to a client, on one line.
fn shape(job: &Job) -> String {
    let wire = record::Job::from(job);
    let host = wire.assigned_host_id.map_or("nobody".to_owned(), |host| host.to_string());
    let lease = if wire.lease_expires_at.is_some() { ", lease runs" } else { "" };
    let stop = if wire.cancel_requested_at.is_some() { ", asked to stop" } else { "" };
    let ran = if wire.result.is_some() { ", ran" } else { "" };
    let error = wire.error.map_or(String::new(), |error| format!(", {error:?}"));
    format!("{} of {host}, attempt {}{lease}{stop}{ran}{error}", wire.status, wire.attempts)
}

fn refused(world: &mut World, operation: Operation, want: &Expect) {
    let refusal = world.run(operation).expect_err("must be refused");
    want.assert_eq(&refusal.to_string());
}

#[test]
fn refusals_are_the_sentences_of_the_contract() {
    let w = &mut world();
    w.enqueue("j2", &["b"], 50);
    let done = |job, host| Operation::Complete(completion(job, host, true));
    refused(w, claim("h9", 1), &expect!["unknown host: h9"]);
    let service_claim = Operation::ClaimService { host: host_id("h9"), running: None, after: None };
    refused(w, service_claim, &expect!["unknown host: h9"]);
    refused(w, done("j9", "h1"), &expect!["unknown job: j9"]);
    refused(w, done("j1", "h9"), &expect!["unknown host: h9"]);
    refused(w, done("j1", "h2"), &expect!["job j1 is assigned to h1"]);
    refused(w, done("j2", "h1"), &expect!["job j2 is assigned to nobody"]);
    refused(w, Operation::Cancel { id: job_id("j9") }, &expect!["unknown job: j9"]);
    let running = skyclaw_proto::AssignmentStatus::Running;
    refused(w, report("s1", "h1", running), &expect!["unknown service: s1"]);
    w.deploy("s1", 1);
    refused(w, report("s1", "h1", running), &expect!["service s1 is not assigned to host h1"]);
    let stale = Completion { fence: Some(9), ..completion("j1", "h1", true) };
    refused(
        w,
        Operation::Complete(stale),
        &expect!["job j1 has been claimed anew: its fencing token is 1, not 9"],
    );
    w.complete("j1", "h1", true).expect("it has the lease");
    refused(w, done("j1", "h1"), &expect!["job j1 is not leased"]);
    refused(w, done("j1", "h2"), &expect!["job j1 is assigned to h1"]);
    refused(w, Operation::Cancel { id: job_id("j1") }, &expect!["job j1 has already ended: completed"]);
}

#[test]
fn a_claim_sets_lease_attempt_host_and_token() {
    let mut world = world();
    let job = world.state.job(&job_id("j1")).cloned().expect("it is active");
    expect!["leased of h1, attempt 1, lease runs"].assert_eq(&shape(&job));
    assert_eq!(job.lease().map(|l| l.expires_at), Some(world.now().plus(Duration::from_secs(60))));
    assert_eq!(world.state.host(&host_id("h1")).map(|h| h.active_leases), Some(1));
    world.expire(&job).expect("done");
    assert_eq!(ids(&world.claim("h2", 1)), ["j1"]);
    let again = world.state.job(&job_id("j1")).expect("it is active");
    expect!["leased of h2, attempt 2, lease runs"].assert_eq(&shape(again));
    assert!(again.fence > job.fence);
}

#[test]
fn a_completion_with_success_or_without_ends_the_job() {
    let mut world = world();
    let job = job_of(world.complete("j1", "h1", true));
    expect!["completed of h1, attempt 1, ran"].assert_eq(&shape(&job));
    world.enqueue("j2", &[], 50);
    world.claim("h1", 1);
    let job = job_of(world.complete("j2", "h1", false));
    expect![[r#"failed of h1, attempt 1, ran, "broke""#]].assert_eq(&shape(&job));
    assert_eq!(world.state.host(&host_id("h1")).map(|h| h.active_leases), Some(0));
}

#[test]
fn a_queued_job_that_is_called_off_ends_at_once() {
    let mut world = World::default();
    world.enqueue("j1", &[], 50);
    expect!["cancelled of nobody, attempt 0"].assert_eq(&shape(&job_of(world.cancel("j1"))));
    world.register("h1", &[], 1);
    assert!(world.claim("h1", 1).is_empty());
    let again = world.apply(&world.command(Operation::Cancel { id: job_id("j1") }));
    assert_eq!(job_of(again.reply).status(), JobStatus::Cancelled);
    assert!(again.changes.is_empty());
}

#[test]
fn a_leased_job_that_is_called_off_is_its_hosts_to_end() {
    let mut world = world();
    let first = world.apply(&world.command(Operation::Cancel { id: job_id("j1") }));
    let stop = Effect::StopRun { job: job_id("j1"), host: host_id("h1") };
    assert!(first.effects.contains(&stop));
    expect!["leased of h1, attempt 1, lease runs, asked to stop"].assert_eq(&shape(&job_of(first.reply)));
    let second = world.apply(&world.command(Operation::Cancel { id: job_id("j1") }));
    assert!(second.reply.is_ok() && second.changes.is_empty());
    let job = job_of(world.complete("j1", "h1", false));
    expect![[r#"cancelled of h1, attempt 1, ran, "broke""#]].assert_eq(&shape(&job));
}

#[test]
fn work_that_was_done_before_the_call_to_stop_arrived_is_done() {
    let mut world = world();
    world.cancel("j1").expect("done");
    assert_eq!(job_of(world.complete("j1", "h1", true)).status(), JobStatus::Completed);
}

#[test]
fn a_job_called_off_whose_host_is_lost_is_not_run_again() {
    let mut world = world();
    let job = job_of(world.cancel("j1"));
    world.expire(&job).expect("done");
    let job = job_of(world.cancel("j1"));
    expect![[
        r#"cancelled of h1, attempt 1, "the host was lost before it confirmed that the run was stopped""#
    ]]
    .assert_eq(&shape(&job));
    assert!(world.claim("h2", 1).is_empty());
}

#[test]
fn a_job_whose_lease_ran_out_takes_its_old_place() {
    let mut world = world();
    world.enqueue("j2", &["a"], 50);
    let job = world.state.job(&job_id("j1")).cloned().expect("it is active");
    let outcome = world.apply(&world.command(Operation::ExpireLeases { leases: vec![lease_of(&job)] }));
    assert!(outcome.effects.contains(&Effect::LeaseOver { job: job_id("j1") }));
    assert!(outcome.effects.contains(&Effect::HostChanged { host: host_id("h1") }));
    let queued = world.state.job(&job_id("j1")).expect("it is active");
    expect!["queued of nobody, attempt 1"].assert_eq(&shape(queued));
    assert_eq!(ids(&world.claim("h1", 2)), ["j1", "j2"]);
}

#[test]
fn a_renewal_lengthens_and_never_shortens_a_lease() {
    let mut world = world();
    let job = world.state.job(&job_id("j1")).cloned().expect("it is active");
    let expiry = |world: &World| world.state.job(&job_id("j1")).and_then(|j| Some(j.lease()?.expires_at));
    let renew = |world: &mut World, lease: LeaseRef, lease_ms| {
        let outcome = world.apply(&world.command(Operation::RenewLeases { leases: vec![lease], lease_ms }));
        let begins =
            outcome.effects.iter().any(|e| matches!(e, Effect::LeaseHeld { .. } | Effect::LeaseOver { .. }));
        assert!(!begins, "the leader counts the time itself");
        expiry(world)
    };
    let first = expiry(&world);
    world.wait(Duration::from_secs(10));
    assert_eq!(renew(&mut world, lease_of(&job), 1), first);
    let later = Some(world.now().plus(Duration::from_secs(60)));
    assert_eq!(renew(&mut world, LeaseRef { fence: job.fence + 1, ..lease_of(&job) }, 60_000), first);
    assert_eq!(renew(&mut world, lease_of(&job), 60_000), later);
}

#[test]
fn a_job_that_ended_is_not_enqueued_again_by_the_same_command() {
    let mut world = world();
    world.complete("j1", "h1", true).expect("it has the lease");
    let late = world.apply(&world.command(enqueue("j1", &["a"], 50)));
    assert!(late.changes.is_empty(), "{:?}", late.changes);
    assert_eq!(job_of(late.reply).status(), JobStatus::Completed);
}

#[test]
fn a_host_that_registers_again_keeps_its_leases_and_its_first_time() {
    let mut world = world();
    let first = world.state.host(&host_id("h1")).cloned().expect("it is known");
    world.wait(Duration::from_secs(5));
    let again = world.register("h1", &["a", "b"], 0);
    assert_eq!((again.registered_at, again.active_leases), (first.registered_at, 1));
    assert_eq!((again.last_seen_at, again.max_parallel), (world.now(), 1));
    assert!(world.claim("h1", 1).is_empty(), "it has no room any more");
}

#[test]
fn a_claim_of_many_takes_what_there_is_room_for_best_first() {
    let mut world = World::default();
    world.register("h1", &["a", "b"], 3);
    for (job, required, priority) in
        [("low", "a", 0), ("first", "a", 50), ("other", "c", 100), ("second", "b", 50), ("high", "b", 100)]
    {
        world.enqueue(job, &[required], priority);
    }
    assert_eq!(ids(&world.claim("h1", 0)), [""; 0]);
    assert_eq!(ids(&world.claim("h1", 9)), ["high", "first", "second"]);
    assert_eq!(world.run(claim("h1", 1)), Ok(Reply::Claimed(Vec::new())));
}
