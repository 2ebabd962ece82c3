//! Who gets what, against a model that looks through everything.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use proptest::prelude::*;
use skyclaw_proto::JobId;

use super::always_tied::{has_turn, running, waits};
use super::generate::{Turn, ids, play, steps};
use crate::archive::Archive;
use crate::command::Operation;
use crate::model::Phase;
use crate::outcome::{Change, Reply};

/// The order in which jobs were first heard of. One that was forgotten is heard of anew when another has
/// its id.
#[derive(Default)]
struct Order {
    places: BTreeMap<JobId, usize>,
    heard_of: usize,
}

impl Order {
    fn note(&mut self, turn: &Turn<'_>) {
        for change in &turn.outcome.changes {
            match change {
                Change::Job(job) => {
                    self.places.entry(job.id.clone()).or_insert(self.heard_of);
                    self.heard_of += 1;
                }
                Change::PruneJobs(pruned) => {
                    for (id, _) in &pruned.jobs {
                        self.places.remove(id);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Whether a host is given nothing, by the cluster's operators or by its own.
fn is_held_back(host: &crate::model::Host) -> bool {
    host.drain().is_some() || host.frozen().is_some()
}

/// The jobs handed out by a claim that was not a repetition.
fn claimed<'a>(turn: &'a Turn<'_>) -> Option<(&'a Operation, Vec<&'a str>)> {
    let Ok(Reply::Claimed(jobs)) = &turn.outcome.reply else { return None };
    let is_new = turn.outcome.changes.iter().any(|change| matches!(change, Change::Job(_)));
    let known = turn.command.idempotency.as_ref().and_then(|key| turn.before.1.reply(key));
    let is_repeated = known.is_some_and(|stored| stored.key.expires_at > turn.command.at);
    (is_new || !is_repeated).then(|| (&turn.command.operation, ids(jobs)))
}

proptest! {
    #[test]
    fn a_claim_gives_what_a_search_through_all_jobs_would_find(steps in steps()) {
        let mut order = Order::default();
        play(&steps, |turn| {
            if let Some((Operation::Claim { host, max, .. }, got)) = claimed(&turn) {
                let (memory, _) = &turn.before;
                let host = &memory.hosts[host];
                let held = memory.active.values().filter(|j| j.lease().is_some_and(|l| l.host == host.id)).count();
                let room = (host.max_parallel as usize).saturating_sub(held).min(*max as usize);
                let mut fitting: Vec<_> = memory.active.values().cloned().collect();
                fitting.retain(|j| j.phase == Phase::Queued && host.offers().covers(&j.needs()));
                fitting.retain(|job| !is_held_back(host) && !waits(memory, job));
                fitting.sort_by_key(|job| (Reverse(job.priority), order.places[&job.id]));
                let (mut running, mut want) = (running(memory), Vec::new());
                while let Some(first) = fitting.iter().position(|job| has_turn(&running, job)) {
                    let job = fitting.remove(first);
                    if let Some(turn) = job.turn() {
                        *running.entry(turn.key).or_default() += 1;
                    }
                    want.push(job);
                }
                want.truncate(room);
                prop_assert_eq!(got, ids(&want));
            }
            order.note(&turn);
            Ok(())
        })?;
    }

    #[test]
    fn no_job_is_passed_over_for_one_of_lower_priority(steps in steps()) {
        play(&steps, |turn| {
            let Some((Operation::Claim { host, .. }, got)) = claimed(&turn) else { return Ok(()) };
            let job = |id: &str| &turn.before.0.active[&super::kit::job_id(id)];
            let Some(lowest) = got.iter().map(|id| job(id).priority).min() else { return Ok(()) };
            let offers = turn.before.0.hosts[host].offers();
            for left in turn.after.state.active_jobs().filter(|j| j.phase == Phase::Queued) {
                let after = super::kit::Memory::of(&turn.after.state);
                let free = !waits(&turn.before.0, left) && has_turn(&running(&after), left);
                let passed_over = free && offers.covers(&left.needs()) && left.priority > lowest;
                prop_assert!(!passed_over, "{} waits while {got:?} went", left.id);
            }
            Ok(())
        })?;
    }

    #[test]
    fn looking_first_tells_what_a_claim_would_find(steps in steps()) {
        play(&steps, |turn| {
            let hosts: Vec<_> = turn.after.state.hosts().cloned().collect();
            for host in hosts {
                let memory = super::kit::Memory::of(&turn.after.state);
                let everything = memory.freezes.iter().any(|f| f.is_in_force() && f.scope.is_all());
                let full = host.active_leases >= host.max_parallel || is_held_back(&host);
                let fits = turn.after.state.active_jobs().any(|job| {
                    job.phase == Phase::Queued
                        && host.offers().covers(&job.needs())
                        && !waits(&memory, job)
                        && has_turn(&running(&memory), job)
                });
                let want = match (full, fits) {
                    _ if everything => crate::Claimable::Nothing,
                    (true, _) => crate::Claimable::Full,
                    (false, true) => crate::Claimable::Yes,
                    (false, false) => crate::Claimable::Nothing,
                };
                prop_assert_eq!(turn.after.state.claimable(&host.id), want);
            }
            Ok(())
        })?;
    }
}
