//! What submits jobs at the times that it names, as the state machine keeps it.
//!
//! The state machine knows nothing of calendars: nodes of different versions may know different rules about
//! time zones. Who proposes says which time comes next, and the state machine that a time is waited for: it is
//! dealt with once, however many leaders ask for it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skyclaw_proto::limits::MAX_SCHEDULE_EVENTS;
use skyclaw_proto::request::EnqueueJob;
use skyclaw_proto::{JobId, NodeId, Overlap, ScheduleId, Timestamp, record};

use crate::command::Operation;
use crate::history::Event;

/// What submits jobs at the times that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// What it was created as; this never changes.
    pub spec: Arc<ScheduleSpec>,
    /// That it submits nothing at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// The time it waits for; `None` while it is paused, and when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
    /// The time for which a job is submitted as soon as the last one has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Timestamp>,
    /// What it submitted last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Submission>,
    /// How many jobs it has submitted.
    #[serde(default)]
    pub submitted: u64,
    /// How many times passed without a job, as the last one had not ended or this one was refused.
    #[serde(default)]
    pub skipped: u64,
    /// How many times were missed and not made up for.
    #[serde(default)]
    pub missed: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The coordinator that last changed it.
    pub updated_by: NodeId,
    /// Grows with each change.
    pub version: u64,
    /// What happened to it lately beside submitting jobs, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
}

/// What a schedule is created as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleSpec {
    /// What people call it; no two have the same name, and none is called like an id.
    pub name: String,
    /// At which times: a cron expression.
    pub cron: String,
    /// The name of the zone those times are in.
    pub time_zone: String,
    /// What becomes of a time at which the last job has not ended.
    #[serde(default)]
    pub overlap: Overlap,
    /// How late it makes up for a time that was missed, in milliseconds.
    pub catch_up_ms: u64,
    /// What it submits: JSON as `POST /v1/jobs` takes it. Who proposes makes the job of it.
    pub job: Arc<str>,
}

/// That a schedule submits nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Since when.
    pub at: Timestamp,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who paused it, as they say themselves; `None` when a coordinator did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A job that a schedule submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// The time it was submitted for.
    pub at: Timestamp,
    /// The job.
    pub job: JobId,
}

/// Where a job of a schedule comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The schedule.
    pub schedule: ScheduleId,
    /// The time it was submitted for.
    pub at: Timestamp,
}

/// The time of a schedule that a leader found to be due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fire {
    /// The schedule.
    pub schedule: ScheduleId,
    /// The time the schedule waits for. If it waits for another by now, nothing happens.
    pub at: Timestamp,
    /// The time that a job is submitted for: that one, or a later one, if several have passed; `None` when it
    /// is too late for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// How many times have passed for which none is.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u64,
    /// The time that comes next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
    /// The job: an [`Operation::Enqueue`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Box<Operation>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Schedule {
    /// Adds an event. What goes on and on is told once, as it was last.
    pub(crate) fn remember(&mut self, event: Event) {
        let goes_on = ["skipped", "missed"].contains(&&*event.kind);
        if goes_on && self.events.last().is_some_and(|last| last.kind == event.kind) {
            self.events.pop();
        }
        self.events.push(event);
        self.events.drain(..self.events.len().saturating_sub(MAX_SCHEDULE_EVENTS));
    }

    /// The record of the wire, with the job as whoever answers a client puts it.
    pub fn on_wire<J>(&self, job: J) -> record::Schedule<J> {
        let (spec, paused) = (&self.spec, self.paused.as_ref());
        record::Schedule {
            id: self.id.clone(),
            name: spec.name.clone(),
            cron: spec.cron.clone(),
            time_zone: spec.time_zone.clone(),
            overlap: spec.overlap,
            catch_up_ms: spec.catch_up_ms,
            job,
            paused: paused.is_some(),
            paused_at: paused.map(|paused| paused.at),
            paused_reason: paused.and_then(|paused| paused.reason.clone()),
            paused_by: paused.and_then(|paused| paused.by.clone()),
            next_at: self.next_at,
            waiting_at: self.waiting,
            last_at: self.last.as_ref().map(|last| last.at),
            last_job_id: self.last.as_ref().map(|last| last.job.clone()),
            submitted: self.submitted,
            skipped: self.skipped,
            missed: self.missed,
            created_at: self.created_at,
            updated_at: self.updated_at,
            updated_by: self.updated_by.clone(),
            version: self.version,
            events: self.events.iter().map(Into::into).collect(),
        }
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn approx_bytes(&self) -> usize {
        let reason = self.paused.iter().flat_map(|paused| [&paused.reason, &paused.by]);
        let texts = reason.flatten().map(String::len).sum::<usize>();
        self.spec.approx_bytes() + texts + self.events.iter().map(Event::approx_bytes).sum::<usize>()
    }
}

impl ScheduleSpec {
    /// About how many bytes it takes.
    #[must_use]
    pub fn approx_bytes(&self) -> usize {
        const FIXED: usize = 512;
        FIXED + self.name.len() + self.cron.len() + self.time_zone.len() + self.job.len()
    }
}

impl Operation {
    /// What has a job join the queue under this id.
    #[must_use]
    pub fn enqueue(id: JobId, job: EnqueueJob) -> Self {
        Self::Enqueue {
            id,
            payload: Arc::new(job.payload),
            required: job.required_capabilities.unwrap_or_default(),
            submitted_by: job.submitted_by,
            priority: job.priority,
            labels: job.labels,
            terms: job.terms.map(Into::into),
            links: job.links.map(Into::into),
            plan: job.plan.map(Into::into),
        }
    }

    /// The submission that carrying this out may come to, for what submits a job in its turn; itself for
    /// anything else.
    #[must_use]
    pub fn submission(&self) -> &Self {
        let inner = match self {
            Self::FireSchedule(fire) => fire.job.as_deref(),
            Self::SubmitWaiting { job, .. } => Some(&**job),
            Self::TriggerSchedule { job, .. } => job.as_deref(),
            _ => None,
        };
        inner.unwrap_or(self)
    }
}
