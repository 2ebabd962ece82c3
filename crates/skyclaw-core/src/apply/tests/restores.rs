//! Going back to a snapshot: what is judged, recorded, and held back.

use skyclaw_proto::{RestoreId, Timestamp};
use uuid::Uuid;

use super::kit::{START_MS, World};
use crate::apply::Verdict;
use crate::command::{Command, Operation};
use crate::outcome::{Change, Effect, Refusal, Reply, StagedPart};
use crate::restore::{KEPT_RESTORES, Restore, RollBack, SnapshotOf};
use crate::state::Claimable;

fn id(name: &str) -> RestoreId {
    RestoreId::parse(name).expect("an id")
}

fn stage(world: &mut World, restore: &str, part: u32) -> Reply {
    let part = StagedPart { restore: id(restore), part, bytes: vec![1] };
    world.run(Operation::StageRestore(part.into())).expect("staged")
}

fn back(restore: &str, force: bool) -> RollBack {
    RollBack { restore: id(restore), cluster: Uuid::nil(), force, requested_by: None }
}

fn record(world: &World, restore: &str, cluster: u128, force: bool) -> Result<Restore, Refusal> {
    let command = world.command(Operation::RollBack(back(restore, force)));
    let created_at = Timestamp::from_millis(START_MS);
    let snapshot = SnapshotOf { cluster: Uuid::from_u128(cluster), created_at, index: 1 };
    Restore::of(&command, &back(restore, force), snapshot, world.state.restores().last().map(|last| &**last))
}

/// What a node does once it has gone back to a snapshot of the very state it has.
fn went_back(world: &mut World, restore: Restore) {
    let restores = world.state.restores().iter().cloned().chain([restore.into()]);
    world.records.restores = restores.map(|restore| (restore.number, restore)).collect();
    world.records.staged = None;
    world.restart();
}

#[test]
fn nothing_goes_back_while_a_job_is_leased_or_without_its_parts() {
    let mut world = World::default();
    world.register("h", &[], 1);
    world.enqueue("j", &[], 50);
    assert_eq!(world.state.judge(&back("r", false)), Verdict::Refused(Refusal::NotStaged(id("r"))));
    stage(&mut world, "r", 0);
    assert_eq!(world.state.judge(&back("r", false)), Verdict::Go);
    let job = world.claim("h", 1).remove(0);
    let refusal = Refusal::JobsLeased { count: 1, jobs: vec![job.id.clone()] };
    assert_eq!(world.state.judge(&back("r", true)), Verdict::Refused(refusal));
    world.expire(&job).expect("expired");
    assert_eq!(world.state.judge(&back("r", false)), Verdict::Go);
    stage(&mut world, "other", 0);
    assert_eq!(world.state.judge(&back("r", false)), Verdict::Refused(Refusal::NotStaged(id("r"))));
}

#[test]
fn a_restore_that_is_called_off_leaves_what_another_has_staged() {
    let mut world = World::default();
    stage(&mut world, "r", 0);
    stage(&mut world, "other", 0);
    let cancelled = |world: &mut World, restore: &str| {
        let command: Command = world.command(Operation::CancelRestore { restore: id(restore) });
        world.apply(&command).changes
    };
    assert_eq!(cancelled(&mut world, "r"), []);
    assert_eq!(world.state.staging(), Some(&id("other")));
    assert_eq!(cancelled(&mut world, "other"), [Change::DropStaged]);
    assert_eq!(cancelled(&mut world, "other"), []);
    assert_eq!(world.state.staging(), None);
}

#[test]
fn a_snapshot_of_another_cluster_takes_force_and_holds_claims_until_they_are_released() {
    let mut world = World::default();
    world.register("h", &[], 1);
    world.enqueue("j", &[], 50);
    assert!(matches!(record(&world, "r", 9, false), Err(Refusal::ForeignSnapshot { .. })));
    let own = record(&world, "r", 0, false).expect("its own");
    assert!(!own.foreign && !own.claims_held);
    let foreign = record(&world, "r", 9, true).expect("by force");
    assert!(foreign.foreign && foreign.claims_held);
    went_back(&mut world, foreign.clone());
    assert_eq!(world.claim("h", 1), []);
    assert_eq!(world.state.claimable(&super::kit::host_id("h")), Claimable::Nothing);
    // A further restore in the meantime does not let go.
    assert!(record(&world, "s", 0, false).expect("its own").claims_held);
    let release = |restore| Operation::ReleaseClaims { restore: id(restore) };
    let other = world.command(release("other"));
    assert_eq!(world.apply(&other).changes, []);
    let command = world.command(release("r"));
    assert_eq!(world.apply(&command).effects, [Effect::ClaimsReleased]);
    assert_eq!(world.apply(&command).effects, []);
    world.restart();
    assert_eq!(world.claim("h", 1).len(), 1);
}

#[test]
fn a_restore_given_twice_is_one_and_is_told_of_at_every_step() {
    let mut world = World::default();
    stage(&mut world, "r", 0);
    let restore = record(&world, "r", 0, false).expect("its own");
    went_back(&mut world, restore.clone());
    let done = std::sync::Arc::new(restore);
    assert_eq!(world.state.judge(&back("r", false)), Verdict::Done(done.clone()));
    assert_eq!(stage(&mut world, "r", 0), Reply::Restored(done.clone()));
    assert_eq!(world.run(Operation::CancelRestore { restore: id("r") }), Ok(Reply::Restored(done)));
    assert_eq!(world.state.staging(), None);
}

#[test]
fn a_way_back_that_is_not_alone_is_refused_and_old_restores_are_forgotten() {
    let mut world = World::default();
    let refused = world.run(Operation::RollBack(back("r", false)));
    assert_eq!(refused, Err(Refusal::RestoreNotAlone(id("r"))));
    for n in 0..=KEPT_RESTORES {
        let restore = record(&world, &format!("r{n}"), 0, false).expect("its own");
        went_back(&mut world, restore);
    }
    assert_eq!(world.state.restores().len(), KEPT_RESTORES);
    assert_eq!(world.state.restores()[0].number, 2);
}
