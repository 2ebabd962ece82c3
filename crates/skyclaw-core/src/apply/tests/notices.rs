//! What is told of each change: one word for what happened, and neither too much nor what is no news.

use std::time::Duration;

use skyclaw_proto::record;
use skyclaw_proto::{AssignmentStatus, EventId, OnLost, Overlap, Resolution, Scope, Terms};

use super::kit::{World, claim, completion, enqueue, freeze_id, host_id, job_id, lease_of, report};
use super::schedules::{create, fire, schedule_id};
use crate::command::Operation;
use crate::history::Event;
use crate::notice::Notice;

/// Carries out an operation a millisecond later, and says what is told of it.
fn notices(world: &mut World, operation: Operation) -> Vec<record::Notice> {
    world.wait(Duration::from_millis(1));
    let command = world.command(operation);
    let changes = world.apply(&command).changes;
    let told = changes.iter().filter_map(|change| Notice::of(&command, change));
    told.map(|notice| notice.told(EventId::new(7, 3))).collect()
}

/// The same as text.
fn told(world: &mut World, operation: Operation) -> String {
    let text = |notice: record::Notice| {
        let part = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let (host, fence) = (notice.host_id.map(|id| id.to_string()), notice.fence.map(|n| n.to_string()));
        let (status, detail) = (part(notice.status), part(notice.detail));
        let (kind, what, id) = (notice.kind, notice.what, notice.record_id);
        format!("{kind} {what} {id} {status} {} {} {detail}", part(host), part(fence))
    };
    notices(world, operation).into_iter().map(text).collect::<Vec<_>>().join("\n")
}

fn running(world: &mut World, job: &str, on_lost: OnLost) {
    world.enqueue_with(job, Terms { on_lost, ..Terms::default() }, &[]);
    world.claim("h1", 1);
}

#[test]
fn a_job_is_told_of_by_what_happened_to_it_and_its_host_is_not_told_of_for_its_leases() {
    let mut world = World::default();
    world.register("h1", &[], 9);
    assert_eq!(told(&mut world, enqueue("j1", &[], 50)), "job queued j1 queued - - -");
    assert_eq!(told(&mut world, claim("h1", 1)), "job claimed j1 leased h1 1 attempt 1");
    let job = world.state.job(&job_id("j1")).cloned().expect("the job");
    let renew = Operation::RenewLeases { leases: vec![lease_of(&job)], lease_ms: 1 };
    assert_eq!(told(&mut world, renew), "", "that it goes on is no news");
    let event = Event::new(world.now(), "started", "process 7");
    let tell = Operation::TellEvents { id: job_id("j1"), host: host_id("h1"), fence: 1, events: vec![event] };
    assert_eq!(told(&mut world, tell), "job started j1 leased h1 1 process 7");
    let cancel = Operation::Cancel { id: job_id("j1") };
    assert_eq!(told(&mut world, cancel), "job cancel_requested j1 leased h1 1 -");
    let done = Operation::Complete(completion("j1", "h1", false));
    assert_eq!(told(&mut world, done), "job cancelled j1 cancelled h1 1 exit code 1: broke");
    world.enqueue("j2", &[], 50);
    let cancel = Operation::Cancel { id: job_id("j2") };
    assert_eq!(told(&mut world, cancel), "job cancelled j2 cancelled - - -");
}

#[test]
fn a_job_that_is_lost_is_told_of_with_why() {
    for (on_lost, want) in [
        (OnLost::Retry, "job requeued j1 queued - 1"),
        (OnLost::Hold, "job lost j1 lost h1 1"),
        (OnLost::Fail, "job failed j1 failed h1 1"),
    ] {
        let mut world = World::default();
        world.register("h1", &[], 9);
        running(&mut world, "j1", on_lost);
        let job = world.state.job(&job_id("j1")).cloned().expect("the job");
        let over = Operation::ExpireLeases { leases: vec![lease_of(&job)] };
        let why = format!("its host h1 was lost: the lease ran out (onLost: {on_lost})");
        assert_eq!(told(&mut world, over), format!("{want} {why}"));
    }
    let mut world = World::default();
    world.register("h1", &[], 9);
    running(&mut world, "j1", OnLost::Hold);
    let job = world.state.job(&job_id("j1")).cloned().expect("the job");
    world.expire(&job).expect("done");
    let (id, action, by) = (job_id("j1"), Resolution::Requeue, Some("ann".to_owned()));
    let resolve = Operation::ResolveJob { id, action, reason: None, by, result: None };
    assert_eq!(told(&mut world, resolve), "job resolved j1 queued - 1 requeue by ann");
}

#[test]
fn hosts_services_and_freezes_are_told_of_by_what_was_done() {
    let mut world = World::default();
    let host = host_id("h1");
    world.register("h1", &[], 9);
    let down = Operation::NoteHosts { up: vec![], down: vec![host.clone()] };
    let why = "it has not been heard of since";
    assert_eq!(told(&mut world, down), format!("host down h1 down h1 - {why}"));
    let up = Operation::NoteHosts { up: vec![host.clone()], down: vec![] };
    assert_eq!(told(&mut world, up), "host up h1 up h1 - -");
    world.deploy("s1", 1);
    let claim = Operation::ClaimService { host: host.clone(), running: None, after: None };
    assert_eq!(told(&mut world, claim), "service claimed s1 pending h1 - pending");
    let reported = told(&mut world, report("s1", "h1", AssignmentStatus::Running));
    assert!(reported.starts_with("service reported s1 running h1 - running"), "{reported}");
    let drain =
        Operation::DrainHost { id: host.clone(), deadline_ms: None, reason: Some("old".into()), by: None };
    assert_eq!(told(&mut world, drain), "host draining h1 draining h1 - old");
    let freeze = Operation::Freeze {
        id: freeze_id("f"),
        scope: Scope::default(),
        reason: None,
        by: Some("ann".into()),
    };
    assert_eq!(told(&mut world, freeze), "freeze frozen f - - - f (everything) by ann");
    let thaw = Operation::Thaw { id: freeze_id("f"), by: None };
    assert!(told(&mut world, thaw).starts_with("freeze thawed f"));
    let remove = Operation::RemoveHost { id: host, force: true };
    assert_eq!(told(&mut world, remove), "host removed h1 - h1 - -\nservice host_removed s1 pending h1 - -");
}

#[test]
fn schedules_are_told_of_by_what_they_remember_and_by_each_time_that_came() {
    let mut world = World::default();
    let made = told(&mut world, create("s", "nightly", Overlap::Skip, Some(1)));
    assert_eq!(made, "schedule created s - - - by ann");
    let fired = told(&mut world, fire("s", 1, Some(2), "j1"));
    assert_eq!(fired, "job queued j1 queued - - -\nschedule fired s - - - -");
    let skipped = told(&mut world, fire("s", 2, Some(3), "j2"));
    assert!(skipped.starts_with("schedule skipped s - - - the job due at "), "{skipped}");
    let deleted = told(&mut world, Operation::DeleteSchedule { schedule: schedule_id("s") });
    assert_eq!(deleted, "schedule deleted s - - - -");
}

#[test]
fn what_is_said_is_bounded_and_has_its_place() {
    let mut world = World::default();
    let long = Operation::Freeze {
        id: freeze_id("f"),
        scope: Scope::default(),
        reason: Some("ü".repeat(1000)),
        by: None,
    };
    let told = notices(&mut world, long).pop().expect("told");
    assert!(told.detail.is_some_and(|detail| detail.len() <= 256 && detail.ends_with('ü')));
    assert_eq!((told.id, told.at), (EventId::new(7, 3), world.now()));
}
