//! Runs that failed or were lost and are tried again, and jobs that ended and are queued again by somebody's
//! decision.

use std::sync::Arc;

use skyclaw_proto::{HostId, JobId, JobStatus, Retry};

use super::Draft;
use crate::archive::Archive;
use crate::history::Event;
use crate::life::{Attempt, Life};
use crate::model::{EndStatus, Ended, Job, Phase};
use crate::outcome::{Refusal, Reply};

impl Draft<'_> {
    /// A run of a job failed, as its host tells: the job is tried again if it may be, and has failed if not.
    pub(super) fn failed(&mut self, mut job: Job, ended: Ended) -> Arc<Job> {
        let Some((retry, failures)) = job.count_failure() else { return self.end(&Arc::new(job), ended) };
        let told = format!("attempt {failures} of {}", retry.max_attempts);
        if failures >= retry.max_attempts {
            return self.end(&Arc::new(job), ended);
        }
        let holder = job.lease().map(|lease| lease.host.clone());
        let code = ended.run.as_ref().map(|run| format!(": exit code {}", run.exit_code)).unwrap_or_default();
        let error = ended.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        let attempt = Attempt::of(&job, JobStatus::Failed, self.stamp.at, &ended);
        let wait = retry.backoff(&job.id, failures);
        let again = (!wait.is_zero()).then(|| self.stamp.at.plus(wait));
        if let Some(life) = &mut job.life {
            let life = Arc::make_mut(life);
            life.keep(attempt);
            life.claimable_at = again;
        }
        let event = self.event("attempt_failed", format!("{told}{code}{error}"));
        job.remember(Event { host: ended.host.clone(), fence: job.fence, ..event });
        let when = again.map(|again| format!("not before {again}")).unwrap_or_default();
        job.remember(Event { fence: job.fence, ..self.event("requeued", when) });
        job.phase = Phase::Queued;
        let job = self.put_job(job);
        if let Some(host) = holder {
            self.lease_over(&job.id, &host);
        }
        job
    }

    /// Counts a run whose host was lost. `Some` with the reason when the job may not be tried again for it.
    pub(super) fn count_loss(&self, job: &mut Job, host: &HostId, why: &str) -> Option<String> {
        let (retry, failures) = job.count_failure()?;
        if failures >= retry.max_attempts {
            return Some(format!("{why}, and this was attempt {failures} of {}", retry.max_attempts));
        }
        let (host, error) = (Some(host.clone()), Some(why.to_owned()));
        let ended = Ended { status: EndStatus::Failed, host, run: None, error };
        let attempt = Attempt::of(job, JobStatus::Lost, self.stamp.at, &ended);
        if let Some(life) = &mut job.life {
            Arc::make_mut(life).keep(attempt);
        }
        None
    }

    /// Somebody wants a job that ended queued again. It keeps its place in the order and what is known of its
    /// runs; what its plan asks for counts anew from now.
    pub(super) fn retry(
        &mut self,
        id: &JobId,
        reason: Option<&String>,
        by: Option<&String>,
        archive: &impl Archive,
    ) -> Result<Reply, Refusal> {
        let job = self.find(id, archive)?;
        let ended = match &job.phase {
            // What was done is not done a second time.
            Phase::Ended(ended) if ended.status != EndStatus::Completed => ended.clone(),
            Phase::Ended(_) | Phase::Queued | Phase::Leased(_) | Phase::Lost(_) => {
                return Err(Refusal::NotToRetry { job: id.clone(), status: job.status() });
            }
        };
        if let Some(holder) = job.unique_key().and_then(|key| self.state.unique.holder(&key).cloned()) {
            return Err(Refusal::UniqueKeyTaken { job: id.clone(), holder });
        }
        let mut again = (*job).clone();
        let mut life = again.life.as_deref().cloned().unwrap_or_default();
        if ended.host.is_some() {
            life.keep(Attempt::of(&again, ended.status.into(), again.updated_at, &ended));
        }
        life.begin_anew(self.stamp.at);
        again.life = (life != Life::default()).then(|| Arc::new(life));
        let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
        let why = reason.map(|why| format!(": {why}")).unwrap_or_default();
        let what = format!("after it was {}{by}{why}", job.status());
        again.remember(self.event("retried", what));
        again.phase = Phase::Queued;
        Ok(Reply::Job(self.put_job(again)))
    }
}

impl Job {
    /// Counts a failure against what the plan allows; `None` when it allows no retries at all. Gives the number
    /// of failures, this one included.
    fn count_failure(&mut self) -> Option<(Retry, u32)> {
        let life = self.life.as_mut()?;
        let retry = life.plan.retry?;
        let life = Arc::make_mut(life);
        life.failures = life.failures.saturating_add(1);
        Some((retry, life.failures))
    }
}
