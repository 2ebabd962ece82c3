//! What becomes of those who wait for a job that ended.
//!
//! A command that ends jobs tells those who wait for them, and those who wait for what ends by that, and so on:
//! [`SETTLED_AT_ONCE`] of them at most, so that it costs no more however many there are. What is left is found in
//! the state ([`State::unsettled`]), on every node and after every restart, and the leader has commands tell the
//! rest. Until then they wait on: nobody is told too early, and nobody is forgotten.

use std::sync::Arc;

use skyclaw_proto::{JobId, JobStatus, Links, OnDependencyFailure};

use super::Draft;
use crate::archive::Archive;
use crate::bonds::Bonds;
use crate::keys::{OwnedKey, public_caller};
use crate::model::{EndStatus, Ended, Job, Phase};
use crate::outcome::{Refusal, Reply};
use crate::state::State;

/// How many jobs one command tells that one they wait for has ended.
pub const SETTLED_AT_ONCE: usize = 256;

/// A job that has ended, and how; `None` when nobody knows it any more.
pub(super) type Settled = (JobId, Option<EndStatus>);

/// What comes of what a new job is to be tied to.
pub(super) enum Tied {
    /// An active job has its unique key.
    Existing(Arc<Job>),
    /// It is tied to these, and has ended at once if one of them has ended otherwise than completed.
    To(Arc<Bonds>, Option<Ended>),
}

impl State {
    /// The jobs that have ended and that others still wait for: a command must name them that tells those
    /// ([`SettleDependents`](crate::Operation::SettleDependents)).
    pub fn unsettled(&self) -> impl Iterator<Item = &JobId> {
        self.dependents.unsettled()
    }

    /// Whether a queued job waits for this one. As long as one does, the record must be kept, ended or not.
    #[must_use]
    pub fn has_dependents(&self, job: &JobId) -> bool {
        self.dependents.has(job)
    }
}

impl Draft<'_> {
    /// What a new job is tied to, or the job that stands for it.
    pub(super) fn tie(
        &self,
        links: &Arc<Links>,
        submitted_by: Option<&String>,
        archive: &impl Archive,
    ) -> Result<Tied, Refusal> {
        if let Some(key) = &links.unique_key {
            let holder = self.state.unique.holder(&OwnedKey::new(key, submitted_by));
            if let Some(job) = holder.and_then(|id| self.state.jobs.get(id)) {
                return Ok(Tied::Existing(Arc::clone(job)));
            }
        }
        let caller = public_caller(submitted_by);
        // To a public caller the jobs of others do not exist.
        let is_visible =
            |job: &Arc<Job>| caller.is_none() || public_caller(job.submitted_by.as_ref()) == caller;
        let mut waits_for = Vec::new();
        let mut end = None;
        for id in &links.depends_on {
            let job = self.known(id, archive).filter(is_visible);
            let job = job.ok_or_else(|| Refusal::UnknownDependency(id.clone()))?;
            let status = match &job.phase {
                Phase::Ended(ended) if ended.status == EndStatus::Completed => continue,
                Phase::Ended(ended) => Some(ended.status),
                Phase::Queued | Phase::Leased(_) | Phase::Lost(_) => None,
            };
            waits_for.push(id.clone());
            if let (Some(status), None) = (status, &end) {
                end = Some(end_of_dependent(links, id, Some(status)));
            }
        }
        Ok(Tied::To(Arc::new(Bonds { links: Arc::clone(links), waits_for }), end))
    }

    /// Tells those who wait for jobs that this command ended.
    pub(super) fn settle(&mut self) {
        let mut left = SETTLED_AT_ONCE;
        let mut next = 0;
        while let Some((ended, status)) = self.settling.get(next).cloned() {
            next += 1;
            while let Some(dependent) = self.state.dependents.first(&ended).cloned() {
                if left == 0 {
                    return;
                }
                left -= 1;
                self.dependency_ended(&dependent, &ended, status);
            }
        }
    }

    /// The leader found that these have ended and are still waited for. The telling itself follows every command.
    pub(super) fn settle_dependents(&mut self, ended: &[JobId], archive: &impl Archive) -> Reply {
        for id in ended.iter().filter(|id| self.state.has_dependents(id)) {
            // One that is active again is waited for again.
            if self.state.jobs.contains_key(id) {
                continue;
            }
            let status = archive.job(id).and_then(|job| match &job.phase {
                Phase::Ended(ended) => Some(ended.status),
                Phase::Queued | Phase::Leased(_) | Phase::Lost(_) => None,
            });
            self.settling.push((id.clone(), status));
        }
        Reply::Done
    }

    fn dependency_ended(&mut self, dependent: &JobId, ended: &JobId, status: Option<EndStatus>) {
        let Some(job) = self.state.jobs.get(dependent).cloned() else { return };
        let Some(bonds) = job.bonds.clone() else { return };
        if status == Some(EndStatus::Completed) {
            let waits_for = bonds.waits_for.iter().filter(|id| *id != ended).cloned().collect();
            let bonds = Some(Arc::new(Bonds { links: Arc::clone(&bonds.links), waits_for }));
            self.put_job(Job { bonds, ..(*job).clone() });
            return;
        }
        self.end(&job, end_of_dependent(&bonds.links, ended, status));
    }
}

/// How a job ends when one that it depends on did not complete.
fn end_of_dependent(links: &Links, dependency: &JobId, status: Option<EndStatus>) -> Ended {
    let became = status.map_or("is not known any more", |status| match JobStatus::from(status) {
        JobStatus::Failed => "has failed",
        JobStatus::Cancelled => "was cancelled",
        JobStatus::Expired => "has expired",
        JobStatus::Completed | JobStatus::Queued | JobStatus::Leased | JobStatus::Lost => "has ended",
    });
    let status = match links.on_dependency_failure {
        OnDependencyFailure::Fail => EndStatus::Failed,
        OnDependencyFailure::Skip => EndStatus::Cancelled,
    };
    let error = Some(format!("job {dependency}, which it depends on, {became}"));
    Ended { status, host: None, run: None, error }
}
