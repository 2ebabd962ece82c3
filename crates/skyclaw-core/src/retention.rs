//! How long jobs that have ended are remembered.
//!
//! What is pruned is decided by the leader, whose settings count, and named job by job in a command
//! ([`PruneJobs`]), so every node forgets the same. The state machine sees to it that nothing goes which is not
//! over, or which others need: see [`Kept`].
//!
//! A record that is gone must not come back as work. Ids that coordinators make are never made again; what another
//! mesh sends is looked at by [`State::was_pruned`], and jobs that it may send again as not done are remembered
//! for good ([`Job::prunable`]).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skyclaw_proto::{JobId, JobStatus, Timestamp, record};
use uuid::Uuid;

use crate::model::Job;
use crate::state::{Counters, State};

/// A command to forget jobs that have ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneJobs {
    /// Which.
    pub jobs: Vec<Expendable>,
    /// Why.
    pub why: WhyPruned,
    /// All that ended by then, and ask for no time of their own, are pruned with these, but for what must be kept;
    /// `None` when these ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<Timestamp>,
}

/// A job that may be forgotten, as the leader found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expendable {
    /// The job.
    pub id: JobId,
    /// When it ended. One that was queued again since, and has ended anew, is another matter.
    pub ended_at: Timestamp,
}

/// Why jobs are pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyPruned {
    /// They ended long enough ago.
    Age,
    /// There are more than are to be kept.
    Count,
    /// The time they asked for themselves is over.
    Own,
}

impl WhyPruned {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Age, Self::Count, Self::Own];

    /// As one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Count => "count",
            Self::Own => "own",
        }
    }

    /// For people.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Age => "they were kept long enough",
            Self::Count => "there were more than are to be kept",
            Self::Own => "the time they asked for was over",
        }
    }
}

/// Jobs that are no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// Their ids and places in the order of enqueueing, in that order; never none.
    pub jobs: Vec<(JobId, u64)>,
    /// Why.
    pub why: WhyPruned,
    /// When the first of them ended.
    pub first: Timestamp,
    /// When the last of them did.
    pub last: Timestamp,
}

impl Pruned {
    pub(crate) fn described(&self) -> String {
        let (count, why) = (self.jobs.len(), self.why.sentence());
        format!("{count} jobs that ended from {} to {}: {why}", self.first, self.last)
    }
}

/// Where the record of a job lies that has ended and may be forgotten some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedJob {
    /// Its place in the order of enqueueing.
    pub seq: u64,
    /// When it ended.
    pub at: Timestamp,
}

impl EndedJob {
    /// That of a job; `None` when it is not to be forgotten.
    #[must_use]
    pub fn of(job: &Job) -> Option<Self> {
        job.prunable().map(|(at, _)| Self { seq: job.seq, at })
    }
}

impl Job {
    /// When it ended, if it may be forgotten some time, and until when it asks to be kept, if it does.
    ///
    /// When it ended is when the record last changed, which for one of another mesh is what that says.
    ///
    /// One that another mesh has sent as queued, leased or lost is not forgotten: that mesh may send it so again
    /// at any time, and nothing but the record tells that it was done. There are no more of these than other
    /// meshes had jobs that waited when they were moved over.
    #[must_use]
    pub fn prunable(&self) -> Option<(Timestamp, Option<Timestamp>)> {
        let life = self.life.as_deref();
        if !self.is_ended() || life.is_some_and(|life| life.adopted) {
            return None;
        }
        let retain = life.and_then(|life| life.plan.retain_ms).map(Duration::from_millis);
        Some((self.updated_at, retain.map(|retain| self.updated_at.plus(retain))))
    }

    /// Takes note that another mesh has it, or had it, as not ended.
    pub(crate) fn keep_for_good(&mut self) {
        Arc::make_mut(self.life.get_or_insert_default()).adopted = true;
    }

    pub(crate) fn is_kept_for_good(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.adopted)
    }
}

/// Jobs that must be kept, ended or not.
#[derive(Debug)]
pub struct Kept<'a> {
    state: &'a State,
    /// The last job of each schedule, which its record names.
    last: HashSet<&'a JobId>,
}

impl State {
    /// What must be kept now.
    #[must_use]
    pub fn kept(&self) -> Kept<'_> {
        let last = self.schedules.values().filter_map(|schedule| Some(&schedule.last.as_ref()?.job));
        Kept { state: self, last: last.collect() }
    }

    /// Whether a job that another mesh sends, and that is not known here, is one that was known and was pruned, or
    /// would be at once.
    ///
    /// Of what has ended the time it did is enough to tell. What has not may be real work, however old it is: of
    /// that only jobs with an id that a coordinator of ours made can have been here without being kept for good.
    pub(crate) fn was_pruned(&self, job: &record::Job, now: Timestamp) -> bool {
        let Counters { pruned_to, own_pruned_to, .. } = self.counters;
        let by_now = |up_to: Option<Timestamp>| up_to.is_some_and(|up_to| job.updated_at <= up_to);
        match job.status {
            JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled | JobStatus::Expired => {
                match job.retain_ms {
                    Some(retain) => job.updated_at.plus(Duration::from_millis(retain)) <= now,
                    None => by_now(pruned_to),
                }
            }
            JobStatus::Queued | JobStatus::Leased | JobStatus::Lost => {
                let up_to = if job.retain_ms.is_some() { own_pruned_to } else { pruned_to };
                by_now(up_to) && is_of_our_making(&job.id)
            }
        }
    }
}

impl Kept<'_> {
    /// Whether a job must be kept: it has not ended, others wait for it, or it is the last of a schedule.
    #[must_use]
    pub fn has(&self, id: &JobId) -> bool {
        self.state.jobs.contains_key(id) || self.state.has_dependents(id) || self.last.contains(id)
    }
}

/// Whether an id is one as [`JobId::from_uuid`] writes it, of a UUID of version 7.
fn is_of_our_making(id: &JobId) -> bool {
    let uuid = id.as_str().strip_prefix(JobId::PREFIX).and_then(|text| Uuid::try_parse(text).ok());
    uuid.is_some_and(|uuid| uuid.get_version_num() == 7)
}
