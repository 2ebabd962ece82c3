//! Calls that deal with schedules. Each is named by its id or its name.

use skyclaw_proto::record::Schedule;
use skyclaw_proto::request::{ActOnScheduleBody, CreateScheduleBody, PauseScheduleBody};
use skyclaw_proto::response::{ScheduleBody, SchedulesBody, TriggeredBody};
use skyclaw_proto::{ScheduleId, route};

use crate::Client;
use crate::call::Call;
use crate::error::Error;

impl Client {
    /// `POST /v1/schedules`. With no key of the caller's it gets one of its own.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_schedule(
        &self,
        schedule: &CreateScheduleBody,
        key: Option<&str>,
    ) -> Result<Schedule, Error> {
        let call = Call::post(route::SCHEDULES, schedule)?.keyed(key)?;
        self.fetch(&call).await.map(|ScheduleBody { schedule }| schedule)
    }

    /// `GET /v1/schedules`: all of them, page by page, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn schedules(&self) -> Result<Vec<Schedule>, Error> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut call = Call::get(route::SCHEDULES);
            call.query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let page: SchedulesBody = self.fetch(&call).await?;
            all.extend(page.schedules);
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// `GET /v1/schedules/:id`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn schedule(&self, id: &ScheduleId) -> Result<Schedule, Error> {
        self.fetch(&Call::get(route::schedule(id))).await.map(|ScheduleBody { schedule }| schedule)
    }

    /// `POST /v1/schedules/:id/pause`. Pausing twice is the same as once.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn pause_schedule(
        &self,
        id: &ScheduleId,
        pause: &PauseScheduleBody,
    ) -> Result<Schedule, Error> {
        let call = Call::post(route::pause_schedule(id), pause)?.keyed(None)?;
        self.fetch(&call).await.map(|ScheduleBody { schedule }| schedule)
    }

    /// `POST /v1/schedules/:id/resume`. Resuming twice is the same as once.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn resume_schedule(
        &self,
        id: &ScheduleId,
        resume: &ActOnScheduleBody,
    ) -> Result<Schedule, Error> {
        let call = Call::post(route::resume_schedule(id), resume)?.keyed(None)?;
        self.fetch(&call).await.map(|ScheduleBody { schedule }| schedule)
    }

    /// `POST /v1/schedules/:id/trigger`: the schedule, and the job if it was submitted at once.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn trigger_schedule(
        &self,
        id: &ScheduleId,
        trigger: &ActOnScheduleBody,
        key: Option<&str>,
    ) -> Result<TriggeredBody, Error> {
        self.fetch(&Call::post(route::trigger_schedule(id), trigger)?.keyed(key)?).await
    }

    /// `DELETE /v1/schedules/:id`: the schedule as it was last.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_schedule(&self, id: &ScheduleId) -> Result<Schedule, Error> {
        let call = Call::delete(route::schedule(id)).keyed(None)?;
        self.fetch(&call).await.map(|ScheduleBody { schedule }| schedule)
    }
}
