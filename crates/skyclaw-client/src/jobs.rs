//! Calls that deal with jobs.

use std::time::Duration;

use skyclaw_proto::record::{Event, Job};
use skyclaw_proto::request::{
    ClaimBody, CompleteJobBody, EnqueueJobBody, JobEventsBody, ResolveJobBody, RetryJobBody,
};
use skyclaw_proto::response::{ClaimedJobs, EventsBody, JobBody, JobPage, SubmittedBody};
use skyclaw_proto::{Explanation, HostId, JobId, JobStatus, route};

use crate::Client;
use crate::call::Call;
use crate::error::Error;

/// Which jobs to list. What is `None` or empty does not narrow the list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// In this state.
    pub status: Option<JobStatus>,
    /// Held or run by this host.
    pub host: Option<HostId>,
    /// With all of these labels.
    pub labels: Vec<(String, String)>,
    /// Submitted by this.
    pub submitter: Option<String>,
    /// How many at most; the coordinator's default when `None`.
    pub limit: Option<u32>,
}

impl Client {
    /// `POST /v1/jobs`. With no key of the caller's it gets one of its own.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn enqueue(&self, job: &EnqueueJobBody, key: Option<&str>) -> Result<Job, Error> {
        self.submit(job, key).await.map(|submitted| submitted.job)
    }

    /// The same, with whether the job was there before: one with the same unique key.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn submit(&self, job: &EnqueueJobBody, key: Option<&str>) -> Result<SubmittedBody, Error> {
        let call = Call::post(route::JOBS, job)?.keyed(key)?;
        self.fetch(&call).await
    }

    /// `GET /v1/jobs/:id/explain`: why a job is not running.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn explain_job(&self, id: &JobId) -> Result<Explanation, Error> {
        self.fetch(&Call::get(route::explain(id))).await
    }

    /// `GET /v1/jobs/:id`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn job(&self, id: &JobId) -> Result<Job, Error> {
        self.fetch(&Call::get(route::job(id))).await.map(|JobBody { job }| job)
    }

    /// `GET /v1/jobs/:id` as of all that was acknowledged before, at whichever coordinator.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn job_for_sure(&self, id: &JobId) -> Result<Job, Error> {
        let mut call = Call::get(route::job(id));
        call.query = vec![("consistent", "true".to_owned())];
        self.fetch(&call).await.map(|JobBody { job }| job)
    }

    /// `GET /v1/jobs/:id` that waits up to `wait` for another version than `version`, where the
    /// coordinator can; one that cannot answers at once.
    pub(crate) async fn job_after(&self, id: &JobId, version: u64, wait: Duration) -> Result<Job, Error> {
        let mut call = Call::get(route::job(id)).polling(wait);
        call.query = vec![("waitMs", wait.as_millis().to_string()), ("version", version.to_string())];
        self.fetch(&call).await.map(|JobBody { job }| job)
    }

    /// `GET /v1/jobs`: one page, newest first; `cursor` is the `next_cursor` of the page before.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn jobs(&self, filter: &JobFilter, cursor: Option<&str>) -> Result<JobPage, Error> {
        let mut call = Call::get(route::JOBS);
        let one = [
            ("status", filter.status.map(|status| status.to_string())),
            ("host", filter.host.as_ref().map(HostId::to_string)),
            ("submitter", filter.submitter.clone()),
            ("limit", filter.limit.map(|limit| limit.to_string())),
            ("cursor", cursor.map(str::to_owned)),
        ];
        call.query.extend(one.into_iter().filter_map(|(name, value)| Some((name, value?))));
        call.query.extend(filter.labels.iter().map(|(key, value)| ("label", format!("{key}={value}"))));
        self.fetch(&call).await
    }

    /// `POST /v1/jobs/:id/cancel`. Cancelling twice is the same as once.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cancel_job(&self, id: &JobId) -> Result<Job, Error> {
        let call = Call::post(route::cancel(id), &serde_json::json!({}))?.keyed(None)?;
        self.fetch(&call).await.map(|JobBody { job }| job)
    }

    /// `POST /v1/jobs/:id/resolve`: decides about a lost job.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn resolve_job(
        &self,
        id: &JobId,
        decision: &ResolveJobBody,
        key: Option<&str>,
    ) -> Result<Job, Error> {
        let call = Call::post(route::resolve(id), decision)?.keyed(key)?;
        self.fetch(&call).await.map(|JobBody { job }| job)
    }

    /// `POST /v1/jobs/:id/retry`: queues a job again that ended without success.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn retry_job(&self, id: &JobId, said: &RetryJobBody, key: Option<&str>) -> Result<Job, Error> {
        let call = Call::post(route::retry(id), said)?.keyed(key)?;
        self.fetch(&call).await.map(|JobBody { job }| job)
    }

    /// `POST /v1/jobs/:id/events`: tells what happened to a run, under the lease it runs under.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tell_events(
        &self,
        id: &JobId,
        told: &JobEventsBody,
        key: Option<&str>,
    ) -> Result<Job, Error> {
        let call = Call::post(route::job_events(id), told)?.keyed(key)?;
        self.fetch(&call).await.map(|JobBody { job }| job)
    }

    /// `GET /v1/jobs/:id/events`: what happened to a job, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn job_events(&self, id: &JobId) -> Result<Vec<Event>, Error> {
        self.fetch(&Call::get(route::job_events(id))).await.map(|EventsBody { events }| events)
    }

    /// `POST /v1/hosts/:id/claim`. The answer may take as long as the body's `wait_ms`. The key makes
    /// a repeated claim return the same jobs.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn claim(
        &self,
        host: &HostId,
        claim: &ClaimBody,
        key: Option<&str>,
    ) -> Result<ClaimedJobs, Error> {
        let poll = Duration::from_millis(claim.wait_ms.unwrap_or(0));
        self.fetch(&Call::post(route::claim(host), claim)?.keyed(key)?.polling(poll)).await
    }

    /// `POST /v1/jobs/:id/complete`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn complete(
        &self,
        id: &JobId,
        result: &CompleteJobBody,
        key: Option<&str>,
    ) -> Result<Job, Error> {
        let call = Call::post(route::complete(id), result)?.keyed(key)?;
        self.fetch(&call).await.map(|JobBody { job }| job)
    }
}
