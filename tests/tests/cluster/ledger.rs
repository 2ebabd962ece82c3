//! What the clients of a cluster were told, and whether the cluster stands by it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use skyclaw_tests::Value;
use skyclaw_tests::mesh::id;

/// A time in which a lease was certainly held.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) job: String,
    pub(super) host: String,
    pub(super) fence: u64,
    pub(super) from: Instant,
    pub(super) until: Instant,
}

/// What clients were told.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Marker and job.
    pub(super) enqueued: Vec<(String, String)>,
    pub(super) holds: Vec<Hold>,
    /// Job, fence and output.
    pub(super) completed: Vec<(String, u64, String)>,
    /// Completions that came too late.
    pub(super) refused: usize,
    /// Answers that said to try again.
    pub(super) unavailable: usize,
    /// Requests without an answer.
    pub(super) unanswered: usize,
}

impl Events {
    pub(super) fn extend(&mut self, other: Self) {
        self.enqueued.extend(other.enqueued);
        self.holds.extend(other.holds);
        self.completed.extend(other.completed);
        self.refused += other.refused;
        self.unavailable += other.unavailable;
        self.unanswered += other.unanswered;
    }

    pub(super) fn summary(&self) -> String {
        format!(
            "{} jobs, {} leases and {} completions acknowledged; {} completions refused, {} requests put off \
             and {} not answered",
            self.enqueued.len(),
            self.holds.len(),
            self.completed.len(),
            self.refused,
            self.unavailable,
            self.unanswered
        )
    }

    /// No two leases have the same fence, and a lease begins only when the one before it is over.
    pub(super) fn check_leases(&self) {
        let mut last: BTreeMap<&str, &Hold> = BTreeMap::new();
        let mut fences = BTreeMap::new();
        for hold in &self.holds {
            let before = fences.insert(hold.fence, hold);
            assert!(before.is_none(), "one fence for two leases: {hold:?} and {before:?}");
        }
        for hold in fences.into_values() {
            if let Some(before) = last.insert(&hold.job, hold) {
                let (one, other) = (&before.host, &hold.host);
                assert!(
                    before.until <= hold.from,
                    "leased to {one} and {other} at once: {before:?} and {hold:?}"
                );
            }
        }
    }

    /// The state holds what was acknowledged, all of it, and nothing else.
    pub(super) fn check_state(&self, state: &Value) {
        let mut asked_for: BTreeMap<&str, &str> = BTreeMap::new();
        for (marker, id) in &self.enqueued {
            assert_eq!(asked_for.insert(marker, id), None, "{marker} was acknowledged twice");
        }
        let mut done: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
        for (job, fence, stdout) in &self.completed {
            assert_eq!(done.insert(job, (*fence, stdout)), None, "{job} was completed twice");
        }
        let mut there = BTreeSet::new();
        for job in state["jobs"].as_array().expect("jobs") {
            let marker = job["submittedBy"].as_str().expect("a marker");
            assert!(there.insert(marker), "{marker} is there twice: {job}");
            assert_eq!(asked_for.get(marker), Some(&id(job).as_str()), "nobody was told of {job}");
            match done.get(id(job).as_str()) {
                Some((fence, stdout)) => {
                    assert_eq!(job["status"], "completed", "a completion was forgotten: {job}");
                    assert_eq!(job["result"]["stdout"], **stdout, "{job}");
                    assert_eq!(job["fence"], *fence, "leased again after its completion: {job}");
                }
                None => {
                    assert!(job["status"] == "queued" || job["status"] == "leased", "nobody did {job}");
                }
            }
        }
        let lost: Vec<_> = asked_for.keys().filter(|marker| !there.contains(*marker)).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
    }
}
