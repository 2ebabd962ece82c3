//! Schedules, as the HTTP layer asks for them.

use std::sync::Arc;
use std::time::Duration;

use skyclaw_core::{IdempotencyKey, Operation, Schedule, ScheduleSpec};
use skyclaw_proto::request::CreateSchedule;
use skyclaw_proto::{Actor, Invalid, JobId, ScheduleId, Timestamp};

use crate::calendar::Calendar;
use crate::error::{ReadError, WriteError};
use crate::machine::Gone;
use crate::machine::memory::Memory;
use crate::node::{Node, Written};
use crate::scheduler::submission;

/// How long a node may take to catch up that does not know a schedule somebody asks for.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(5);

/// Why a schedule was not created or triggered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A field is not as it must be.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// It was not written, or may not have been.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Node {
    /// The oldest schedules that came after this one, at most `limit`, oldest first.
    ///
    /// # Errors
    /// When the node goes down.
    pub async fn schedules(
        &self,
        after: Option<ScheduleId>,
        limit: usize,
    ) -> Result<Vec<Arc<Schedule>>, ReadError> {
        let look = move |memory: &mut Memory| {
            memory.state.schedules_after(after.as_ref()).take(limit).cloned().collect::<Vec<_>>()
        };
        Ok(self.0.machine.look(look).await?)
    }

    /// The schedule with this id or name.
    ///
    /// # Errors
    /// When the node goes down.
    pub async fn schedule(&self, wanted: &ScheduleId) -> Result<Option<Arc<Schedule>>, ReadError> {
        Ok(self.look_schedule_up(wanted).await?)
    }

    async fn look_schedule_up(&self, wanted: &ScheduleId) -> Result<Option<Arc<Schedule>>, Gone> {
        let wanted = wanted.clone();
        self.0.machine.look(move |memory| memory.state.schedule(&wanted).cloned()).await
    }

    /// The schedule with this id or name, also when another node has just created it.
    async fn newest_schedule(&self, wanted: &ScheduleId) -> Result<Option<Arc<Schedule>>, WriteError> {
        if let Some(known) = self.look_schedule_up(wanted).await? {
            return Ok(Some(known));
        }
        self.catch_up(CATCH_UP_WITHIN).await?;
        Ok(self.look_schedule_up(wanted).await?)
    }

    /// Creates a schedule under an id of its own.
    ///
    /// # Errors
    /// When its times or zone are not understood, or no time ever comes; otherwise as [`Self::write`].
    pub async fn create_schedule(
        &self,
        actor: Option<Arc<Actor>>,
        idempotency: Option<IdempotencyKey>,
        id: ScheduleId,
        schedule: CreateSchedule,
    ) -> Result<Written, ScheduleError> {
        let now = self.0.stamper.now();
        let (cron, zone) = (schedule.cron.clone(), schedule.time_zone);
        // It takes long to find that no time ever comes.
        let first = tokio::task::spawn_blocking(move || first_time(&cron, &zone, now)).await;
        let (time_zone, next_at) = first.map_err(|_| WriteError::ShuttingDown)??;
        let spec = Arc::new(ScheduleSpec {
            name: schedule.name,
            cron: schedule.cron,
            time_zone,
            overlap: schedule.overlap,
            catch_up_ms: schedule.catch_up_ms,
            job: schedule.job.into(),
        });
        let (paused, by) = (schedule.paused, schedule.by);
        let operation = Operation::CreateSchedule { id, spec, next_at: Some(next_at), paused, by };
        Ok(self.write_by(actor, idempotency, operation).await?)
    }

    /// Lets a paused schedule go on with the next of its times.
    ///
    /// # Errors
    /// When its times are not understood any more; otherwise as [`Self::write`].
    pub async fn resume_schedule(
        &self,
        actor: Option<Arc<Actor>>,
        idempotency: Option<IdempotencyKey>,
        wanted: ScheduleId,
        by: Option<String>,
    ) -> Result<Written, ScheduleError> {
        // One that is not there may have been when this was asked for first: the state machine knows.
        let (schedule, next_at) = match self.newest_schedule(&wanted).await? {
            Some(known) => {
                let calendar = Calendar::new(&known.spec.cron, &known.spec.time_zone)?;
                (known.id.clone(), calendar.after(self.0.stamper.now()))
            }
            None => (wanted, None),
        };
        let operation = Operation::ResumeSchedule { schedule, next_at, by };
        Ok(self.write_by(actor, idempotency, operation).await?)
    }

    /// Has a schedule submit its job now, under an id of its own.
    ///
    /// # Errors
    /// When the job is not taken any more; otherwise as [`Self::write`].
    pub async fn trigger_schedule(
        &self,
        actor: Option<Arc<Actor>>,
        idempotency: Option<IdempotencyKey>,
        wanted: ScheduleId,
        id: JobId,
        by: Option<String>,
    ) -> Result<Written, ScheduleError> {
        let (schedule, job) = match self.newest_schedule(&wanted).await? {
            // By its id: another may have its name by now, and another job.
            Some(known) => (known.id.clone(), Some(Box::new(submission(&known, id)?))),
            None => (wanted, None),
        };
        let operation = Operation::TriggerSchedule { schedule, job, by };
        Ok(self.write_by(actor, idempotency, operation).await?)
    }
}

/// The name of the zone as it is kept, and the first time.
fn first_time(cron: &str, zone: &str, now: Timestamp) -> Result<(String, Timestamp), Invalid> {
    let calendar = Calendar::new(cron, zone)?;
    let first = calendar.after(now).ok_or_else(|| Invalid::new("cron", "names no time that ever comes"))?;
    Ok((calendar.zone().to_owned(), first))
}
