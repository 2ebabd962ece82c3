//! Jobs that depend on others, share a limit, or are unique, against a model that looks through everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use skyclaw_proto::JobId;

use super::generate::{commands, play, steps};
use super::kit::{Memory, World, node_id};
use crate::command::{Command, Operation};
use crate::freeze::Freeze;
use crate::keys::OwnedKey;
use crate::model::{EndStatus, Job, Phase};
use crate::outcome::{Change, Effect, Reply};

/// How many jobs with each concurrency key run, or may run still.
pub(super) fn running(memory: &Memory) -> BTreeMap<OwnedKey, u32> {
    let mut running = BTreeMap::new();
    let held = memory.active.values().filter(|job| !matches!(job.phase, Phase::Queued));
    for turn in held.filter_map(|job| job.turn()) {
        *running.entry(turn.key).or_default() += 1;
    }
    running
}

/// Whether few enough others run for this one to begin.
pub(super) fn has_turn(running: &BTreeMap<OwnedKey, u32>, job: &Job) -> bool {
    job.turn().is_none_or(|turn| running.get(&turn.key).copied().unwrap_or_default() < turn.limit)
}

/// Whether a job is not to be claimed, by its record and the freezes alone.
pub(super) fn waits(memory: &Memory, job: &Job) -> bool {
    stands_apart(memory, job)
        || memory.freezes.iter().any(|freeze| freeze.is_in_force() && freeze.scope.is_all())
}

/// The same, but for what holds all jobs back alike.
fn stands_apart(memory: &Memory, job: &Job) -> bool {
    let covers = |freeze: &&Arc<Freeze>| {
        freeze.is_in_force() && !freeze.scope.is_all() && freeze.scope.covers(&job.labels, job.agent())
    };
    let later = job.life.as_ref().is_some_and(|life| life.claimable_at.is_some());
    memory.freezes.iter().any(|freeze| covers(&freeze)) || later || !job.waits_for().is_empty()
}

/// Whether a claim may find it: of several that are alike but for their age only the first.
pub(super) fn is_found(memory: &Memory, job: &Job) -> bool {
    if job.phase != Phase::Queued || stands_apart(memory, job) || !has_turn(&running(memory), job) {
        return false;
    }
    let is_alike = |other: &&Arc<Job>| {
        other.phase == Phase::Queued && !stands_apart(memory, other) && other.turn() == job.turn() && {
            (other.priority, other.needs()) == (job.priority, job.needs())
        }
    };
    job.turn().is_none() || !memory.active.values().filter(is_alike).any(|other| other.seq < job.seq)
}

/// Tells everybody who is still to be told, as a leader does.
fn settle_all(world: &mut World) {
    for _ in 0..100 {
        let ended: Vec<JobId> = world.state.unsettled().cloned().collect();
        if ended.is_empty() {
            return;
        }
        let (at, node) = (world.now(), node_id("node_a"));
        let operation = Operation::SettleDependents { ended };
        world.apply(&Command { at, node, idempotency: None, by: None, operation }).reply.expect("done");
    }
    panic!("there is no end to it");
}

proptest! {
    #[test]
    fn no_claim_takes_more_than_a_concurrency_key_allows(steps in steps()) {
        play(&steps, |turn| {
            if turn.is_merge() {
                return Ok(());
            }
            let mut running = running(&turn.before.0);
            for effect in &turn.outcome.effects {
                let Effect::LeaseHeld { job, .. } = effect else { continue };
                let job = &turn.before.0.active[job];
                prop_assert!(has_turn(&running, job), "{} is one too many", job.id);
                if let Some(turn) = job.turn() {
                    *running.entry(turn.key).or_default() += 1;
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn no_job_is_claimed_before_all_that_it_depends_on_were_completed(steps in steps()) {
        let mut completed = BTreeSet::new();
        play(&steps, |turn| {
            // What another mesh has handed out is taken over as it is.
            let had_lease = |job: &Job| turn.before.0.active.get(&job.id).is_some_and(|j| j.lease().is_some());
            for change in &turn.outcome.changes {
                let Change::Job(job) = change else { continue };
                if matches!(&job.phase, Phase::Ended(ended) if ended.status == EndStatus::Completed) {
                    completed.insert(job.id.clone());
                }
                if job.lease().is_some() && !had_lease(job) && !turn.is_merge() {
                    let all = job.links().map(|links| links.depends_on.clone()).unwrap_or_default();
                    let missing: Vec<_> = all.iter().filter(|id| !completed.contains(id)).collect();
                    prop_assert!(missing.is_empty(), "{} was claimed before {missing:?}", job.id);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn who_waits_waits_for_a_job_that_is_active_or_that_a_command_will_tell_of(steps in steps()) {
        play(&steps, |turn| {
            let state = &turn.after.state;
            let queued = || state.active_jobs().filter(|job| job.phase == Phase::Queued);
            let told: BTreeSet<_> = state.unsettled().collect();
            let waited_for: BTreeSet<_> = queued().flat_map(|job| job.waits_for()).collect();
            let gone: BTreeSet<_> = waited_for.into_iter().filter(|id| state.job(id).is_none()).collect();
            prop_assert_eq!(told, gone);
            let waiting: BTreeSet<_> =
                queued().flat_map(|job| job.waits_for().iter().map(move |on| (&job.id, on))).collect();
            prop_assert_eq!(state.dependents.all().collect::<BTreeSet<_>>(), waiting);
            Ok(())
        })?;
    }

    #[test]
    fn once_all_are_told_nobody_waits_for_what_has_ended(steps in steps()) {
        let mut world = World::default();
        for command in commands(&steps) {
            world.apply(&command);
        }
        let completed = |world: &World, id: &JobId| world.records.jobs.get(id).is_some_and(|job| {
            matches!(&job.phase, Phase::Ended(ended) if ended.status == EndStatus::Completed)
        });
        settle_all(&mut world);
        let queued: Vec<_> = world.state.active_jobs().filter(|job| job.phase == Phase::Queued).cloned().collect();
        for job in queued {
            for on in job.waits_for() {
                prop_assert!(world.state.job(on).is_some(), "{} waits for {on} for ever", job.id);
                prop_assert!(!completed(&world, on));
            }
        }
    }

    #[test]
    fn what_is_in_the_queue_is_what_may_be_found(steps in steps()) {
        play(&steps, |turn| {
            let (memory, state) = (Memory::of(&turn.after.state), &turn.after.state);
            let found: BTreeSet<_> = state.queue.jobs().into_iter().collect();
            let model: BTreeSet<_> =
                memory.active.values().filter(|job| is_found(&memory, job)).map(|job| &job.id).collect();
            prop_assert_eq!(found, model);
            let running: BTreeMap<_, _> = running(&memory);
            let counted: BTreeMap<_, _> =
                state.lanes.all_running().into_iter().map(|(key, n)| (key.clone(), n)).collect();
            prop_assert_eq!(counted, running);
            Ok(())
        })?;
    }

    #[test]
    fn there_is_no_second_job_with_a_unique_key(steps in steps()) {
        play(&steps, |turn| {
            let Operation::Enqueue { id, links: Some(links), submitted_by, .. } = &turn.command.operation else {
                return Ok(());
            };
            let Some(key) = &links.unique_key else { return Ok(()) };
            let key = Some(OwnedKey::new(key, submitted_by.as_ref()));
            let holder = turn.before.0.active.values().filter(|job| job.unique_key() == key).min_by_key(|j| j.seq);
            let is_new = turn.outcome.changes.iter().any(|change| matches!(change, Change::Job(_)));
            match holder {
                Some(holder) if holder.id != *id => {
                    prop_assert!(!is_new, "{id} is a second one");
                    if turn.command.idempotency.is_none() && !turn.before.1.jobs.contains_key(id) {
                        prop_assert_eq!(&turn.outcome.reply, &Ok(Reply::Existing(Arc::clone(holder))));
                    }
                }
                _ => {}
            }
            let active: BTreeSet<_> =
                turn.after.state.active_jobs().filter(|job| job.unique_key().is_some()).map(|j| &j.id).collect();
            prop_assert_eq!(turn.after.state.unique.jobs().collect::<BTreeSet<_>>(), active);
            Ok(())
        })?;
    }

    #[test]
    fn an_explanation_is_given_for_every_job_and_only_queued_ones_have_reasons(steps in steps()) {
        play(&steps, |turn| {
            for job in turn.after.state.active_jobs() {
                let told = turn.after.state.explain(job);
                prop_assert_eq!(told.reasons.is_empty(), job.phase != Phase::Queued, "{:?}", told);
            }
            Ok(())
        })?;
    }
}
