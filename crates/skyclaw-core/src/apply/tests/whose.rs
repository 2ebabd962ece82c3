//! Whom what happened is put down to.

use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use skyclaw_proto::{Actor, ActorKind, EventId, OnLost, Overlap, Plan, Resolution, Terms};

use super::kit::{World, enqueue, job_id, lease_of, node_id};
use super::schedules::{create, fire, schedule_id};
use crate::command::{Command, Operation};
use crate::notice::Notice;

fn ann() -> Actor {
    Actor {
        stated: Some("ann".into()),
        node_id: Some(node_id("node_a")),
        request_id: Some("r-1".into()),
        ..Actor::new(ActorKind::Client)
    }
}

/// Carries out what Ann asks for.
fn asked(world: &mut World, operation: Operation) {
    world.wait(Duration::from_millis(1));
    let command = Command { by: Some(Arc::new(ann())), ..world.command(operation) };
    let outcome = world.apply(&command);
    outcome.reply.expect("done");
    let told = outcome.changes.iter().filter_map(|change| Notice::of(&command, change));
    for notice in told.map(|notice| notice.told(EventId::new(7, 3))) {
        assert_eq!(notice.by, Some(ann()), "{notice:?}");
    }
}

/// A job's story, one event a line.
fn story(world: &World, job: &str) -> String {
    let id = job_id(job);
    let job = world.state.job(&id).cloned().or_else(|| world.records.jobs.get(&id).cloned());
    let line = |event: crate::history::Event| {
        let by = event.by.map(|by| format!(" by {by}")).unwrap_or_default();
        format!("{}{by}\n", event.kind)
    };
    job.expect("it is known").story().map(line).collect()
}

#[test]
fn what_somebody_did_to_a_job_is_told_with_who_it_was() {
    let mut world = World::default();
    world.register("h1", &[], 9);
    asked(&mut world, enqueue("j1", &[], 50));
    world.claim("h1", 1);
    asked(&mut world, Operation::Cancel { id: job_id("j1") });
    world.complete("j1", "h1", false).expect("done");
    asked(&mut world, Operation::RetryJob { id: job_id("j1"), reason: None, by: None });
    asked(&mut world, Operation::Cancel { id: job_id("j1") });
    expect![[r"
        submitted by ann (as stated)
        claimed
        cancel_requested by ann (as stated)
        cancelled
        retried by ann (as stated)
        cancelled by ann (as stated)
    "]]
    .assert_eq(&story(&world, "j1"));
}

#[test]
fn what_a_coordinator_did_of_its_own_accord_is_put_down_to_it() {
    let mut world = World::default();
    world.register("h1", &[], 9);
    let job = world.enqueue_with("j1", Terms { on_lost: OnLost::Hold, ..Terms::default() }, &[]);
    assert_eq!(world.claim("h1", 1).len(), 1);
    let job = world.state.job(&job.id).cloned().expect("it is active");
    world.run(Operation::ExpireLeases { leases: vec![lease_of(&job)] }).expect("done");
    let resolve = Operation::ResolveJob {
        id: job_id("j1"),
        action: Resolution::Fail,
        reason: None,
        by: None,
        result: None,
    };
    asked(&mut world, resolve);
    expect![[r"
        submitted
        claimed
        lease_expired by coordinator node_a
        lost by coordinator node_a
        resolved by ann (as stated)
        failed by ann (as stated)
    "]]
    .assert_eq(&story(&world, "j1"));

    let mut short = enqueue("j2", &[], 50);
    if let Operation::Enqueue { plan, .. } = &mut short {
        *plan = Some(Arc::new(Plan { ttl_ms: Some(10), ..Plan::default() }));
    }
    world.run(short).expect("done");
    world.wait(Duration::from_millis(20));
    world.run(Operation::PassTime { most: 10 }).expect("done");
    expect![[r"
        submitted
        expired by coordinator node_a
    "]]
    .assert_eq(&story(&world, "j2"));
}

#[test]
fn a_job_of_a_schedule_is_put_down_to_the_schedule_or_to_who_triggered_it() {
    let mut world = World::default();
    world.run(create("a", "nightly", Overlap::Skip, Some(10))).expect("done");
    world.run(fire("a", 10, Some(20), "j1")).expect("done");
    let schedule = schedule_id("a");
    assert_eq!(story(&world, "j1"), format!("submitted by schedule {schedule}\n"));
    world.cancel("j1").expect("done");
    let job = Some(Box::new(enqueue("j2", &[], 50)));
    asked(&mut world, Operation::TriggerSchedule { schedule, job, by: None });
    assert_eq!(story(&world, "j2"), "submitted by ann (as stated)\n");
}

#[test]
fn nothing_is_kept_of_the_submission_of_a_job_where_nobody_said_who_it_was() {
    let mut world = World::default();
    let job = world.enqueue("j1", &[], 50);
    assert_eq!(job.history, None);
    assert_eq!(story(&world, "j1"), "submitted\n");
    world.cancel("j1").expect("done");
    assert_eq!(story(&world, "j1"), "submitted\n", "and of its end the record tells");
}
