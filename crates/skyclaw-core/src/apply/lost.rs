//! Jobs that their hosts lost, or had to stop, and what becomes of them.
//!
//! A lease that ran out and a run that its host stopped unasked by anybody who wants the job gone come to the
//! same: the job was begun and is not done. Which way it goes is what it says of that itself.

use std::sync::Arc;

use skyclaw_proto::request::FoundResult;
use skyclaw_proto::{HostId, JobId, OnLost, Resolution, Stopped};

use super::Draft;
use crate::archive::Archive;
use crate::command::Completion;
use crate::history::Event;
use crate::model::{EndStatus, Ended, Job, Lost, Phase, Run};
use crate::outcome::{Refusal, Reply};

impl Draft<'_> {
    /// Has a job that nobody runs any more go the way it says. Its lease is the caller's to end.
    pub(super) fn lose(
        &mut self,
        mut job: Job,
        host: &HostId,
        kind: &str,
        why: &str,
        ended: Option<Ended>,
    ) -> Arc<Job> {
        let on_lost = job.on_lost();
        // That its host had to stop a run says nothing against the job. That the host is gone may be its doing.
        let is_lost = ended.is_none();
        let spent = match on_lost {
            OnLost::Retry if is_lost => self.count_loss(&mut job, host, why),
            OnLost::Retry | OnLost::Hold | OnLost::Fail => None,
        };
        let event = self.event(kind, format!("{why} (onLost: {on_lost})"));
        job.remember(Event { host: Some(host.clone()), fence: job.fence, ..event });
        job.phase = match on_lost {
            OnLost::Retry if spent.is_some() => {
                let (status, host) = (EndStatus::Failed, Some(host.clone()));
                Phase::Ended(Ended { status, host, run: None, error: spent })
            }
            OnLost::Retry => Phase::Queued,
            OnLost::Hold => Phase::Lost(Lost { host: host.clone(), since: self.stamp.at, why: why.into() }),
            OnLost::Fail => {
                let none =
                    Ended { status: EndStatus::Failed, host: Some(host.clone()), run: None, error: None };
                let ended = ended.unwrap_or(none);
                Phase::Ended(Ended { error: Some(format!("{why}, and it is not to be run again")), ..ended })
            }
        };
        let became = match job.phase {
            Phase::Queued => "requeued",
            Phase::Lost(_) => "lost",
            Phase::Ended(_) | Phase::Leased(_) => "failed",
        };
        job.remember(Event { fence: job.fence, ..self.event(became, "") });
        self.put_job(job)
    }

    /// A host confirms that it stopped a run that nobody wants gone.
    ///
    /// A job that is lost already stays so: that the run is over says nothing of how far it had come.
    pub(super) fn given_back(&mut self, mut job: Job, why: Stopped, done: &Completion) -> Arc<Job> {
        let host = &done.host;
        if matches!(job.phase, Phase::Lost(_)) {
            let event = self.event("stopped", format!("its host {host} stopped it: {why}"));
            job.remember(Event { host: Some(host.clone()), fence: job.fence, ..event });
            return self.put_job(job);
        }
        let text = format!("its host {host} stopped it: {why}");
        let ended = self.ended(EndStatus::Failed, done);
        let job = self.lose(job, host, "stopped", &text, Some(ended));
        self.lease_over(&job.id, host);
        job
    }

    pub(super) fn resolve(
        &mut self,
        id: &JobId,
        action: Resolution,
        reason: Option<&String>,
        by: Option<&String>,
        result: Option<&FoundResult>,
        archive: &impl Archive,
    ) -> Result<Reply, Refusal> {
        let job = self.find(id, archive)?;
        let Phase::Lost(lost) = &job.phase else {
            return Err(Refusal::NotLost { job: id.clone(), status: job.status() });
        };
        let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
        let why = reason.map(|why| format!(": {why}")).unwrap_or_default();
        let mut decided = (*job).clone();
        decided.remember(self.event("resolved", format!("{action}{by}{why}")));
        let ended = |status, run, error| Ended { status, host: Some(lost.host.clone()), run, error };
        let job = match action {
            Resolution::Requeue => self.put_job(Job { phase: Phase::Queued, ..decided }),
            Resolution::Fail => {
                let error = Some(format!("{}, and it was found to have failed{by}{why}", lost.why));
                let ended = ended(EndStatus::Failed, None, error);
                self.end(&Arc::new(decided), ended)
            }
            Resolution::Complete => {
                let run = result.map(|found| {
                    Arc::new(Run {
                        finished_at: self.stamp.at,
                        duration_ms: found.duration_ms,
                        exit_code: found.exit_code,
                        stdout: found.stdout.clone(),
                        stderr: found.stderr.clone(),
                        usage: None,
                        oom: false,
                    })
                });
                let ended = ended(EndStatus::Completed, run, None);
                self.end(&Arc::new(decided), ended)
            }
        };
        Ok(Reply::Job(job))
    }

    /// What a host tells of a run is taken from who holds its newest lease, or held it when the job was lost.
    pub(super) fn tell_events(
        &mut self,
        id: &JobId,
        host: &HostId,
        fence: u64,
        events: &[Event],
        archive: &impl Archive,
    ) -> Result<Reply, Refusal> {
        if !self.state.hosts.contains_key(host) {
            return Err(Refusal::UnknownHost(host.clone()));
        }
        let job = self.find(id, archive)?;
        if fence != job.fence {
            return Err(Refusal::StaleFence { job: id.clone(), current: job.fence, given: fence });
        }
        match &job.phase {
            Phase::Leased(_) | Phase::Lost(_) if job.host() == Some(host) => {}
            Phase::Leased(_) | Phase::Lost(_) => {
                return Err(Refusal::AssignedElsewhere { job: id.clone(), holder: job.host().cloned() });
            }
            Phase::Queued | Phase::Ended(_) => return Err(Refusal::NotLeased(id.clone())),
        }
        if events.is_empty() {
            return Ok(Reply::Job(job));
        }
        let mut told = (*job).clone();
        for event in events {
            told.remember_told(Event { fence, ..event.clone() });
        }
        Ok(Reply::Job(self.put_job(told)))
    }
}
