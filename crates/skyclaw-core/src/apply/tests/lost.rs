//! Jobs that their hosts lost or had to stop, and what operators decide about them.

use expect_test::expect;
use skyclaw_proto::{OnLost, Resolution, Stopped, Terms};

use super::generate::ids;
use super::kit::{World, completion, host_id, job_id, job_of};
use crate::command::{Completion, Operation};
use crate::history::Event;
use crate::model::{Job, Phase};
use crate::outcome::{Effect, Refusal, Reply};

/// A host `h1` with a job `j1` of this kind.
fn world(on_lost: OnLost) -> (World, std::sync::Arc<Job>) {
    let mut world = World::default();
    world.register("h1", &[], 2);
    world.register("h2", &[], 2);
    world.enqueue_with("j1", Terms { on_lost, ..Terms::default() }, &[]);
    let job = world.claim("h1", 1).pop().expect("a job");
    (world, job)
}

fn now(world: &World) -> std::sync::Arc<Job> {
    let ended = || world.records.jobs.get(&job_id("j1")).cloned();
    world.state.job(&job_id("j1")).cloned().or_else(ended).expect("it is known")
}

/// What happened to `j1`, one a line.
fn told(world: &World) -> String {
    let line = |event: Event| {
        let detail = event.detail.map(|detail| format!(": {detail}")).unwrap_or_default();
        format!("{}{detail}\n", event.kind)
    };
    now(world).events().map(line).collect()
}

fn stopped(world: &mut World, fence: u64, why: Stopped) -> Result<Reply, Refusal> {
    let done = Completion { fence: Some(fence), stopped: Some(why), ..completion("j1", "h1", false) };
    world.run(Operation::Complete(done))
}

#[test]
fn a_lost_job_goes_the_way_it_says() {
    let (mut world, job) = world(OnLost::Retry);
    world.expire(&job).expect("done");
    assert_eq!(now(&world).phase, Phase::Queued);
    assert_eq!(ids(&world.claim("h2", 1)), ["j1"]);
    expect![[r"
        claimed: attempt 1
        lease_expired: its host h1 was lost: the lease ran out (onLost: retry)
        requeued
        claimed: attempt 2
    "]]
    .assert_eq(&told(&world));

    let (mut world, job) = self::world(OnLost::Fail);
    world.expire(&job).expect("done");
    let failed = skyclaw_proto::record::Job::from(&*now(&world));
    assert_eq!(failed.status, skyclaw_proto::JobStatus::Failed);
    expect![[r"its host h1 was lost: the lease ran out, and it is not to be run again"]]
        .assert_eq(&failed.error.expect("a reason"));
    assert!(world.claim("h2", 1).is_empty());

    let (mut world, job) = self::world(OnLost::Hold);
    let outcome =
        world.apply(&world.command(Operation::ExpireLeases { leases: vec![super::kit::lease_of(&job)] }));
    assert!(outcome.effects.contains(&Effect::LeaseOver { job: job_id("j1") }));
    let lost = skyclaw_proto::record::Job::from(&*now(&world));
    assert_eq!(lost.status, skyclaw_proto::JobStatus::Lost);
    assert_eq!((lost.lost_at, lost.assigned_host_id), (Some(world.now()), Some(host_id("h1"))));
    assert_eq!(lost.error.as_deref(), Some("its host h1 was lost: the lease ran out"));
    assert!(world.claim("h2", 1).is_empty() && world.claim("h1", 1).is_empty());
    assert_eq!(world.state.host(&host_id("h1")).map(|host| host.active_leases), Some(0));
}

fn lost() -> (World, std::sync::Arc<Job>) {
    let (mut world, job) = world(OnLost::Hold);
    world.expire(&job).expect("done");
    (world, job)
}

#[test]
fn an_operator_decides_about_a_lost_job_and_about_no_other() {
    let (mut world, _) = lost();
    let queued = job_of(world.resolve("j1", Resolution::Requeue));
    assert_eq!(queued.phase, Phase::Queued);
    let refused = world.resolve("j1", Resolution::Requeue).expect_err("it is decided");
    assert_eq!(refused.to_string(), "job j1 is not lost but queued");
    assert_eq!(ids(&world.claim("h2", 1)), ["j1"]);
    assert!(told(&world).contains("resolved: requeue by ann: looked\n"));

    let (mut world, _) = lost();
    let failed = job_of(world.resolve("j1", Resolution::Fail));
    expect!["its host h1 was lost: the lease ran out, and it was found to have failed by ann: looked"]
        .assert_eq(&skyclaw_proto::record::Job::from(&*failed).error.expect("a reason"));

    let (mut world, _) = lost();
    let done = job_of(world.resolve("j1", Resolution::Complete));
    assert_eq!(done.status(), skyclaw_proto::JobStatus::Completed);
    assert_eq!(world.resolve("j9", Resolution::Fail), Err(Refusal::UnknownJob(job_id("j9"))));
}

#[test]
fn what_a_lost_job_came_to_is_heard_from_its_host_with_its_token_only() {
    let (mut world, job) = lost();
    let late = |fence| Operation::Complete(Completion { fence, ..completion("j1", "h1", true) });
    let refused = world.run(late(None)).expect_err("which run is meant?");
    assert_eq!(refused.to_string(), "job j1 is not leased");
    assert!(matches!(world.run(late(Some(job.fence + 1))), Err(Refusal::StaleFence { .. })));
    let done = job_of(world.run(late(Some(job.fence))));
    assert_eq!(done.status(), skyclaw_proto::JobStatus::Completed);

    let (mut world, job) = lost();
    job_of(stopped(&mut world, job.fence, Stopped::Lease));
    assert_eq!(now(&world).status(), skyclaw_proto::JobStatus::Lost, "how far it came nobody knows");
    assert!(told(&world).ends_with("stopped: its host h1 stopped it: lease\n"), "{}", told(&world));

    let (mut world, _) = lost();
    assert_eq!(job_of(world.cancel("j1")).status(), skyclaw_proto::JobStatus::Cancelled);
}

#[test]
fn a_run_that_its_host_had_to_stop_goes_the_way_of_a_lost_one() {
    for (on_lost, want) in [
        (OnLost::Retry, skyclaw_proto::JobStatus::Queued),
        (OnLost::Hold, skyclaw_proto::JobStatus::Lost),
        (OnLost::Fail, skyclaw_proto::JobStatus::Failed),
    ] {
        for why in [Stopped::Frozen, Stopped::Draining, Stopped::Shutdown, Stopped::Lease] {
            let (mut world, job) = world(on_lost);
            let given = job_of(stopped(&mut world, job.fence, why));
            assert_eq!(given.status(), want, "{on_lost} {why}");
            assert_eq!(world.state.host(&host_id("h1")).map(|host| host.active_leases), Some(0));
        }
    }
    let (mut world, job) = world(OnLost::Retry);
    world.cancel("j1").expect("called off");
    let given = job_of(stopped(&mut world, job.fence, Stopped::Frozen));
    assert_eq!(given.status(), skyclaw_proto::JobStatus::Cancelled, "nobody wants it any more");
}

#[test]
fn events_are_taken_from_who_holds_the_newest_lease() {
    let (mut world, job) = world(OnLost::Retry);
    let at = world.now();
    let tell = |host: &str, fence: u64| Operation::TellEvents {
        id: job_id("j1"),
        host: host_id(host),
        fence,
        events: vec![Event::new(at, "started", "pid 7")],
    };
    assert!(matches!(world.run(tell("h2", job.fence)), Err(Refusal::AssignedElsewhere { .. })));
    assert!(matches!(world.run(tell("h1", job.fence + 1)), Err(Refusal::StaleFence { .. })));
    job_of(world.run(tell("h1", job.fence)));
    assert_eq!(told(&world), "claimed: attempt 1\nstarted: pid 7\n");
    let events = ["started", "exited"].map(|kind| Event::new(at, kind, "pid 7")).to_vec();
    let done = Completion { fence: Some(job.fence), events, ..completion("j1", "h1", true) };
    world.run(Operation::Complete(done)).expect("done");
    let once = "claimed: attempt 1\nstarted: pid 7\nexited: pid 7\ncompleted: exit code 0\n";
    assert_eq!(told(&world), once, "the end repeats what was told before");
    assert_eq!(world.run(tell("h1", job.fence)), Err(Refusal::NotLeased(job_id("j1"))));
    assert!(told(&world).ends_with("completed: exit code 0\n"));
}
