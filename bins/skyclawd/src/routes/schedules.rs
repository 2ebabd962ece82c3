//! What the routes of schedules share.

use skyclaw_core::{Reply, Schedule};
use skyclaw_proto::record;
use skyclaw_proto::response::{ScheduleBody, TriggeredBody};
use skyclaw_replication::{ScheduleError, Written};

use super::reply::{At, unexpected};
use crate::error::ApiError;

/// The record of a schedule. The job is shown as it was given.
pub(super) fn record(schedule: &Schedule) -> Result<record::Schedule, ApiError> {
    let job = serde_json::from_str(&schedule.spec.job).map_err(|error| {
        tracing::error!(schedule = %schedule.id, %error, "the job of a schedule is no JSON");
        ApiError::internal()
    })?;
    Ok(schedule.on_wire(job))
}

/// The answer to a change.
pub(super) fn changed(written: &Written) -> Result<At<ScheduleBody>, ApiError> {
    match &written.reply {
        Reply::Schedule(schedule) => {
            Ok(At { index: written.index, body: ScheduleBody { schedule: record(schedule)? } })
        }
        other => Err(unexpected(other)),
    }
}

/// The answer to a trigger.
pub(super) fn triggered(written: &Written) -> Result<At<TriggeredBody>, ApiError> {
    match &written.reply {
        Reply::Triggered { schedule, job } => {
            let job = job.as_deref().map(record::Job::from);
            Ok(At { index: written.index, body: TriggeredBody { schedule: record(schedule)?, job } })
        }
        other => Err(unexpected(other)),
    }
}

impl From<ScheduleError> for ApiError {
    fn from(error: ScheduleError) -> Self {
        match error {
            ScheduleError::Invalid(invalid) => invalid.into(),
            ScheduleError::Write(error) => error.into(),
            error => {
                tracing::error!(%error, "a schedule could not be changed");
                Self::internal()
            }
        }
    }
}
