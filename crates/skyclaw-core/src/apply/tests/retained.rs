//! What is forgotten of jobs that have ended, what is not, and that nothing comes back by it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use skyclaw_proto::{EventId, JobId, JobStatus, Links, Overlap, Plan, Timestamp, record};
use uuid::Uuid;

use super::generate::{play, steps};
use super::kit::{World, enqueue, host_id, job_id, job_of};
use super::schedules::{create, fire};
use crate::apply::SETTLED_AT_ONCE;
use crate::command::{Command, IdempotencyKey, Operation};
use crate::model::Job;
use crate::notice::Notice;
use crate::outcome::{Change, Outcome, Refusal, Reply};
use crate::retention::{Expendable, PruneJobs, Pruned, WhyPruned};

/// The jobs as the leader would name them.
fn prune(world: &World, jobs: &[&str], why: WhyPruned, up_to: Option<Timestamp>) -> Command {
    let named = jobs.iter().map(|id| {
        let known = world.records.jobs.get(&job_id(id));
        Expendable { id: job_id(id), ended_at: known.map_or(world.now(), |job| job.updated_at) }
    });
    world.command(Operation::PruneJobs(PruneJobs { jobs: named.collect(), why, up_to }))
}

fn pruned(outcome: &Outcome) -> Option<&Arc<Pruned>> {
    outcome.changes.iter().find_map(|change| match change {
        Change::PruneJobs(pruned) => Some(pruned),
        _ => None,
    })
}

/// The ids of those that went.
fn gone(outcome: &Outcome) -> Vec<&str> {
    pruned(outcome).map_or(Vec::new(), |pruned| pruned.jobs.iter().map(|(id, _)| id.as_str()).collect())
}

fn done(world: &mut World, job: &str) -> Arc<Job> {
    world.enqueue(job, &[], 50);
    world.wait(Duration::from_secs(1));
    job_of(world.cancel(job))
}

#[test]
fn what_has_ended_is_forgotten_in_the_order_of_enqueueing_and_told_of_once() {
    let mut world = World::default();
    let (first, last) = (done(&mut world, "j1"), done(&mut world, "j2"));
    world.enqueue("queued", &[], 50);
    let command = prune(&world, &["j2", "queued", "j1", "j1", "nobody"], WhyPruned::Age, None);
    let outcome = world.apply(&command);
    assert_eq!(gone(&outcome), ["j1", "j2"]);
    assert_eq!(outcome.effects, []);
    let told: Vec<_> = outcome.changes.iter().filter_map(|change| Notice::of(&command, change)).collect();
    let [told] = told.as_slice() else { panic!("{told:?}") };
    let told = told.told(EventId::new(9, 0));
    assert_eq!((told.kind.as_str(), &*told.what, &*told.record_id), ("retention", "pruned", "jobs"));
    let (first, last) = (first.updated_at, last.updated_at);
    let want = format!("2 jobs that ended from {first} to {last}: they were kept long enough");
    assert_eq!(told.detail, Some(want));
    assert_eq!(world.records.jobs.keys().map(JobId::as_str).collect::<Vec<_>>(), ["queued"]);
    // The next leader may have decided the same.
    assert_eq!(world.apply(&command).changes, []);
}

#[test]
fn a_job_that_was_queued_again_meanwhile_stays_also_when_it_has_ended_anew() {
    let mut world = World::default();
    done(&mut world, "j1");
    let command = prune(&world, &["j1"], WhyPruned::Age, None);
    let retry = Operation::RetryJob { id: job_id("j1"), reason: None, by: None };
    world.run(retry).expect("queued again");
    assert_eq!(world.apply(&command).changes, []);
    world.wait(Duration::from_millis(1));
    world.cancel("j1").expect("ended again");
    assert_eq!(world.apply(&command).changes, []);
    assert!(world.records.jobs.contains_key(&job_id("j1")));
}

#[test]
fn what_others_wait_for_and_the_last_job_of_a_schedule_stay() {
    let mut world = World::default();
    world.register("h1", &[], 9);
    world.enqueue("first", &[], 50);
    // One more than the end of the first is told at once.
    for n in 0..=SETTLED_AT_ONCE {
        let mut waits = enqueue(&format!("waits-{n}"), &[], 50);
        if let Operation::Enqueue { links, .. } = &mut waits {
            *links = Some(Arc::new(Links { depends_on: vec![job_id("first")], ..Links::default() }));
        }
        world.run(waits).expect("enqueued");
    }
    world.cancel("first").expect("cancelled");
    let command = prune(&world, &["first"], WhyPruned::Age, None);
    assert_eq!(world.apply(&command).changes, [], "one waits still");
    world.run(Operation::SettleDependents { ended: vec![job_id("first")] }).expect("told");
    assert_eq!(gone(&world.apply(&command)), ["first"]);
    world.run(create("s", "nightly", Overlap::Skip, Some(1))).expect("created");
    for (at, job) in [(1, "one"), (2, "two")] {
        world.run(fire("s", at, Some(at + 1), job)).expect("fired");
        world.cancel(job).expect("cancelled");
    }
    let command = prune(&world, &["one", "two"], WhyPruned::Count, None);
    assert_eq!(gone(&world.apply(&command)), ["one"]);
    world.run(Operation::DeleteSchedule { schedule: super::schedules::schedule_id("s") }).expect("deleted");
    let command = prune(&world, &["two"], WhyPruned::Count, None);
    assert_eq!(gone(&world.apply(&command)), ["two"]);
}

#[test]
fn who_asks_about_a_job_that_is_forgotten_is_told_that_it_is_unknown() {
    let mut world = World::default();
    world.register("h1", &[], 1);
    world.enqueue("j1", &[], 50);
    world.claim("h1", 1);
    world.complete("j1", "h1", true).expect("completed");
    let command = prune(&world, &["j1"], WhyPruned::Own, None);
    world.apply(&command);
    let unknown = Err(Refusal::UnknownJob(job_id("j1")));
    assert_eq!(world.complete("j1", "h1", true), unknown);
    assert_eq!(world.cancel("j1"), unknown);
    let events = vec![crate::history::Event::new(world.now(), "started", "")];
    let tell = Operation::TellEvents { id: job_id("j1"), host: host_id("h1"), fence: 1, events };
    assert_eq!(world.run(tell), unknown);
    let mut waits = enqueue("j2", &[], 50);
    if let Operation::Enqueue { links, .. } = &mut waits {
        *links = Some(Arc::new(Links { depends_on: vec![job_id("j1")], ..Links::default() }));
    }
    assert_eq!(world.run(waits), Err(Refusal::UnknownDependency(job_id("j1"))));
}

#[test]
fn an_enqueue_that_is_repeated_with_its_key_makes_no_second_job_when_the_first_is_forgotten() {
    let mut world = World::default();
    let key = |world: &World| IdempotencyKey {
        caller: "core".into(),
        route: "/v1/jobs".into(),
        key: "k".into(),
        fingerprint: [1; 32],
        expires_at: world.now().plus(Duration::from_secs(3600)),
    };
    let ask = |world: &mut World, id: &str| {
        let command = Command { idempotency: Some(key(world)), ..world.command(enqueue(id, &[], 50)) };
        world.apply(&command)
    };
    let first = ask(&mut world, "j1");
    world.cancel("j1").expect("cancelled");
    let command = prune(&world, &["j1"], WhyPruned::Age, None);
    assert_eq!(gone(&world.apply(&command)), ["j1"]);
    let again = ask(&mut world, "another");
    assert_eq!(again.reply, first.reply);
    assert_eq!((again.changes, world.state.queued()), (Vec::new(), 0));
}

#[test]
fn how_long_a_job_is_kept_is_counted_from_its_end() {
    let mut world = World::default();
    let mut asks = enqueue("j1", &[], 50);
    if let Operation::Enqueue { plan, .. } = &mut asks {
        *plan = Some(Arc::new(Plan { retain_ms: Some(5000), ..Plan::default() }));
    }
    let queued = job_of(world.run(asks));
    assert_eq!(queued.prunable(), None);
    world.wait(Duration::from_secs(100));
    let ended = job_of(world.cancel("j1"));
    let until = ended.updated_at.plus(Duration::from_secs(5));
    assert_eq!(ended.prunable(), Some((ended.updated_at, Some(until))));
    let usual = done(&mut world, "j2");
    assert_eq!(usual.prunable(), Some((usual.updated_at, None)));
}

fn sent(id: &str, at: Timestamp, status: JobStatus) -> record::Job {
    let mut world = World::default();
    let job = world.enqueue("x", &[], 50);
    record::Job {
        id: job_id(id),
        created_at: at,
        updated_at: at,
        updated_by: super::kit::node_id("ref"),
        version: 1,
        status,
        assigned_host_id: Some(host_id("h9")),
        ..(&*job).into()
    }
}

fn merged(world: &mut World, jobs: &[record::Job]) -> Reply {
    let operation = Operation::Merge { hosts: Vec::new(), jobs: jobs.to_vec(), services: Vec::new() };
    world.run(operation).expect("merged")
}

#[test]
fn what_was_forgotten_does_not_come_back_from_another_mesh_as_often_as_that_sends_it() {
    let mut world = World::default();
    let at = world.now();
    let later = at.plus(Duration::from_secs(10));
    let old: Vec<_> = (0..3).map(|n| sent(&format!("old{n}"), at, JobStatus::Completed)).collect();
    assert_eq!(merged(&mut world, &old), Reply::Merged(true));
    world.wait(Duration::from_secs(20));
    let command = prune(&world, &["old0", "old1", "old2"], WhyPruned::Count, Some(at));
    assert_eq!(world.apply(&command).changes.len(), 1);
    assert_eq!(world.state.counters().pruned_to, Some(at));
    for _ in 0..3 {
        assert_eq!(merged(&mut world, &old), Reply::Merged(false));
    }
    // What ended after that is news still, and so is what has not ended, however old it is.
    assert_eq!(merged(&mut world, &[sent("new", later, JobStatus::Failed)]), Reply::Merged(true));
    assert_eq!(merged(&mut world, &[sent("waits", at, JobStatus::Queued)]), Reply::Merged(true));
    world.restart();
    assert_eq!(merged(&mut world, &old), Reply::Merged(false), "after a restart");
}

#[test]
fn what_another_mesh_sends_as_queued_and_was_done_here_is_not_done_again() {
    let mut world = World::default();
    world.register("h1", &[], 5);
    let queued = sent("theirs", world.now(), JobStatus::Queued);
    merged(&mut world, std::slice::from_ref(&queued));
    assert_eq!(world.claim("h1", 1).len(), 1);
    let ended = job_of(world.complete("theirs", "h1", true));
    assert_eq!(ended.prunable(), None, "only the record tells that it was done");
    let command = prune(&world, &["theirs"], WhyPruned::Count, Some(world.now()));
    assert_eq!(world.apply(&command).changes, []);
    assert_eq!(merged(&mut world, std::slice::from_ref(&queued)), Reply::Merged(false));
    // Even when they say that it failed, and then that it waits again.
    let failed = record::Job { version: 50, ..sent("theirs", world.now(), JobStatus::Failed) };
    assert_eq!(merged(&mut world, &[failed]), Reply::Merged(true));
    assert_eq!(world.records.jobs[&job_id("theirs")].prunable(), None);
    assert_eq!(world.claim("h1", 1), []);
}

#[test]
fn an_old_state_of_our_own_that_is_sent_back_does_not_have_done_work_done_again() {
    let ours = JobId::from_uuid(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));
    for retain_ms in [None, Some(0)] {
        let mut world = World::default();
        let queued = record::Job { retain_ms, ..sent(ours.as_str(), world.now(), JobStatus::Queued) };
        world.enqueue(ours.as_str(), &[], 50);
        world.wait(Duration::from_secs(5));
        world.cancel(ours.as_str()).expect("cancelled");
        let (why, up_to) = match retain_ms {
            None => (WhyPruned::Age, Some(world.now())),
            Some(_) => (WhyPruned::Own, None),
        };
        let command = prune(&world, &[ours.as_str()], why, up_to);
        assert_eq!(world.apply(&command).changes.len(), 1);
        assert_eq!(merged(&mut world, std::slice::from_ref(&queued)), Reply::Merged(false));
        // In another cluster, which has forgotten nothing, it is work like any other.
        assert_eq!(merged(&mut World::default(), &[queued]), Reply::Merged(true));
    }
}

#[test]
fn a_record_of_another_mesh_whose_own_time_is_over_is_not_taken_over() {
    let mut world = World::default();
    let at = world.now();
    let short = record::Job { retain_ms: Some(1000), ..sent("short", at, JobStatus::Completed) };
    let long = record::Job { retain_ms: Some(60_000), ..sent("long", at, JobStatus::Completed) };
    world.wait(Duration::from_secs(1));
    assert_eq!(merged(&mut world, &[short]), Reply::Merged(false));
    assert_eq!(merged(&mut world, &[long]), Reply::Merged(true));
}

#[test]
fn up_to_when_all_was_forgotten_never_lies_ahead_and_never_goes_back() {
    let mut world = World::default();
    let ahead = world.now().plus(Duration::from_secs(3600));
    for (job, up_to, want) in [("j1", ahead, 1), ("j2", world.now(), 2)] {
        done(&mut world, job);
        let command = prune(&world, &[job], WhyPruned::Count, Some(up_to));
        world.apply(&command);
        let reached = world.state.counters().pruned_to.expect("something was");
        assert!(reached <= world.now(), "{want}");
        assert!(reached >= command.at || want == 2);
    }
}

proptest! {
    #[test]
    fn nothing_is_forgotten_that_has_not_ended_or_that_others_need(steps in steps()) {
        play(&steps, |turn| {
            let pruned: BTreeSet<&JobId> = pruned(turn.outcome)
                .into_iter()
                .flat_map(|pruned| pruned.jobs.iter().map(|(id, _)| id))
                .collect();
            let (memory, before) = &turn.before;
            for (id, job) in before.jobs.iter().filter(|(id, _)| !turn.after.records.jobs.contains_key(id)) {
                prop_assert!(pruned.contains(id), "{} is gone", id);
                prop_assert!(job.is_ended() && job.prunable().is_some());
                let last = memory.schedules.values().filter_map(|schedule| schedule.last.as_ref());
                prop_assert!(last.into_iter().all(|last| last.job != *id), "{} is a last one", id);
                let waits = memory.active.values().any(|job| job.waits_for().contains(id));
                prop_assert!(!waits, "others wait for {}", id);
            }
            prop_assert!(memory.counters.pruned_to <= turn.after.state.counters().pruned_to);
            let Operation::PruneJobs(asked) = &turn.command.operation else {
                prop_assert!(pruned.is_empty());
                return Ok(());
            };
            // All that was named as it is, and that nobody needs, goes.
            let kept = turn.after.state.kept();
            for job in &asked.jobs {
                let left = turn.after.records.jobs.get(&job.id).and_then(|job| job.prunable());
                prop_assert!(left.is_none_or(|(at, _)| at != job.ended_at) || kept.has(&job.id), "{} is left", job.id);
            }
            prop_assert_eq!(&turn.before.0.active, &super::kit::Memory::of(&turn.after.state).active);
            Ok(())
        })?;
    }

    #[test]
    fn forgetting_twice_is_forgetting_once(steps in steps()) {
        play(&steps, |turn| {
            let Operation::PruneJobs(_) = &turn.command.operation else { return Ok(()) };
            let after = (super::kit::Memory::of(&turn.after.state), turn.after.records.clone());
            let again = turn.after.apply(turn.command);
            prop_assert_eq!(&again.changes, &[]);
            prop_assert_eq!(after, (super::kit::Memory::of(&turn.after.state), turn.after.records.clone()));
            Ok(())
        })?;
    }
}
