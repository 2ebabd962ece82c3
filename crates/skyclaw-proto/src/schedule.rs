//! What submits jobs at the times that it names, as clients read it.

use serde::{Deserialize, Serialize};

use crate::record::Event;
use crate::{JobId, NodeId, Overlap, ScheduleId, Timestamp};

/// Submits jobs at the times that a cron expression names in a time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Schedule<J = serde_json::Value> {
    /// Its id.
    pub id: ScheduleId,
    /// What people call it; no two have the same name.
    pub name: String,
    /// At which times, as it was given.
    pub cron: String,
    /// The IANA name of the zone those times are in.
    pub time_zone: String,
    /// What becomes of a time at which the last job has not ended.
    pub overlap: Overlap,
    /// How late it makes up for a time that was missed, in milliseconds.
    pub catch_up_ms: u64,
    /// What it submits, as `POST /v1/jobs` takes it.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::request::EnqueueJobBody))]
    pub job: J,
    /// Whether it submits nothing at the moment.
    pub paused: bool,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<Timestamp>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_reason: Option<String>,
    /// Who paused it, as they say themselves; absent when it was paused by a coordinator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<String>,
    /// The next time; absent while it is paused and when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
    /// The time for which a job is submitted as soon as the last one has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_at: Option<Timestamp>,
    /// The time for which it last submitted a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
    /// That job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_job_id: Option<JobId>,
    /// How many jobs it has submitted.
    pub submitted: u64,
    /// How many times passed without a job, as the last one had not ended or this one was refused.
    pub skipped: u64,
    /// How many times were missed, as no coordinator led, and not made up for. No more than a thousand are
    /// counted of one gap.
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
