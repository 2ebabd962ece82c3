//! Following one job to its end.

use std::time::Duration;

use skyclaw_proto::record::Job;
use skyclaw_proto::{JobId, JobStatus};
use tokio::time::Instant;

use crate::Client;
use crate::error::Error;

/// How long one question waits at the coordinator.
const POLL: Duration = Duration::from_secs(25);
/// An answer without news that comes sooner than this is from a coordinator that does not wait.
const AT_ONCE: Duration = Duration::from_secs(1);
/// First and longest pause between two questions to such a coordinator.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Follows one job. Each [`JobWatch::next`] is a new version of it.
#[derive(Debug)]
pub struct JobWatch {
    client: Client,
    id: JobId,
    seen: Option<u64>,
    pause: Duration,
}

impl Client {
    /// Follows a job, from its present state on.
    #[must_use]
    pub fn watch_job(&self, id: JobId) -> JobWatch {
        JobWatch { client: self.clone(), id, seen: None, pause: PAUSES.0 }
    }
}

impl JobWatch {
    /// The job as it is now, at the first call; from then on the next version of it, however long
    /// that takes. Not to be called again after a job that is finished.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn next(&mut self) -> Result<Job, Error> {
        let Some(seen) = self.seen else {
            let job = self.client.job(&self.id).await?;
            self.seen = Some(job.version);
            return Ok(job);
        };
        loop {
            let asked = Instant::now();
            let job = self.client.job_after(&self.id, seen, POLL).await?;
            // A version that is lower is one of a reader that is behind.
            if job.version > seen {
                self.seen = Some(job.version);
                self.pause = PAUSES.0;
                return Ok(job);
            }
            if asked.elapsed() < AT_ONCE {
                tokio::time::sleep(self.pause).await;
                self.pause = (self.pause * 2).min(PAUSES.1);
            }
        }
    }

    /// The job once nothing more will happen to it by itself: finished, or lost and held.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn end(&mut self) -> Result<Job, Error> {
        loop {
            let job = self.next().await?;
            if job.status.is_finished() || job.status == JobStatus::Lost {
                return Ok(job);
            }
        }
    }
}
