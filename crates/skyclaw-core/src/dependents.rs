//! Who waits for which job.
//!
//! A queued job that depends on others waits until each of them is completed. Here is, for each job that
//! somebody waits for, who does, in the order of enqueueing. When it ends, those are told one after the other
//! ([`settle`](crate::Operation::SettleDependents)): some at once, and the rest, should there be very many, by
//! commands of the leader. A job that has ended and is still waited for is *unsettled*.
//!
//! All of this follows from the jobs themselves, so a node that starts anew has the same.

use std::collections::{BTreeMap, BTreeSet};

use skyclaw_proto::JobId;

use crate::by_id::ById;

/// Who waits for which job.
#[derive(Debug, Default)]
pub(crate) struct Dependents {
    /// By the job that is waited for: who waits, by their place in the order of enqueueing.
    waiting: ById<JobId, BTreeMap<u64, JobId>>,
    /// The jobs that are waited for and are not active, in an order that all nodes agree on.
    unsettled: BTreeSet<JobId>,
}

impl Dependents {
    /// A job waits for others. Those for which `is_active` does not hold are unsettled.
    pub(crate) fn wait(&mut self, job: &JobId, seq: u64, on: &[JobId], is_active: impl Fn(&JobId) -> bool) {
        for other in on {
            self.waiting.entry(other.clone()).or_default().insert(seq, job.clone());
            if !is_active(other) {
                self.unsettled.insert(other.clone());
            }
        }
    }

    /// A job waits for these no more.
    pub(crate) fn leave(&mut self, seq: u64, on: &[JobId]) {
        for other in on {
            let Some(waiting) = self.waiting.get_mut(other) else { continue };
            waiting.remove(&seq);
            if waiting.is_empty() {
                self.waiting.remove(other);
                self.unsettled.remove(other);
            }
        }
    }

    /// A job ended. True when somebody waits for it.
    pub(crate) fn ended(&mut self, job: &JobId) -> bool {
        // Most of the time nobody waits for anything.
        if self.waiting.is_empty() || !self.waiting.contains_key(job) {
            return false;
        }
        self.unsettled.insert(job.clone());
        true
    }

    /// A job is active, for the first time or again.
    pub(crate) fn is_active(&mut self, job: &JobId) {
        if !self.unsettled.is_empty() {
            self.unsettled.remove(job);
        }
    }

    /// The first that waits for a job.
    pub(crate) fn first(&self, job: &JobId) -> Option<&JobId> {
        self.waiting.get(job)?.first_key_value().map(|(_, id)| id)
    }

    /// Whether anybody waits for a job.
    pub(crate) fn has(&self, job: &JobId) -> bool {
        !self.waiting.is_empty() && self.waiting.contains_key(job)
    }

    /// The jobs that have ended and are still waited for.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = &JobId> {
        self.unsettled.iter()
    }

    /// All who wait, and for what.
    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = (&JobId, &JobId)> {
        self.waiting.iter().flat_map(|(on, waiting)| waiting.values().map(move |job| (job, on)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> JobId {
        JobId::parse(name).expect("an id")
    }

    fn unsettled(dependents: &Dependents) -> Vec<&str> {
        dependents.unsettled().map(JobId::as_str).collect()
    }

    #[test]
    fn those_who_wait_are_told_in_the_order_they_were_enqueued() {
        let mut dependents = Dependents::default();
        dependents.wait(&id("late"), 9, &[id("a")], |_| true);
        dependents.wait(&id("early"), 4, &[id("a"), id("b")], |_| true);
        assert!(dependents.ended(&id("a")));
        assert_eq!(dependents.first(&id("a")), Some(&id("early")));
        dependents.leave(4, &[id("a")]);
        assert_eq!(dependents.first(&id("a")), Some(&id("late")));
    }

    #[test]
    fn what_ended_is_unsettled_until_nobody_waits_for_it() {
        let mut dependents = Dependents::default();
        dependents.wait(&id("x"), 1, &[id("a"), id("b")], |other| *other == id("a"));
        assert_eq!(unsettled(&dependents), ["b"], "it was not active");
        assert!(!dependents.ended(&id("x")), "nobody waits for this one");
        assert!(dependents.ended(&id("a")));
        assert_eq!(unsettled(&dependents), ["a", "b"]);
        dependents.is_active(&id("b"));
        assert_eq!(unsettled(&dependents), ["a"], "one that is active again ends again");
        dependents.leave(1, &[id("a"), id("b")]);
        assert!(unsettled(&dependents).is_empty() && dependents.all().next().is_none());
        assert!(!dependents.has(&id("a")));
    }
}
