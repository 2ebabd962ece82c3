//! Where a queued job stands: in the queue, where claims find it, or outside, and why.
//!
//! ```text
//!                    ┌─ none ──► queue: claims find it
//!  job ─► reasons ───┤     (of those with a concurrency key only who has its turn: [`crate::lanes`])
//!                    └─ the first of them ──► waiting, under this reason
//! ```
//!
//! The reasons follow from the job's record and from what else is in force, and from nothing but that: not
//! from the time, nor from how it came to be so. So a job that is loaded after a restart, brought back by a
//! snapshot or taken over from another mesh stands where it stood. A job waits under the first of its reasons
//! alone; who ends a reason asks [`State::stand_anew`] about those that wait under it.

use std::collections::BTreeMap;

use skyclaw_proto::{JobId, Timestamp};

use crate::by_id::{ById, Ids};
use crate::model::{Job, Phase};
use crate::state::State;

/// Why a queued job is not to be claimed, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its time has not come: it is for later, or was tried in vain and is tried again later.
    NotBefore(Timestamp),
    /// It depends on jobs that are not known to be completed.
    Dependencies,
    /// A freeze covers it.
    Frozen,
}

/// The queued jobs that are not in the queue.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    under: ById<JobId, Reason>,
    /// Those of them that wait as they are frozen.
    frozen: Ids<JobId>,
}

/// When there is something to do about a queued job, in this order; a job is there once at most.
pub(crate) type Due = BTreeMap<(Timestamp, u64), JobId>;

impl Waiting {
    /// Why a job waits.
    pub(crate) fn reason(&self, id: &JobId) -> Option<Reason> {
        self.under.get(id).copied()
    }

    /// Those that are frozen.
    pub(crate) fn frozen(&self) -> impl Iterator<Item = &JobId> {
        self.frozen.iter()
    }

    /// All of them, in no order.
    #[cfg(test)]
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &JobId> {
        self.under.keys()
    }

    fn insert(&mut self, id: &JobId, reason: Reason) {
        self.under.insert(id.clone(), reason);
        match reason {
            Reason::Frozen => drop(self.frozen.insert(id.clone())),
            // These are found by their time, or by what they wait for.
            Reason::NotBefore(_) | Reason::Dependencies => {}
        }
    }

    /// Takes a job out; false when it is not there.
    fn remove(&mut self, id: &JobId) -> bool {
        // Most of the time nobody waits here, and no id has to be hashed to see that.
        if self.under.is_empty() {
            return false;
        }
        match self.under.remove(id) {
            Some(Reason::Frozen) => self.frozen.remove(id),
            Some(Reason::NotBefore(_) | Reason::Dependencies) => true,
            None => false,
        }
    }
}

impl State {
    /// Why a queued job is not to be claimed; nothing, when it is in the queue. What holds back all claims
    /// whatsoever, as a freeze of everything does, is no reason of one job.
    pub fn reasons(&self, job: &Job) -> impl Iterator<Item = Reason> {
        let later = job.life.as_ref().and_then(|life| life.claimable_at).map(Reason::NotBefore);
        let dependencies = (!job.waits_for().is_empty()).then_some(Reason::Dependencies);
        let frozen = self.is_withheld(job).then_some(Reason::Frozen);
        later.into_iter().chain(dependencies).chain(frozen)
    }

    /// The reason under which a queued job waits; `None` when it can be claimed.
    pub(crate) fn standing(&self, job: &Job) -> Option<Reason> {
        self.reasons(job).next()
    }

    /// Puts a queued job where it stands. True when it can be claimed.
    pub(crate) fn stand(&mut self, job: &Job) -> bool {
        if let Some(at) = job.due() {
            self.due.insert((at, job.seq), job.id.clone());
        }
        let on = job.waits_for();
        if !on.is_empty() {
            let jobs = &self.jobs;
            self.dependents.wait(&job.id, job.seq, on, |id| jobs.contains_key(id));
        }
        match self.standing(job) {
            None => match job.turn() {
                None => {
                    self.queue.insert(job);
                    true
                }
                // Whether it is in the queue now, and somebody is to be woken for it, its lane knows.
                Some(turn) => {
                    self.lanes.enter(&mut self.queue, &turn, job);
                    false
                }
            },
            Some(reason) => {
                self.waiting.insert(&job.id, reason);
                false
            }
        }
    }

    /// Takes a job that was queued from where it stood.
    pub(crate) fn leave(&mut self, job: &Job) {
        if let Some(at) = job.due() {
            self.due.remove(&(at, job.seq));
        }
        if !job.waits_for().is_empty() {
            self.dependents.leave(job.seq, job.waits_for());
        }
        if self.waiting.remove(&job.id) {
            return;
        }
        match job.turn() {
            None => self.queue.remove(job),
            Some(turn) => self.lanes.leave(&mut self.queue, &turn, job),
        }
    }

    /// Puts a job elsewhere if it does not stand any more where it is. True when it can be claimed and could
    /// not before.
    pub(crate) fn stand_anew(&mut self, id: &JobId) -> bool {
        let Some(job) = self.jobs.get(id).filter(|job| matches!(job.phase, Phase::Queued)).cloned() else {
            return false;
        };
        let (before, now) = (self.waiting.reason(id), self.standing(&job));
        if before == now {
            return false;
        }
        self.leave(&job);
        self.stand(&job)
    }
}

impl Job {
    /// When there is something to do about it, as long as it is queued.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.life.as_ref()?.due()
    }
}
