//! Leases, versions, tokens and ends: what no sequence of commands may break.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use skyclaw_proto::JobStatus;

use super::generate::{play, steps};
use crate::archive::Archive;
use crate::command::Operation;
use crate::model::{EndStatus, Phase};
use crate::outcome::{Change, Effect};

proptest! {
    #[test]
    fn a_job_never_has_two_leases(steps in steps()) {
        play(&steps, |turn| {
            let mut holders = BTreeMap::new();
            for (job, lease) in turn.after.state.leased() {
                let other = holders.insert(job.id.clone(), lease.host.clone());
                prop_assert!(other.is_none(), "{} is held by {other:?} and {}", job.id, lease.host);
            }
            if turn.is_merge() {
                return Ok(());
            }
            // Who holds a lease keeps it until it is over: no command hands it straight on.
            for job in turn.before.0.active.values() {
                let (Some(then), Some(now)) = (job.lease(), turn.after.state.job(&job.id)) else { continue };
                if let Some(lease) = now.lease() {
                    prop_assert_eq!((&lease.host, now.fence), (&then.host, job.fence));
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn active_leases_is_the_number_of_leases_held(steps in steps()) {
        play(&steps, |turn| {
            let state = &turn.after.state;
            for host in state.hosts() {
                let held = state.active_jobs().filter(|j| j.lease().is_some_and(|l| l.host == host.id)).count();
                prop_assert_eq!(host.active_leases as usize, held, "{}", host.id);
                prop_assert_eq!(state.leased_by(&host.id).count(), held);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_job_is_queued_leased_lost_or_ended_and_the_indexes_agree(steps in steps()) {
        play(&steps, |turn| {
            let state = &turn.after.state;
            let of = |is_in: fn(&Phase) -> bool| -> BTreeSet<_> {
                state.active_jobs().filter(|job| is_in(&job.phase)).map(|job| &job.id).collect()
            };
            let (queued, held) = (of(|p| matches!(p, Phase::Queued)), of(|p| matches!(p, Phase::Leased(_))));
            let queue = state.queue.jobs();
            prop_assert_eq!(queue.len(), state.in_queue());
            let all: BTreeSet<_> = queue.into_iter().chain(state.waiting.jobs()).chain(state.lanes.jobs()).collect();
            prop_assert_eq!(all, queued.clone());
            prop_assert_eq!(state.queued(), queued.len());
            for job in state.active_jobs().filter(|job| matches!(job.phase, Phase::Queued)) {
                prop_assert_eq!(state.waiting.reason(&job.id), state.reasons(job).next(), "{}", job.id);
            }
            let due = state.active_jobs().filter(|job| matches!(job.phase, Phase::Queued));
            let due: BTreeMap<_, _> =
                due.filter_map(|job| Some(((job.due()?, job.seq), job.id.clone()))).collect();
            prop_assert_eq!(&state.due, &due);
            let leased: Vec<_> = state.leases.values().flatten().collect();
            prop_assert_eq!(leased.iter().copied().collect::<BTreeSet<_>>(), held.clone());
            prop_assert_eq!(leased.len(), held.len());
            prop_assert!(state.leases.values().all(|jobs| !jobs.is_empty()));
            prop_assert!(state.active_jobs().all(|job| !job.is_ended()));
            for status in JobStatus::ALL {
                let counted = state.active_jobs().filter(|job| job.status() == *status).count() as u64;
                prop_assert_eq!(state.jobs_in(*status), counted, "{}", status);
            }
            let seqs: BTreeSet<_> = turn.after.records.jobs.values().map(|job| job.seq).collect();
            prop_assert_eq!(seqs.len(), turn.after.records.jobs.len(), "places are unique");
            Ok(())
        })?;
    }

    #[test]
    fn fencing_tokens_strictly_grow(steps in steps()) {
        let mut newest = 0;
        play(&steps, |turn| {
            for effect in &turn.outcome.effects {
                let Effect::LeaseHeld { fence, .. } = effect else { continue };
                prop_assert!(*fence > newest, "{fence} after {newest}");
                newest = newest.max(*fence);
            }
            // One that was pruned has none any more.
            let known = |id: &skyclaw_proto::JobId| turn.after.records.jobs.contains_key(id);
            for (id, job) in turn.before.1.jobs.iter().filter(|(id, _)| known(id)) {
                let now = turn.after.records.jobs.get(id).map(|job| job.fence);
                prop_assert!(now >= Some(job.fence), "{id}: {} then {now:?}", job.fence);
            }
            Ok(())
        })?;
    }

    #[test]
    fn versions_strictly_grow_and_a_merge_takes_only_what_is_newer(steps in steps()) {
        play(&steps, |turn| {
            let (_, old) = &turn.before;
            let mut seen = BTreeMap::new();
            for change in &turn.outcome.changes {
                let (id, then, now) = match change {
                    Change::Host(h) => (h.id.to_string(), old.hosts.get(&h.id).map(|r| r.version), h.version),
                    Change::Job(j) => (j.id.to_string(), old.jobs.get(&j.id).map(|r| r.version), j.version),
                    Change::Service(s) => {
                        (s.id.to_string(), old.services.get(&s.id).map(|r| r.version), s.version)
                    }
                    Change::Schedule(s) => {
                        (s.id.to_string(), old.schedules.get(&s.id).map(|r| r.version), s.version)
                    }
                    Change::Reply(_)
                    | Change::PruneReplies(_)
                    | Change::Stage(_)
                    | Change::DropStaged
                    | Change::Restore(_)
                    | Change::RemoveHost(_)
                    | Change::Freeze(_)
                    | Change::ForgetFreeze(_)
                    | Change::RemoveSchedule(_)
                    | Change::PruneJobs(_) => continue,
                };
                let then = seen.insert(id.clone(), now).or(then);
                // Of two adopted records with one version the later one wins; and who is heard of is no version.
                let may_stay = turn.is_merge() || matches!(turn.command.operation, Operation::NoteHosts { .. });
                let grows = then.is_none_or(|then| if may_stay { now >= then } else { now > then });
                prop_assert!(grows, "{id}: {then:?} then {now}");
                prop_assert!(now < turn.after.state.counters().next_version);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_refusal_changes_nothing(steps in steps()) {
        play(&steps, |turn| {
            if turn.outcome.reply.is_err() {
                prop_assert_eq!(&turn.outcome.changes, &[]);
                prop_assert_eq!(&turn.outcome.effects, &[]);
                let after = (super::kit::Memory::of(&turn.after.state), turn.after.records.clone());
                prop_assert_eq!(&turn.before, &after);
            }
            Ok(())
        })?;
    }

    #[test]
    fn an_ended_job_never_changes_but_by_a_merge_or_a_retry(steps in steps()) {
        play(&steps, |turn| {
            for change in &turn.outcome.changes {
                let Change::Job(job) = change else { continue };
                let had_ended = turn.before.1.job(&job.id).is_some();
                let is_retried = matches!(turn.command.operation, Operation::RetryJob { .. });
                let was_done = turn.before.1.job(&job.id).is_some_and(|then| then.status() == JobStatus::Completed);
                prop_assert!(turn.is_merge() || !had_ended || (is_retried && !was_done), "{} changed after its end", job.id);
            }
            Ok(())
        })?;
    }

    #[test]
    fn only_who_holds_a_lease_can_end_it_as_done(steps in steps()) {
        play(&steps, |turn| {
            let Operation::Complete(done) = &turn.command.operation else { return Ok(()) };
            if turn.outcome.changes.iter().any(|change| matches!(change, Change::Job(_))) {
                let then = &turn.before.0.active[&done.id];
                prop_assert_eq!(then.host(), Some(&done.host));
                prop_assert!(done.fence.is_none_or(|fence| fence == then.fence));
                let is_lost = matches!(then.phase, Phase::Lost(_));
                prop_assert!(then.lease().is_some() || (is_lost && done.fence.is_some()));
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_held_job_is_never_handed_out_again_unless_somebody_decides_so(steps in steps()) {
        // Claimed once, it is not claimed a second time before it was resolved; a merge makes it another job.
        let mut taken = BTreeSet::new();
        play(&steps, |turn| {
            for change in &turn.outcome.changes {
                if let Change::PruneJobs(pruned) = change {
                    // What is enqueued under the same id is another job.
                    pruned.jobs.iter().for_each(|(id, _)| {
                        taken.remove(id);
                    });
                }
                let Change::Job(job) = change else { continue };
                let decided = matches!(turn.command.operation, Operation::ResolveJob { .. }) || turn.is_merge();
                // A run that failed is over, and was not lost.
                let failed = matches!(turn.command.operation, Operation::RetryJob { .. })
                    || matches!(&turn.command.operation, Operation::Complete(done) if !done.success && done.stopped.is_none());
                if decided || failed || job.on_lost() != skyclaw_proto::OnLost::Hold {
                    taken.remove(&job.id);
                    continue;
                }
                if job.lease().is_some() && turn.before.0.active[&job.id].lease().is_none() {
                    prop_assert!(taken.insert(job.id.clone()), "{} was handed out twice", job.id);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn nothing_frozen_is_claimed_and_a_drained_host_claims_nothing(steps in steps()) {
        play(&steps, |turn| {
            let (memory, _) = &turn.before;
            for effect in &turn.outcome.effects {
                let Effect::LeaseHeld { job, host, .. } = effect else { continue };
                if turn.is_merge() {
                    continue;
                }
                let job = &memory.active[job];
                let frozen = memory.freezes.iter().any(|freeze| {
                    freeze.is_in_force() && freeze.scope.covers(&job.labels, job.agent())
                });
                prop_assert!(!frozen, "{} is frozen", job.id);
                prop_assert!(memory.hosts[host].drain().is_none(), "{host} is drained");
                prop_assert!(memory.hosts[host].offers().covers(&job.needs()), "{} asks for more", job.id);
            }
            Ok(())
        })?;
    }

    #[test]
    fn nothing_is_claimed_or_expires_before_its_time(steps in steps()) {
        let mut latest = skyclaw_proto::Timestamp::EPOCH;
        play(&steps, |turn| {
            latest = latest.max(turn.command.at);
            for change in &turn.outcome.changes {
                let Change::Job(job) = change else { continue };
                let Some(then) = turn.before.0.active.get(&job.id).and_then(|then| then.life.as_ref()) else {
                    continue;
                };
                if turn.is_merge() {
                    continue;
                }
                match &job.phase {
                    Phase::Leased(_) => {
                        prop_assert_eq!(then.claimable_at, None, "{} is claimed too early", job.id);
                        let not_before = then.plan.not_before.filter(|_| job.attempts == 1);
                        prop_assert!(not_before.is_none_or(|time| time <= latest));
                    }
                    Phase::Ended(ended) if ended.status == EndStatus::Expired => {
                        prop_assert!(then.expires_at.is_some_and(|time| time <= turn.command.at));
                        prop_assert!(job.fence == 0 || turn.before.1.jobs[&job.id].phase == Phase::Queued);
                    }
                    _ => {}
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn what_is_due_is_done_and_nothing_else_is(steps in steps()) {
        play(&steps, |turn| {
            let Operation::PassTime { most } = turn.command.operation else { return Ok(()) };
            let due = |job: &&std::sync::Arc<crate::Job>| {
                job.phase == Phase::Queued && job.due().is_some_and(|due| due <= turn.command.at)
            };
            let before: BTreeSet<_> = turn.before.0.active.values().filter(due).map(|job| &job.id).collect();
            let done: BTreeSet<_> = turn.outcome.changes.iter().filter_map(changed_job).collect();
            prop_assert!(done.intersection(&before).count() >= before.len().min(most as usize));
            // Who depends on a job that expires ends with it, whatever its own time.
            let tied = |id: &&&skyclaw_proto::JobId| {
                turn.before.0.active.get(**id).is_some_and(|job| !job.waits_for().is_empty())
            };
            let own: BTreeSet<_> = done.iter().filter(|id| !tied(id)).copied().collect();
            prop_assert!(own.is_subset(&before) && own.len() <= most as usize);
            Ok(())
        })?;
    }

    #[test]
    fn a_freeze_ends_by_a_thaw_alone(steps in steps()) {
        play(&steps, |turn| {
            let Operation::Thaw { .. } = turn.command.operation else {
                for freeze in turn.before.0.freezes.iter().filter(|freeze| freeze.is_in_force()) {
                    prop_assert!(turn.after.state.freezes().contains(freeze));
                }
                return Ok(());
            };
            Ok(())
        })?;
    }

    #[test]
    fn a_host_has_one_replica_of_a_service_and_no_more_than_asked_for_are_alive(steps in steps()) {
        play(&steps, |turn| {
            for service in turn.after.state.services() {
                let hosts: BTreeSet<_> = service.assignments.iter().map(|a| &a.host).collect();
                prop_assert_eq!(hosts.len(), service.assignments.len());
                let merged = service.updated_by != turn.command.node || turn.is_merge();
                let then = turn.before.1.services.get(&service.id).map_or(0, |s| live(s));
                let allowed = then.max(service.replicas as usize);
                let came_back = matches!(turn.command.operation, Operation::ReportService { .. });
                prop_assert!(merged || came_back || live(service) <= allowed);
            }
            Ok(())
        })?;
    }
}

fn changed_job(change: &Change) -> Option<&skyclaw_proto::JobId> {
    match change {
        Change::Job(job) => Some(&job.id),
        _ => None,
    }
}

fn live(service: &crate::model::Service) -> usize {
    service.assignments.iter().filter(|a| a.status != skyclaw_proto::AssignmentStatus::Failed).count()
}
