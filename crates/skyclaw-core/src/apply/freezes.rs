//! The switch that stops everything: freezing, thawing, and what is frozen.
//!
//! Queued jobs that only some freezes cover are taken out of the queue, so that a claim never has to look past
//! them: it costs what it costs without. That takes a look at every queued job when such a freeze begins or
//! ends, and at no other time.

use std::sync::Arc;

use skyclaw_proto::limits::MAX_FREEZES;
use skyclaw_proto::{AssignmentStatus, FreezeId, JobId, Scope};

use super::Draft;
use crate::freeze::{Freeze, KEPT_FREEZES, Thawed};
use crate::model::{Job, Phase, Service};
use crate::outcome::{Change, Effect, Refusal, Reply};
use crate::state::State;

impl State {
    /// The freezes in force and the newest of those that are over, oldest first.
    #[must_use]
    pub fn freezes(&self) -> &[Arc<Freeze>] {
        &self.freezes
    }

    /// With what is known of freezes, oldest first.
    #[must_use]
    pub fn with_freezes(mut self, freezes: impl IntoIterator<Item = Arc<Freeze>>) -> Self {
        self.freezes = freezes.into_iter().collect();
        self.in_force = self.freezes.iter().filter(|freeze| freeze.is_in_force()).cloned().collect();
        self.withhold();
        self
    }

    /// The freeze that covers a job, if one does.
    #[must_use]
    pub fn freeze_of(&self, job: &Job) -> Option<&Arc<Freeze>> {
        self.in_force.iter().find(|freeze| freeze.scope.covers(&job.labels, job.agent()))
    }

    /// The freeze that covers a service, if one does.
    #[must_use]
    pub fn freeze_of_service(&self, service: &Service) -> Option<&Arc<Freeze>> {
        self.in_force.iter().find(|freeze| freeze.scope.covers(&service.labels, service.agent.as_ref()))
    }

    /// Whether any freeze is in force.
    #[must_use]
    pub fn is_any_frozen(&self) -> bool {
        !self.in_force.is_empty()
    }

    /// Whether everything is frozen.
    pub(crate) fn is_all_frozen(&self) -> bool {
        self.in_force.iter().any(|freeze| freeze.scope.is_all())
    }

    /// Whether a queued job has no place in the queue. Where everything is frozen nobody looks there anyway.
    pub(crate) fn is_withheld(&self, job: &Job) -> bool {
        let covers =
            |freeze: &Arc<Freeze>| !freeze.scope.is_all() && freeze.scope.covers(&job.labels, job.agent());
        self.in_force.iter().any(covers)
    }

    /// Takes queued jobs that are withheld by now out of the queue.
    fn withhold(&mut self) {
        if self.in_force.iter().all(|freeze| freeze.scope.is_all()) {
            return;
        }
        let queued = self.jobs.values().filter(|job| matches!(job.phase, Phase::Queued));
        let withheld: Vec<JobId> =
            queued.filter(|job| self.is_withheld(job)).map(|job| job.id.clone()).collect();
        for id in withheld {
            self.stand_anew(&id);
        }
    }

    /// Puts withheld jobs that are not any more back into the queue.
    fn release(&mut self) {
        let is_free = |id: &_| self.jobs.get(id).is_some_and(|job| !self.is_withheld(job));
        let free: Vec<_> = self.waiting.frozen().filter(|id| is_free(*id)).cloned().collect();
        for id in free {
            self.stand_anew(&id);
        }
    }
}

impl Draft<'_> {
    /// Freezing again what is frozen is the same freeze.
    pub(super) fn freeze(
        &mut self,
        id: &FreezeId,
        scope: &Scope,
        reason: Option<&String>,
        by: Option<&String>,
    ) -> Result<Reply, Refusal> {
        let known = self.state.freezes.iter().find(|known| known.id == *id);
        let known = known.or_else(|| self.state.in_force.iter().find(|known| known.scope == *scope));
        if let Some(known) = known {
            return Ok(Reply::Freeze(Arc::clone(known)));
        }
        if self.state.in_force.len() >= MAX_FREEZES {
            return Err(Refusal::TooManyFreezes);
        }
        let freeze = Arc::new(Freeze {
            number: self.state.freezes.last().map_or(1, |last| last.number + 1),
            id: id.clone(),
            scope: scope.clone(),
            at: self.stamp.at,
            node: self.stamp.node.clone(),
            reason: reason.cloned(),
            by: by.cloned(),
            thawed: None,
        });
        self.state.freezes.push(Arc::clone(&freeze));
        self.state.in_force.push(Arc::clone(&freeze));
        self.state.withhold();
        self.changes.push(Change::Freeze(Arc::clone(&freeze)));
        self.stop_what_runs(&freeze);
        Ok(Reply::Freeze(freeze))
    }

    /// Has the hosts of what a freeze covers look at what they have to stop.
    fn stop_what_runs(&mut self, freeze: &Freeze) {
        let covered = |job: &Job| freeze.scope.covers(&job.labels, job.agent());
        let running: Vec<Arc<Job>> =
            self.state.leased().map(|(job, _)| job).filter(|job| covered(job)).cloned().collect();
        for job in running {
            let mut told = (*job).clone();
            told.remember(self.event("frozen", freeze.described()));
            let job = self.put_job(told);
            if let Some(lease) = job.lease() {
                self.effects.push(Effect::StopRun { job: job.id.clone(), host: lease.host.clone() });
            }
        }
        let services = self.state.services.values();
        let services = services.filter(|s| freeze.scope.covers(&s.labels, s.agent.as_ref()));
        let live = services.flat_map(|s| &s.assignments).filter(|a| a.status != AssignmentStatus::Failed);
        self.effects.extend(live.map(|a| Effect::TellHost { host: a.host.clone() }));
    }

    /// Thawing again what is thawed changes nothing.
    pub(super) fn thaw(&mut self, id: &FreezeId, by: Option<&String>) -> Result<Reply, Refusal> {
        let place = self.state.freezes.iter().position(|freeze| freeze.id == *id);
        let place = place.ok_or_else(|| Refusal::UnknownFreeze(id.clone()))?;
        let known = &self.state.freezes[place];
        if !known.is_in_force() {
            return Ok(Reply::Freeze(Arc::clone(known)));
        }
        let thawed = Some(Thawed { at: self.stamp.at, by: by.cloned() });
        let over = Arc::new(Freeze { thawed, ..(**known).clone() });
        self.state.freezes[place] = Arc::clone(&over);
        self.state.in_force.retain(|freeze| freeze.id != *id);
        self.state.release();
        self.changes.push(Change::Freeze(Arc::clone(&over)));
        self.forget_old_freezes();
        self.effects.push(Effect::ClaimsReleased);
        Ok(Reply::Freeze(over))
    }

    fn forget_old_freezes(&mut self) {
        let over = self.state.freezes.iter().filter(|freeze| !freeze.is_in_force());
        let numbers: Vec<u64> = over.map(|freeze| freeze.number).collect();
        for number in numbers.iter().take(numbers.len().saturating_sub(KEPT_FREEZES)) {
            self.state.freezes.retain(|freeze| freeze.number != *number);
            self.changes.push(Change::ForgetFreeze(*number));
        }
    }
}
