//! Schedules: each time is dealt with once, and the jobs of one schedule never run side by side.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use skyclaw_proto::{Links, Overlap, ScheduleId, Timestamp, limits};

use super::kit::{World, enqueue};
use crate::command::Operation;
use crate::model::{EndStatus, Job, Phase};
use crate::outcome::{Effect, Refusal, Reply};
use crate::restore::{Restore, SnapshotOf};
use crate::schedule::{Fire, Schedule, ScheduleSpec};

pub(super) fn schedule_id(id: &str) -> ScheduleId {
    ScheduleId::parse(id).expect("an id")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(super::kit::START_MS + second * 1000)
}

fn spec(name: &str, overlap: Overlap) -> Arc<ScheduleSpec> {
    Arc::new(ScheduleSpec {
        name: name.into(),
        cron: "* * * * * *".into(),
        time_zone: "UTC".into(),
        overlap,
        catch_up_ms: 1000,
        job: "{}".into(),
    })
}

pub(super) fn create(id: &str, name: &str, overlap: Overlap, next_at: Option<i64>) -> Operation {
    let (id, spec, next_at) = (schedule_id(id), spec(name, overlap), next_at.map(at));
    Operation::CreateSchedule { id, spec, next_at, paused: false, by: Some("ann".into()) }
}

pub(super) fn fire(id: &str, due: i64, next: Option<i64>, job: &str) -> Operation {
    Operation::FireSchedule(Box::new(Fire {
        schedule: schedule_id(id),
        at: at(due),
        due: Some(at(due)),
        missed: 0,
        next_at: next.map(at),
        job: Some(Box::new(enqueue(job, &[], 50))),
    }))
}

fn waiting(id: &str, due: i64, job: &str) -> Operation {
    let job = Box::new(enqueue(job, &[], 50));
    Operation::SubmitWaiting { schedule: schedule_id(id), at: at(due), job }
}

pub(super) fn trigger(wanted: &str, job: &str) -> Operation {
    let job = Some(Box::new(enqueue(job, &[], 50)));
    Operation::TriggerSchedule { schedule: schedule_id(wanted), job, by: Some("ann".into()) }
}

fn schedule_of(reply: Result<Reply, Refusal>) -> Arc<Schedule> {
    match reply {
        Ok(Reply::Schedule(schedule)) => schedule,
        other => panic!("not a schedule: {other:?}"),
    }
}

/// A host with room for everything, and a schedule `s` named `nightly` that waits for second 1.
fn world(overlap: Overlap) -> World {
    let mut world = World::default();
    world.register("h1", &[], 100);
    schedule_of(world.run(create("s", "nightly", overlap, Some(1))));
    world
}

impl World {
    fn schedule(&self) -> Arc<Schedule> {
        Arc::clone(self.state.schedule(&schedule_id("s")).expect("a schedule"))
    }

    /// The jobs of the schedule that have not ended.
    fn active(&self) -> Vec<Arc<Job>> {
        self.state.active_jobs().filter(|job| job.origin.is_some()).cloned().collect()
    }

    fn kinds(&self) -> Vec<String> {
        self.schedule().events.iter().map(|event| event.kind.to_string()).collect()
    }
}

#[test]
fn a_time_that_has_come_submits_the_job_once_whoever_says_so_and_how_often() {
    let mut world = world(Overlap::Skip);
    world.run(fire("s", 1, Some(2), "j1")).expect("fired");
    let job = world.active().pop().expect("a job");
    let origin = job.origin.as_ref().expect("an origin");
    assert_eq!((&origin.schedule, origin.at), (&schedule_id("s"), at(1)));
    let schedule = world.schedule();
    assert_eq!((schedule.next_at, schedule.submitted), (Some(at(2)), 1));
    assert_eq!(schedule.last.as_ref().map(|last| (&last.job, last.at)), Some((&job.id, at(1))));
    // Another leader, which made an id of its own; also after the job has ended and after a restart.
    let again = world.apply(&world.command(fire("s", 1, Some(2), "j1b")));
    assert_eq!((again.changes.len(), again.effects.len()), (0, 0));
    world.cancel("j1").expect("cancelled");
    world.restart();
    world.run(fire("s", 1, Some(3), "j1c")).expect("nothing to do");
    assert!(world.active().is_empty());
    assert_eq!(world.schedule().next_at, Some(at(2)));
    // Nobody goes back in time.
    world.run(fire("s", 2, Some(2), "j2")).expect("nothing to do");
    assert_eq!(world.schedule().submitted, 1);
}

#[test]
fn a_time_at_which_the_last_job_has_not_ended_is_skipped_if_so_asked() {
    let mut world = world(Overlap::Skip);
    for second in 1..=4 {
        world.run(fire("s", second, Some(second + 1), &format!("j{second}"))).expect("fired");
    }
    assert_eq!(super::generate::ids(&world.active()), ["j1"]);
    assert_eq!((world.schedule().submitted, world.schedule().skipped), (1, 3));
    assert_eq!(world.kinds(), ["created", "skipped"], "what goes on and on is told once");
    world.claim("h1", 9);
    world.complete("j1", "h1", true).expect("completed");
    world.run(fire("s", 5, None, "j5")).expect("fired");
    assert_eq!(super::generate::ids(&world.active()), ["j5"]);
    assert_eq!(world.schedule().next_at, None, "there is none after it");
}

#[test]
fn a_queued_time_waits_for_the_last_job_and_only_one_does() {
    let mut world = world(Overlap::Queue);
    for second in 1..=3 {
        world.run(fire("s", second, Some(second + 1), &format!("j{second}"))).expect("fired");
    }
    assert_eq!(world.schedule().waiting, Some(at(2)));
    assert_eq!(world.schedule().skipped, 1, "the third found one waiting");
    world.run(waiting("s", 2, "j2")).expect("nothing to do");
    assert_eq!(super::generate::ids(&world.active()), ["j1"], "the first has not ended");
    world.claim("h1", 9);
    let outcome = world.apply(&world.command(Operation::Complete(super::kit::completion("j1", "h1", false))));
    let first = super::kit::job_id("j1");
    assert!(outcome.effects.contains(&Effect::JobChanged { job: first }), "the leader learns of it");
    world.run(waiting("s", 3, "j3")).expect("nothing to do: another waits");
    world.run(waiting("s", 2, "j2")).expect("submitted");
    world.run(waiting("s", 2, "j2b")).expect("nothing to do: it was");
    assert_eq!(super::generate::ids(&world.active()), ["j2"]);
    assert_eq!(world.schedule().last.as_ref().map(|last| last.at), Some(at(2)));
}

#[test]
fn a_replaced_job_that_nobody_runs_makes_room_at_once() {
    let mut world = world(Overlap::Replace);
    world.run(fire("s", 1, Some(2), "j1")).expect("fired");
    world.run(fire("s", 2, Some(3), "j2")).expect("fired");
    assert_eq!(super::generate::ids(&world.active()), ["j2"]);
    let first = &world.records.jobs[&super::kit::job_id("j1")];
    assert!(matches!(&first.phase, Phase::Ended(ended) if ended.status == EndStatus::Cancelled));
    assert_eq!((world.schedule().submitted, world.schedule().skipped), (2, 0));
}

#[test]
fn a_job_that_makes_room_for_itself_has_ended_all_the_same() {
    let mut world = world(Overlap::Replace);
    world.run(fire("s", 1, Some(2), "j1")).expect("fired");
    world.run(fire("s", 2, Some(3), "j1")).expect("fired");
    assert!(world.active().is_empty(), "a job that has ended is not enqueued anew");
}

#[test]
fn a_replaced_job_that_runs_is_stopped_before_the_next_is_submitted() {
    let mut world = world(Overlap::Replace);
    world.run(fire("s", 1, Some(2), "j1")).expect("fired");
    world.claim("h1", 9);
    let outcome = world.apply(&world.command(fire("s", 2, Some(3), "j2")));
    let stops = |effect: &Effect| matches!(effect, Effect::StopRun { .. });
    assert!(outcome.effects.iter().any(stops));
    assert_eq!(world.schedule().waiting, Some(at(2)));
    world.run(fire("s", 3, Some(4), "j3")).expect("fired");
    assert_eq!((world.schedule().waiting, world.schedule().skipped), (Some(at(3)), 1), "the newest counts");
    assert_eq!(super::generate::ids(&world.active()), ["j1"], "it has not confirmed yet");
    world.complete("j1", "h1", false).expect("stopped");
    world.run(waiting("s", 3, "j3")).expect("submitted");
    assert_eq!(super::generate::ids(&world.active()), ["j3"]);
}

#[test]
fn what_is_paused_submits_nothing_and_makes_up_for_nothing() {
    let mut world = world(Overlap::Queue);
    world.run(fire("s", 1, Some(2), "j1")).expect("fired");
    world.run(fire("s", 2, Some(3), "j2")).expect("fired");
    let (schedule, by) = (schedule_id("nightly"), Some("ann".to_owned()));
    let pause = Operation::PauseSchedule { schedule: schedule.clone(), reason: Some("odd".into()), by };
    let paused = schedule_of(world.run(pause.clone()));
    assert_eq!((paused.next_at, paused.waiting, paused.skipped), (None, None, 1));
    assert_eq!(paused.paused.as_ref().and_then(|paused| paused.reason.as_deref()), Some("odd"));
    assert_eq!(schedule_of(world.run(pause)), paused, "pausing twice is the same as once");
    world.cancel("j1").expect("cancelled");
    world.run(waiting("s", 2, "j2")).expect("nothing to do");
    world.run(fire("s", 3, Some(4), "j3")).expect("nothing to do");
    assert!(world.active().is_empty());
    // Somebody may still have it run once.
    assert!(matches!(world.run(trigger("s", "now")), Ok(Reply::Triggered { job: Some(_), .. })));
    world.cancel("now").expect("cancelled");
    let resume = Operation::ResumeSchedule { schedule, next_at: Some(at(9)), by: None };
    let resumed = schedule_of(world.run(resume.clone()));
    assert_eq!((resumed.next_at, &resumed.paused), (Some(at(9)), &None));
    assert_eq!(schedule_of(world.run(resume)), resumed);
    world.run(fire("s", 9, Some(10), "j9")).expect("fired");
    assert_eq!(super::generate::ids(&world.active()), ["j9"]);
}

#[test]
fn a_trigger_never_runs_a_job_beside_the_last_one() {
    let busy = |reply| matches!(reply, Err(Refusal::ScheduleBusy { .. }));
    let mut skips = world(Overlap::Skip);
    assert!(matches!(skips.run(trigger("nightly", "a")), Ok(Reply::Triggered { job: Some(_), .. })));
    assert!(busy(skips.run(trigger("nightly", "b"))));
    assert_eq!(skips.schedule().skipped, 0, "who asked was told");
    let mut queues = world(Overlap::Queue);
    queues.run(trigger("s", "a")).expect("submitted");
    assert!(matches!(queues.run(trigger("s", "b")), Ok(Reply::Triggered { job: None, .. })));
    assert!(queues.schedule().waiting.is_some());
    assert!(busy(queues.run(trigger("s", "c"))));
    let mut replaces = world(Overlap::Replace);
    replaces.run(trigger("s", "a")).expect("submitted");
    replaces.wait(Duration::from_secs(1));
    assert!(matches!(replaces.run(trigger("s", "b")), Ok(Reply::Triggered { job: Some(_), .. })));
    assert_eq!(super::generate::ids(&replaces.active()), ["b"]);
    assert_eq!(replaces.schedule().next_at, Some(at(1)), "the times it waits for are the same");
}

#[test]
fn times_that_were_missed_are_counted_and_the_newest_is_made_up_for() {
    let mut world = world(Overlap::Skip);
    let of = |at_: i64, due: Option<i64>, missed, next: i64, job: &str| {
        Operation::FireSchedule(Box::new(Fire {
            schedule: schedule_id("s"),
            at: at(at_),
            due: due.map(at),
            missed,
            next_at: Some(at(next)),
            job: due.map(|_| Box::new(enqueue(job, &[], 50))),
        }))
    };
    world.run(of(1, Some(4), 3, 5, "j4")).expect("fired");
    assert_eq!((world.schedule().missed, world.schedule().submitted), (3, 1));
    assert_eq!(world.active()[0].origin.as_ref().map(|origin| origin.at), Some(at(4)));
    world.run(of(5, None, 6, 12, "")).expect("too late for all of them");
    assert_eq!((world.schedule().missed, world.schedule().next_at), (10, Some(at(12))));
    assert_eq!(world.kinds(), ["created", "missed"]);
}

#[test]
fn what_a_snapshot_knows_nothing_of_is_not_done_a_second_time() {
    let mut world = world(Overlap::Queue);
    world.run(fire("s", 1, Some(2), "j1")).expect("fired");
    world.run(fire("s", 2, Some(3), "j2")).expect("fired");
    let snapshot = SnapshotOf { cluster: uuid::Uuid::nil(), created_at: at(2), index: 1 };
    let restore = Restore {
        number: 1,
        id: skyclaw_proto::RestoreId::parse("r").expect("an id"),
        at: at(5),
        node: super::kit::node_id("node_a"),
        requested_by: None,
        snapshot,
        foreign: false,
        claims_held: false,
    };
    world.records.restores.insert(1, Arc::new(restore));
    world.restart();
    world.cancel("j1").expect("cancelled");
    world.run(waiting("s", 2, "j2")).expect("not submitted");
    world.run(fire("s", 3, Some(6), "j3")).expect("not submitted");
    assert!(world.active().is_empty());
    assert_eq!(world.schedule().missed, 2);
    world.run(fire("s", 6, Some(7), "j6")).expect("fired");
    assert_eq!(super::generate::ids(&world.active()), ["j6"]);
}

#[test]
fn names_are_unique_and_found_and_there_is_a_bound() {
    let mut world = world(Overlap::Skip);
    let taken = Refusal::ScheduleExists { name: "nightly".into(), id: schedule_id("s") };
    assert_eq!(world.run(create("t", "nightly", Overlap::Skip, None)), Err(taken));
    let known = world.schedule();
    assert_eq!(schedule_of(world.run(create("s", "nightly", Overlap::Skip, Some(7)))), known, "come twice");
    let unknown = Refusal::UnknownSchedule(schedule_id("none"));
    let delete = |wanted: &str| Operation::DeleteSchedule { schedule: schedule_id(wanted) };
    assert_eq!(world.run(delete("none")), Err(unknown));
    assert_eq!(schedule_of(world.run(delete("nightly"))), known);
    assert!(world.state.schedule(&schedule_id("nightly")).is_none() && world.records.schedules.is_empty());
    world.run(fire("s", 1, Some(2), "j1")).expect("nothing to do");
    assert!(world.active().is_empty());
    for n in 0..limits::MAX_SCHEDULES {
        let name = format!("n{n}");
        world.run(create(&format!("id{n}"), &name, Overlap::Skip, None)).expect("created");
    }
    assert_eq!(world.run(create("more", "more", Overlap::Skip, None)), Err(Refusal::TooManySchedules));
}

/// What happens to a schedule and its jobs.
#[derive(Debug, Clone)]
enum Step {
    /// Its next time comes, and so many of the following have passed too.
    Fire {
        passed: i64,
        twice: bool,
    },
    /// A leader that is late says so of a time that was dealt with.
    Stale,
    Submit,
    Trigger,
    Claim,
    End {
        success: bool,
    },
    Lose,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prop_oneof![4 => Just(0i64), 1 => 1i64..4], any::<bool>())
            .prop_map(|(passed, twice)| Step::Fire { passed, twice }),
        1 => Just(Step::Stale),
        4 => Just(Step::Submit),
        1 => Just(Step::Trigger),
        3 => Just(Step::Claim),
        4 => any::<bool>().prop_map(|success| Step::End { success }),
        1 => Just(Step::Lose),
        1 => Just(Step::Restart),
    ]
}

/// What must come of it, counted without the state machine's own rules.
#[derive(Debug, Default)]
struct Model {
    times: u64,
    triggered: u64,
    next: i64,
    jobs: usize,
    /// The times jobs were submitted for.
    done: BTreeSet<Timestamp>,
}

fn play(world: &mut World, model: &mut Model, step: &Step) {
    model.jobs += 1;
    let job = format!("j{}", model.jobs);
    match step {
        Step::Fire { passed, twice } => {
            let (first, due) = (model.next, model.next + passed);
            let fire = |job: &str| {
                Operation::FireSchedule(Box::new(Fire {
                    schedule: schedule_id("s"),
                    at: at(first),
                    due: Some(at(due)),
                    missed: passed.unsigned_abs(),
                    next_at: Some(at(due + 1)),
                    job: Some(Box::new(enqueue(job, &[], 50))),
                }))
            };
            world.run(fire(&job)).expect("fired");
            if *twice {
                world.run(fire(&format!("{job}-again"))).expect("nothing to do");
            }
            (model.times, model.next) = (model.times + 1 + passed.unsigned_abs(), due + 1);
        }
        Step::Stale => drop(world.run(fire("s", model.next - 1, Some(model.next + 5), &job))),
        Step::Submit => {
            let at = world.schedule().waiting.unwrap_or(at(0));
            let job = Box::new(enqueue(&job, &[], 50));
            world.run(Operation::SubmitWaiting { schedule: schedule_id("s"), at, job }).expect("looked at");
        }
        Step::Trigger => {
            // So that its time is not one of the others'.
            world.wait(Duration::from_millis(1));
            model.triggered += u64::from(world.run(trigger("s", &job)).is_ok());
        }
        Step::Claim => drop(world.claim("h1", 1)),
        Step::End { success } => {
            let leased = world.active().into_iter().find(|job| job.lease().is_some());
            if let Some(job) = leased {
                world.complete(job.id.as_str(), "h1", *success).expect("ended");
            }
        }
        Step::Lose => {
            let leased = world.active().into_iter().find(|job| job.lease().is_some());
            if let Some(job) = leased {
                world.expire(&job).expect("expired");
            }
        }
        Step::Restart => world.restart(),
    }
}

proptest! {
    #[test]
    fn every_time_is_dealt_with_once_and_no_two_jobs_of_a_schedule_are_active(
        overlap in prop::sample::select(Overlap::ALL),
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut world = world(overlap);
        let mut model = Model { next: 1, ..Model::default() };
        // Triggers happen between the times.
        world.wait(Duration::from_secs(100_000));
        for step in &steps {
            let before = world.schedule();
            play(&mut world, &mut model, step);
            let schedule = world.schedule();
            prop_assert!(world.active().len() <= 1, "{:?}", world.active());
            if schedule.submitted > before.submitted {
                prop_assert_eq!(schedule.submitted, before.submitted + 1);
                let last = schedule.last.as_ref().expect("a submission");
                prop_assert!(model.done.insert(last.at), "a second job for {}", last.at);
            }
            let dealt_with =
                schedule.submitted + schedule.skipped + schedule.missed + u64::from(schedule.waiting.is_some());
            prop_assert_eq!(dealt_with, model.times + model.triggered, "{:?}", schedule);
            prop_assert!(overlap != Overlap::Skip || schedule.waiting.is_none());
            prop_assert!(schedule.events.len() <= limits::MAX_SCHEDULE_EVENTS);
        }
    }
}

/// Anything that can be asked of schedules, with few ids and times so that they meet.
pub(super) fn operation() -> impl Strategy<Value = Operation> {
    let id = || prop::sample::select(&["s0", "s1"][..]);
    let name = || prop::sample::select(&["n0", "n1"][..]);
    let wanted = || prop::sample::select(&["s0", "s1", "n0", "n1"][..]).prop_map(schedule_id);
    let job = || prop::sample::select(&["j0", "j1", "j2", "j3", "j4", "j5", "j6", "j7"][..]);
    let time = || 0i64..4;
    prop_oneof![
        4 => (id(), name(), prop::sample::select(Overlap::ALL), prop::option::of(time()))
            .prop_map(|(id, name, overlap, next)| create(id, name, overlap, next)),
        1 => wanted().prop_map(|schedule| Operation::PauseSchedule { schedule, reason: None, by: None }),
        2 => (wanted(), prop::option::of(time())).prop_map(|(schedule, next)| {
            Operation::ResumeSchedule { schedule, next_at: next.map(at), by: None }
        }),
        1 => wanted().prop_map(|schedule| Operation::DeleteSchedule { schedule }),
        8 => (id(), time(), prop::option::of(1i64..6), job())
            .prop_map(|(id, due, next, job)| fire(id, due, next, job)),
        3 => (id(), time(), job()).prop_map(|(id, due, job)| waiting(id, due, job)),
        2 => (wanted(), job()).prop_map(|(wanted, job)| trigger(wanted.as_str(), job)),
    ]
}

#[test]
fn a_time_is_passed_by_while_an_active_job_has_the_unique_key_of_what_is_due() {
    let mut world = world(Overlap::Queue);
    let links = Some(Arc::new(Links { unique_key: Some("k".into()), ..Links::default() }));
    let with_key = |job: &str| match enqueue(job, &[], 50) {
        Operation::Enqueue { id, payload, required, submitted_by, priority, labels, terms, plan, .. } => {
            let links = links.clone();
            Operation::Enqueue { id, payload, required, submitted_by, priority, labels, terms, links, plan }
        }
        other => other,
    };
    world.run(with_key("other")).expect("queued");
    let mut due = fire("s", 1, Some(2), "j1");
    if let Operation::FireSchedule(fire) = &mut due {
        fire.job = Some(Box::new(with_key("j1")));
    }
    world.run(due).expect("done");
    let schedule = world.schedule();
    assert_eq!((schedule.submitted, schedule.skipped, schedule.last.is_none()), (0, 1, true));
    assert_eq!(schedule.next_at, Some(at(2)), "it goes on");
}
