//! Jobs for later, jobs that wait too long, and jobs that are tried again.

use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use skyclaw_proto::{JobStatus, OnLost, Plan, Resolution, Retry, Scope, Stopped, Terms, Timestamp};

use super::generate::ids;
use super::kit::{World, completion, enqueue, job_id, job_of};
use crate::command::{Completion, Operation};
use crate::life::Life;
use crate::model::{EndStatus, Job, Phase};
use crate::outcome::{Change, Effect, Refusal, Reply};
use crate::standing::Reason;

fn planned(job: &str, on_lost: OnLost, when: Plan) -> Operation {
    let mut operation = enqueue(job, &[], 50);
    if let Operation::Enqueue { plan, terms, .. } = &mut operation {
        *plan = when.kept().map(Into::into);
        *terms = Terms { on_lost, ..Terms::default() }.kept().map(Into::into);
    }
    operation
}

fn retries(max_attempts: u32) -> Plan {
    let retry = Retry { max_attempts, backoff_ms: 1000, max_backoff_ms: 4000 };
    Plan { retry: Some(retry), ..Plan::default() }
}

/// Two hosts, and a job `j1` with this plan.
fn world(plan: Plan) -> World {
    world_on_lost(OnLost::Retry, plan)
}

fn world_on_lost(on_lost: OnLost, plan: Plan) -> World {
    let mut world = World::default();
    world.register("h1", &[], 9);
    world.register("h2", &[], 9);
    job_of(world.run(planned("j1", on_lost, plan)));
    world
}

fn later(world: &World, ms: u64) -> Timestamp {
    world.now().plus(Duration::from_millis(ms))
}

fn pass(world: &mut World, ms: u64) -> Vec<Effect> {
    world.wait(Duration::from_millis(ms));
    let command = world.command(Operation::PassTime { most: 100 });
    world.apply(&command).effects
}

fn now(world: &World, job: &str) -> Arc<Job> {
    let ended = || world.records.jobs.get(&job_id(job)).cloned();
    world.state.job(&job_id(job)).cloned().or_else(ended).expect("it is known")
}

fn life(world: &World) -> Life {
    now(world, "j1").life.as_deref().cloned().unwrap_or_default()
}

fn retry(world: &mut World, job: &str) -> Result<Reply, Refusal> {
    let (reason, by) = (Some("fixed".to_owned()), Some("ann".to_owned()));
    world.run(Operation::RetryJob { id: job_id(job), reason, by })
}

fn told(world: &World) -> String {
    let told = now(world, "j1");
    let line = |event: crate::Event| {
        format!("{}{}\n", event.kind, event.detail.map(|detail| format!(": {detail}")).unwrap_or_default())
    };
    told.events().map(line).collect()
}

/// Claims `j1`, which is there to be claimed, and has it fail.
fn fail(world: &mut World) -> Arc<Job> {
    assert_eq!(ids(&world.claim("h1", 1)), ["j1"]);
    job_of(world.complete("j1", "h1", false))
}

#[test]
fn a_job_for_later_is_claimed_when_its_time_has_come_and_wakes_who_waits() {
    let start = World::default();
    let mut world = world(Plan { not_before: Some(later(&start, 5000)), ..Plan::default() });
    let reasons: Vec<_> = world.state.reasons(&now(&world, "j1")).collect();
    assert_eq!(reasons, [Reason::NotBefore(later(&start, 5000))]);
    assert_eq!(world.state.next_due(), Some(later(&start, 5000)));
    assert_eq!(pass(&mut world, 4999), []);
    assert!(world.claim("h1", 1).is_empty());
    let effects = pass(&mut world, 1);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::JobQueued { .. })), "{effects:?}");
    assert_eq!((world.state.next_due(), ids(&world.claim("h1", 1))), (None, vec!["j1"]));
}

#[test]
fn a_time_that_has_passed_is_no_reason_to_wait() {
    let start = World::default();
    let mut world = world(Plan { not_before: Some(start.now()), ..Plan::default() });
    assert_eq!(ids(&world.claim("h1", 1)), ["j1"]);
}

#[test]
fn a_job_expires_that_nobody_took_in_time_and_not_once_it_was_taken() {
    let plan = Plan { ttl_ms: Some(5000), ..Plan::default() };
    let mut one = world(plan.clone());
    pass(&mut one, 4999);
    assert_eq!(now(&one, "j1").status(), JobStatus::Queued);
    pass(&mut one, 1);
    let Phase::Ended(ended) = now(&one, "j1").phase.clone() else { panic!("it waits on") };
    assert_eq!(ended.status, EndStatus::Expired);
    expect!["no host took it within the 5000 ms that it was to wait at most"]
        .assert_eq(ended.error.as_deref().unwrap_or_default());
    assert_eq!((one.state.queued(), one.claim("h1", 1).len()), (0, 0));

    let mut other = world(plan);
    let job = other.claim("h1", 1).pop().expect("a job");
    pass(&mut other, 6000);
    other.expire(&job).expect("done");
    pass(&mut other, 6000);
    assert_eq!(ids(&other.claim("h2", 1)), ["j1"], "what was begun is not given up for having waited");
}

#[test]
fn the_time_to_wait_begins_when_a_job_could_be_claimed() {
    let start = World::default();
    let not_before = Some(later(&start, 10_000));
    let mut world = world(Plan { ttl_ms: Some(1000), not_before, ..Plan::default() });
    pass(&mut world, 10_000);
    assert_eq!(now(&world, "j1").status(), JobStatus::Queued);
    pass(&mut world, 1000);
    assert_eq!(now(&world, "j1").status(), JobStatus::Expired);
}

#[test]
fn a_frozen_job_expires_too_and_one_for_later_stays_frozen_when_its_time_has_come() {
    let start = World::default();
    let not_before = Some(later(&start, 1000));
    let mut world = world(Plan { ttl_ms: Some(1000), not_before, ..Plan::default() });
    let mut labelled = planned("j2", OnLost::Retry, Plan { not_before, ..Plan::default() });
    if let Operation::Enqueue { labels, .. } = &mut labelled {
        labels.insert("team".into(), "a".into());
    }
    job_of(world.run(labelled));
    let scope = Scope { labels: [("team".into(), "a".into())].into(), agent_id: None };
    world.freeze("f1", scope).expect("frozen");
    pass(&mut world, 1000);
    assert_eq!(ids(&world.claim("h1", 9)), ["j1"]);
    assert_eq!(world.state.reasons(&now(&world, "j2")).collect::<Vec<_>>(), [Reason::Frozen]);
    world.thaw("f1").expect("thawed");
    assert_eq!(ids(&world.claim("h1", 9)), ["j2"]);
}

#[test]
fn what_is_due_is_done_in_batches_the_earliest_first() {
    let mut world = World::default();
    for n in 0..5u64 {
        let plan = Plan { ttl_ms: Some(100 - n), ..Plan::default() };
        job_of(world.run(planned(&format!("j{n}"), OnLost::Retry, plan)));
    }
    world.wait(Duration::from_secs(1));
    let ended = |world: &mut World| -> Vec<String> {
        let command = world.command(Operation::PassTime { most: 2 });
        let changes = world.apply(&command).changes;
        changes
            .iter()
            .filter_map(|change| if let Change::Job(job) = change { Some(job.id.to_string()) } else { None })
            .collect()
    };
    assert_eq!(ended(&mut world), ["j4", "j3"]);
    assert_eq!(ended(&mut world), ["j2", "j1"]);
    assert_eq!(ended(&mut world), ["j0"]);
    assert!(ended(&mut world).is_empty());
}

#[test]
fn a_run_that_failed_is_tried_again_later_until_the_attempts_run_out() {
    let mut world = world(retries(3));
    let failed = fail(&mut world);
    assert_eq!(failed.status(), JobStatus::Queued);
    let again = life(&world).claimable_at.expect("it waits");
    let waits = again.since(world.now()).as_millis();
    assert!((750..=1000).contains(&waits), "{waits}");
    assert!(world.claim("h2", 1).is_empty(), "not before then");
    pass(&mut world, 1000);
    fail(&mut world);
    let waits = life(&world).claimable_at.expect("it waits").since(world.now()).as_millis();
    assert!((1500..=2000).contains(&waits), "{waits}");
    pass(&mut world, 2000);
    let last = fail(&mut world);
    let record = skyclaw_proto::record::Job::from(&*last);
    assert_eq!((record.status, record.attempts, record.failed_attempts), (JobStatus::Failed, 3, 3));
    assert_eq!(record.result.map(|result| result.exit_code), Some(1), "the last one is the job's result");
    let kept: Vec<_> = record.attempt_results.iter().map(|a| (a.attempt, a.status, a.exit_code)).collect();
    assert_eq!(kept, [(1, JobStatus::Failed, Some(1)), (2, JobStatus::Failed, Some(1))]);
    assert_eq!((&*record.attempt_results[0].stdout, record.claimable_at), ("out", None));
    assert_eq!(world.state.host(&super::kit::host_id("h1")).map(|host| host.active_leases), Some(0));
}

#[test]
fn what_happened_tells_of_every_attempt() {
    let mut world = world(Plan {
        retry: Some(Retry { max_attempts: 2, backoff_ms: 0, max_backoff_ms: 0 }),
        ..Plan::default()
    });
    fail(&mut world);
    fail(&mut world);
    expect![[r"
        claimed: attempt 1
        attempt_failed: attempt 1 of 2: exit code 1: broke
        requeued
        claimed: attempt 2
        failed: exit code 1: broke
    "]]
    .assert_eq(&told(&world));
}

#[test]
fn what_succeeds_or_was_called_off_is_not_tried_again() {
    let mut done = world(retries(3));
    done.claim("h1", 1);
    assert_eq!(job_of(done.complete("j1", "h1", true)).status(), JobStatus::Completed);
    let mut off = world(retries(3));
    off.claim("h1", 1);
    off.cancel("j1").expect("asked to stop");
    assert_eq!(job_of(off.complete("j1", "h1", false)).status(), JobStatus::Cancelled);
    let mut waits = world(retries(3));
    fail(&mut waits);
    let cancelled = job_of(waits.cancel("j1"));
    assert_eq!((cancelled.status(), cancelled.due()), (JobStatus::Cancelled, None));
    assert_eq!(pass(&mut waits, 60_000), []);
}

#[test]
fn a_lost_run_counts_and_one_that_its_host_had_to_stop_does_not() {
    let mut world = world(retries(2));
    let first = world.claim("h1", 1).pop().expect("a job");
    let stopped = Completion {
        fence: Some(first.fence),
        stopped: Some(Stopped::Draining),
        ..completion("j1", "h1", false)
    };
    job_of(world.run(Operation::Complete(stopped)));
    assert_eq!((life(&world).failures, life(&world).claimable_at), (0, None));
    let second = world.claim("h1", 1).pop().expect("a job");
    world.expire(&second).expect("done");
    assert_eq!(
        (life(&world).failures, life(&world).claimable_at),
        (1, None),
        "it waited for its lease to end"
    );
    assert_eq!(life(&world).attempts[0].status, JobStatus::Lost);
    let third = world.claim("h2", 1).pop().expect("a job");
    world.expire(&third).expect("done");
    let record = skyclaw_proto::record::Job::from(&*now(&world, "j1"));
    assert_eq!(record.status, JobStatus::Failed);
    expect!["its host h2 was lost: the lease ran out, and this was attempt 2 of 2"]
        .assert_eq(record.error.as_deref().unwrap_or_default());
}

#[test]
fn a_job_that_is_held_when_lost_is_tried_again_only_when_it_surely_failed() {
    let mut world = world_on_lost(OnLost::Hold, retries(3));
    let first = world.claim("h1", 1).pop().expect("a job");
    world.expire(&first).expect("done");
    assert_eq!((now(&world, "j1").status(), life(&world).failures), (JobStatus::Lost, 0));
    let told = Completion { fence: Some(first.fence), ..completion("j1", "h1", false) };
    let again = job_of(world.run(Operation::Complete(told)));
    assert_eq!((again.status(), life(&world).failures), (JobStatus::Queued, 1));
    pass(&mut world, 1000);
    let second = world.claim("h2", 1).pop().expect("a job");
    world.expire(&second).expect("done");
    job_of(world.resolve("j1", Resolution::Requeue));
    assert_eq!(ids(&world.claim("h2", 1)), ["j1"]);
}

#[test]
fn a_job_that_ended_badly_is_queued_again_with_what_is_known_of_its_runs() {
    let mut world = world(retries(1));
    let failed = fail(&mut world);
    let again = job_of(retry(&mut world, "j1"));
    assert_eq!((again.status(), again.seq, again.fence), (JobStatus::Queued, failed.seq, failed.fence));
    let life = life(&world);
    assert_eq!((life.failures, life.attempts.len()), (0, 1));
    assert_eq!((life.attempts[0].number, life.attempts[0].status), (1, JobStatus::Failed));
    assert_eq!(fail(&mut world).status(), JobStatus::Failed, "its one attempt is used up again");
    expect![[r"
        claimed: attempt 1
        failed: exit code 1: broke
        retried: after it was failed by ann: fixed
        claimed: attempt 2
        failed: exit code 1: broke
    "]]
    .assert_eq(&told(&world));
}

#[test]
fn a_job_that_expired_waits_as_long_again_and_a_plain_one_is_as_it_was() {
    let mut expired = world(Plan { ttl_ms: Some(5000), ..Plan::default() });
    pass(&mut expired, 5000);
    let again = job_of(retry(&mut expired, "j1"));
    assert_eq!(again.due(), Some(later(&expired, 5000)));
    assert!(life(&expired).attempts.is_empty(), "it never ran");
    let mut plain = world(Plan::default());
    plain.cancel("j1").expect("cancelled");
    let again = job_of(retry(&mut plain, "j1"));
    assert_eq!((again.life.clone(), again.status()), (None, JobStatus::Queued));
    assert_eq!(ids(&plain.claim("h1", 1)), ["j1"]);
}

#[test]
fn what_was_done_or_may_yet_be_is_not_queued_again() {
    let mut world = world_on_lost(OnLost::Hold, Plan::default());
    let refused = |world: &mut World| retry(world, "j1").expect_err("it is refused").to_string();
    expect!["job j1 is queued already"].assert_eq(&refused(&mut world));
    let job = world.claim("h1", 1).pop().expect("a job");
    expect!["job j1 has not ended: a host has it"].assert_eq(&refused(&mut world));
    world.expire(&job).expect("done");
    expect!["job j1 is lost, and may have been done: find out and resolve it"]
        .assert_eq(&refused(&mut world));
    job_of(world.resolve("j1", Resolution::Complete));
    expect!["job j1 was done, and is not done a second time: submit another one if that is meant"]
        .assert_eq(&refused(&mut world));
    assert_eq!(retry(&mut world, "j9"), Err(Refusal::UnknownJob(job_id("j9"))));
}

#[test]
fn the_results_of_attempts_are_bounded_and_the_newest_are_kept_whole() {
    let mut life = Life::default();
    let host = Some(super::kit::host_id("h1"));
    for number in 1..=150 {
        life.keep(crate::Attempt {
            number,
            status: JobStatus::Failed,
            ended_at: Timestamp::EPOCH,
            host: host.clone(),
            fence: u64::from(number),
            duration_ms: Some(1),
            exit_code: Some(1),
            error: Some("e".repeat(5000).into()),
            stdout: "ü".repeat(5000).into(),
            stderr: "x".repeat(5000).into(),
            oom: false,
        });
        assert!(life.approx_bytes() <= 66 * 1024, "{}", life.approx_bytes());
    }
    let newest = life.attempts.last().expect("the newest");
    assert_eq!((newest.number, newest.stdout.len(), newest.stderr.len()), (150, 2048, 2048));
    assert!(life.attempts[0].stdout.is_empty() && life.attempts.len() > 40, "{}", life.attempts.len());
}
