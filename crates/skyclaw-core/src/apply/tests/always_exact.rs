//! The same commands always give the same, whoever applies them, whenever, and however often.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use skyclaw_proto::HostId;

use super::always_tied::is_found;
use super::generate::{commands, play, steps};
use super::kit::{Memory, World, job_id, lease_of};
use crate::command::{Command, Operation};
use crate::model::Job;
use crate::outcome::{Effect, Reply};

fn assert_held(world: &World, host: &HostId, jobs: &[Arc<Job>]) -> Result<(), TestCaseError> {
    for job in jobs {
        let now = world.state.job(&job.id).filter(|now| now.fence == job.fence);
        prop_assert_eq!(now.and_then(|now| now.lease()).map(|lease| &lease.host), Some(host), "{}", &job.id);
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_replay_gives_the_same_state_and_answers(steps in steps()) {
        let (mut one, mut other) = (World::default(), World::default());
        for command in commands(&steps) {
            prop_assert_eq!(one.apply(&command), other.apply(&command));
        }
        prop_assert_eq!(Memory::of(&one.state), Memory::of(&other.state));
        prop_assert_eq!(one.records, other.records);
    }

    #[test]
    fn a_restart_at_any_point_makes_no_difference(steps in steps(), at in any::<prop::sample::Index>()) {
        let (mut one, mut other) = (World::default(), World::default());
        let commands = commands(&steps);
        let restart = at.index(commands.len() + 1);
        for (n, command) in commands.iter().enumerate() {
            if n == restart {
                other.restart();
            }
            prop_assert_eq!(one.apply(command), other.apply(command), "command {}: {:?}", n, command);
        }
        prop_assert_eq!(Memory::of(&one.state), Memory::of(&other.state));
        prop_assert_eq!(one.records, other.records);
    }

    #[test]
    fn the_changes_describe_the_state_completely(steps in steps()) {
        play(&steps, |turn| {
            let (memory, records) = (Memory::of(&turn.after.state), &turn.after.records);
            prop_assert_eq!(&memory.hosts, &records.hosts);
            let active: BTreeMap<_, _> =
                records.active_jobs().map(|job| (job.id.clone(), Arc::clone(job))).collect();
            prop_assert_eq!(&memory.active, &active);
            let mut services: Vec<_> = records.services.values().cloned().collect();
            services.sort_by_key(|service| service.seq);
            prop_assert_eq!(&memory.services, &services);
            if turn.outcome.changes.is_empty() {
                prop_assert_eq!(memory.counters, turn.before.0.counters, "nothing to write, nothing new");
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_command_with_a_key_given_twice_is_one(steps in steps()) {
        play(&steps, |turn| {
            let (Some(_), Ok(reply)) = (&turn.command.idempotency, &turn.outcome.reply) else { return Ok(()) };
            let after = (Memory::of(&turn.after.state), turn.after.records.clone());
            let mut again = turn.command.clone();
            // Another coordinator would make another id for it.
            if let Operation::Enqueue { id, .. } = &mut again.operation {
                *id = job_id("another");
            }
            if let Operation::Freeze { id, .. } = &mut again.operation {
                *id = super::kit::freeze_id("another");
            }
            let second = turn.after.apply(&again);
            prop_assert_eq!(second.reply.as_ref(), Ok(reply));
            prop_assert_eq!(&second.changes, &[]);
            prop_assert_eq!(&second.effects, &[]);
            prop_assert_eq!(after, (Memory::of(&turn.after.state), turn.after.records.clone()));
            Ok(())
        })?;
    }

    #[test]
    fn a_claim_never_hands_out_a_lease_that_is_over(steps in steps()) {
        play(&steps, |turn| {
            let Operation::Claim { host, .. } = &turn.command.operation else { return Ok(()) };
            let Ok(Reply::Claimed(jobs)) = &turn.outcome.reply else { return Ok(()) };
            assert_held(turn.after, host, jobs)?;
            // One of them runs out, and the host, which lost the answer, asks again.
            let Some(first) = jobs.first() else { return Ok(()) };
            let expired = Operation::ExpireLeases { leases: vec![lease_of(first)] };
            turn.after.apply(&Command { idempotency: None, operation: expired, ..turn.command.clone() });
            let again = turn.after.apply(turn.command).reply;
            let Ok(Reply::Claimed(jobs)) = again else { panic!("not a claim: {again:?}") };
            assert_held(turn.after, host, &jobs)
        })?;
    }

    #[test]
    fn the_effects_tell_which_leases_are_held_and_what_waits(steps in steps()) {
        let mut held = BTreeMap::new();
        play(&steps, |turn| {
            let (mut woken, mut turns) = (Vec::new(), Vec::new());
            for effect in &turn.outcome.effects {
                match effect {
                    Effect::LeaseHeld { job, fence, host } => {
                        held.insert(job.clone(), (*fence, host.clone()));
                    }
                    Effect::LeaseOver { job } => drop(held.remove(job)),
                    Effect::JobQueued { required } => woken.push(required),
                    Effect::TurnCame { turn } => turns.push(turn.clone()),
                    _ => {}
                }
            }
            let leased = turn.after.state.leased();
            let want: BTreeMap<_, _> =
                leased.map(|(job, lease)| (job.id.clone(), (job.fence, lease.host.clone()))).collect();
            prop_assert_eq!(&held, &want);
            let released = turn.outcome.effects.contains(&Effect::ClaimsReleased);
            let (before, after) = (&turn.before.0, Memory::of(&turn.after.state));
            for job in after.active.values().filter(|job| !released && is_found(&after, job)) {
                let waited = before.active.get(&job.id).is_some_and(|then| is_found(before, then));
                let is_told = woken.contains(&&job.needs()) || job.turn().is_some_and(|turn| turns.contains(&turn));
                prop_assert!(waited || is_told, "nobody is woken for {}", job.id);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_merge_given_twice_adopts_nothing_the_second_time(steps in steps()) {
        play(&steps, |turn| {
            // One that was answered from its key did nothing, and what it adopted then may be forgotten by now.
            let is_repeated = turn.outcome.changes.is_empty() && turn.outcome.reply == Ok(Reply::Merged(true));
            if turn.is_merge() && turn.outcome.reply.is_ok() && !is_repeated {
                let again = Command { idempotency: None, ..turn.command.clone() };
                let second = turn.after.apply(&again);
                prop_assert_eq!(second.reply, Ok(Reply::Merged(false)));
                prop_assert_eq!(&second.changes, &[]);
            }
            Ok(())
        })?;
    }
}
