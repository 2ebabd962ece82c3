//! What the state machine must know of the past and does not hold in memory.

use std::sync::Arc;

use skyclaw_proto::{JobId, record};

use crate::command::{IdempotencyKey, Operation};
use crate::model::Job;
use crate::outcome::StoredReply;
use crate::retention::{EndedJob, Expendable};

/// Jobs that have ended and replies that were kept, as of the command before the one being applied.
///
/// Implementations must answer from exactly that state: an answer that depends on how far a node has
/// written its state down would make nodes differ.
pub trait Archive {
    /// A job that has ended. Asked for jobs the operation [names](Operation::named_jobs) only.
    fn job(&self, id: &JobId) -> Option<Arc<Job>>;
    /// Where a job lies that has ended and may be forgotten. Asked for jobs the operation
    /// [prunes](Operation::pruned_jobs) only.
    fn ended(&self, id: &JobId) -> Option<EndedJob>;
    /// The reply kept for a caller's key on a route, whatever the body was.
    fn reply(&self, key: &IdempotencyKey) -> Option<Arc<StoredReply>>;
}

impl Operation {
    /// The jobs that may have ended and that carrying this out may look up in the archive.
    pub fn named_jobs(&self) -> impl Iterator<Item = &JobId> {
        self.own_jobs().chain(self.other_jobs())
    }

    /// Those among them that it makes, or is about, under the ids it gives.
    pub fn own_jobs(&self) -> impl Iterator<Item = &JobId> {
        let (one, many): (Option<&JobId>, &[record::Job]) = match self.submission() {
            // A late copy of the command must not bring back a job that has ended since.
            Self::Enqueue { id, .. }
            | Self::Cancel { id }
            | Self::ResolveJob { id, .. }
            | Self::RetryJob { id, .. }
            | Self::TellEvents { id, .. } => (Some(id), &[]),
            Self::Complete(completion) => (Some(&completion.id), &[]),
            Self::Merge { jobs, .. } => (None, jobs),
            Self::RegisterHost { .. }
            | Self::SettleDependents { .. }
            | Self::Claim { .. }
            | Self::RenewLeases { .. }
            | Self::ExpireLeases { .. }
            | Self::DeployService { .. }
            | Self::ClaimService { .. }
            | Self::ReportService { .. }
            | Self::PruneReplies
            | Self::StageRestore(_)
            | Self::CancelRestore { .. }
            | Self::RollBack(_)
            | Self::ReleaseClaims { .. }
            | Self::Freeze { .. }
            | Self::Thaw { .. }
            | Self::DrainHost { .. }
            | Self::UndrainHost { .. }
            | Self::RemoveHost { .. }
            | Self::NoteHosts { .. }
            | Self::NoteSwitch { .. }
            | Self::PassTime { .. }
            | Self::CreateSchedule { .. }
            | Self::PauseSchedule { .. }
            | Self::ResumeSchedule { .. }
            | Self::DeleteSchedule { .. }
            | Self::FireSchedule(_)
            | Self::SubmitWaiting { .. }
            | Self::TriggerSchedule { .. }
            | Self::PruneJobs(_) => (None, &[]),
        };
        one.into_iter().chain(many.iter().map(|job| &job.id))
    }

    /// Those that it only needs to know of.
    pub fn other_jobs(&self) -> impl Iterator<Item = &JobId> {
        let others: &[JobId] = match self.submission() {
            Self::Enqueue { links: Some(links), .. } => &links.depends_on,
            Self::SettleDependents { ended } => ended,
            _ => &[],
        };
        others.iter()
    }

    /// Those that it forgets.
    pub fn pruned_jobs(&self) -> impl Iterator<Item = &JobId> {
        let jobs: &[Expendable] = match self {
            Self::PruneJobs(prune) => &prune.jobs,
            _ => &[],
        };
        jobs.iter().map(|job| &job.id)
    }
}

/// A past in which nothing happened.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoArchive;

impl Archive for NoArchive {
    fn job(&self, _id: &JobId) -> Option<Arc<Job>> {
        None
    }
    fn ended(&self, _id: &JobId) -> Option<EndedJob> {
        None
    }
    fn reply(&self, _key: &IdempotencyKey) -> Option<Arc<StoredReply>> {
        None
    }
}
