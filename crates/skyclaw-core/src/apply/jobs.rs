//! A job's way from the queue to its end.

use std::sync::Arc;
use std::time::Duration;

use skyclaw_proto::{HostId, JobId, JobStatus};

use super::Draft;
use super::dependents::Tied;
use crate::archive::Archive;
use crate::command::{Completion, Operation};
use crate::history::{Event, SUBMITTED};
use crate::life::Life;
use crate::model::{EndStatus, Ended, Job, Lease, Phase, Run};
use crate::outcome::{Change, Effect, Refusal, Reply};

impl Draft<'_> {
    /// A job joins the queue: what an [`Operation::Enqueue`] asks for.
    pub(super) fn enqueue(&mut self, asked: &Operation, archive: &impl Archive) -> Result<Reply, Refusal> {
        let Operation::Enqueue { id, payload, required, submitted_by, priority, labels, terms, links, plan } =
            asked
        else {
            return Ok(Reply::Done);
        };
        // The proposer's ids are new; one that is there already is this very command, come twice, and the job may
        // have ended in between, or in this command, when a schedule's job takes the place of the one before.
        if let Some(job) = self.known(id, archive).or_else(|| self.just_ended(id)) {
            return Ok(Reply::Job(job));
        }
        let (bonds, end) = match links.as_ref().map(|links| self.tie(links, submitted_by.as_ref(), archive)) {
            None => (None, None),
            Some(tied) => match tied? {
                Tied::Existing(job) => return Ok(Reply::Existing(job)),
                Tied::To(bonds, end) => (Some(bonds), end),
            },
        };
        let mut job = Job {
            id: id.clone(),
            seq: self.state.next_seq(),
            created_at: self.stamp.at,
            updated_at: self.stamp.at,
            updated_by: self.stamp.node.clone(),
            version: 0,
            attempts: 0,
            priority: *priority,
            required: required.clone(),
            payload: Arc::clone(payload),
            labels: labels.clone(),
            submitted_by: submitted_by.clone(),
            fence: 0,
            terms: terms.clone(),
            life: Life::begin(plan.as_ref(), self.stamp.at),
            bonds,
            history: None,
            origin: self.origin.clone(),
            phase: end.map_or(Phase::Queued, Phase::Ended),
        };
        // Where nobody said who it is, the record tells all there is to tell.
        if self.by.is_some() {
            job.remember(self.event(SUBMITTED, ""));
        }
        Ok(Reply::Job(self.put_job(job)))
    }

    pub(super) fn claim(&mut self, id: &HostId, max: u32, lease_ms: u64) -> Result<Reply, Refusal> {
        let host = self.state.hosts.get(id).cloned().ok_or_else(|| Refusal::UnknownHost(id.clone()))?;
        if self.state.claims_stopped() || !host.takes_work() {
            return Ok(Reply::Claimed(Vec::new()));
        }
        let offers = self.state.offers.get(id).cloned().unwrap_or_else(|| host.offers());
        let room = host.max_parallel.saturating_sub(host.active_leases).min(max);
        let expires_at = self.stamp.at.plus(Duration::from_millis(lease_ms));
        let mut claimed = Vec::new();
        for _ in 0..room {
            let Some(next) = self.state.queue.first(&offers).cloned() else { break };
            let Some(job) = self.state.jobs.get(&next) else { break };
            let mut job = (**job).clone();
            // A record of another mesh may claim any number of attempts.
            job.attempts = job.attempts.saturating_add(1);
            job.fence = self.state.counters.next_fence;
            job.phase = Phase::Leased(Lease { host: id.clone(), expires_at, cancel_requested_at: None });
            self.state.counters.next_fence += 1;
            job.life = job.life.map(Life::waits_no_more);
            let claimed_now = self.event("claimed", format!("attempt {}", job.attempts));
            job.remember(Event { host: Some(id.clone()), fence: job.fence, ..claimed_now });
            let job = self.put_job(job);
            self.effects.push(Effect::LeaseHeld { job: next, fence: job.fence, host: id.clone() });
            claimed.push(job);
        }
        if !claimed.is_empty() {
            self.recount(id);
        }
        Ok(Reply::Claimed(claimed))
    }

    pub(super) fn complete(&mut self, done: &Completion, archive: &impl Archive) -> Result<Reply, Refusal> {
        if !self.state.hosts.contains_key(&done.host) {
            return Err(Refusal::UnknownHost(done.host.clone()));
        }
        let job = self.find(&done.id, archive)?;
        if job.host() != Some(&done.host) {
            return Err(Refusal::AssignedElsewhere { job: job.id.clone(), holder: job.host().cloned() });
        }
        let current = match &job.phase {
            Phase::Leased(_) => true,
            // Nobody else has it, so what its host did is what was done. Only the token tells that it is not
            // an earlier run that is spoken of.
            Phase::Lost(_) => done.fence.is_some(),
            Phase::Queued | Phase::Ended(_) => false,
        };
        if !current {
            return Err(Refusal::NotLeased(job.id.clone()));
        }
        if let Some(given) = done.fence.filter(|given| *given != job.fence) {
            return Err(Refusal::StaleFence { job: job.id.clone(), current: job.fence, given });
        }
        let mut told = (*job).clone();
        for event in &done.events {
            told.remember_told(Event { fence: job.fence, ..event.clone() });
        }
        let is_cancelled = job.lease().is_some_and(|lease| lease.cancel_requested_at.is_some());
        if let Some(why) = done.stopped.filter(|_| !done.success && !is_cancelled) {
            return Ok(Reply::Job(self.given_back(told, why, done)));
        }
        // Work that was done before the call to stop it arrived is done.
        let status = match (done.success, is_cancelled) {
            (true, _) => EndStatus::Completed,
            (false, true) => EndStatus::Cancelled,
            (false, false) => EndStatus::Failed,
        };
        let ended = self.ended(status, done);
        Ok(Reply::Job(match status {
            EndStatus::Failed => self.failed(told, ended),
            _ => self.end(&Arc::new(told), ended),
        }))
    }

    /// How a run ended, as its host reports it.
    pub(super) fn ended(&self, status: EndStatus, done: &Completion) -> Ended {
        let run = Run {
            finished_at: self.stamp.at,
            duration_ms: done.duration_ms,
            exit_code: done.exit_code,
            stdout: done.stdout.clone(),
            stderr: done.stderr.clone(),
            usage: done.usage,
            oom: done.oom,
        };
        Ended { status, host: Some(done.host.clone()), run: Some(Arc::new(run)), error: done.error.clone() }
    }

    /// A queued job ends at once; the host of a leased one is asked to stop it and has the last word.
    pub(super) fn cancel(&mut self, id: &JobId, archive: &impl Archive) -> Result<Reply, Refusal> {
        let job = self.find(id, archive)?;
        match &job.phase {
            Phase::Queued => {
                let ended = Ended { status: EndStatus::Cancelled, host: None, run: None, error: None };
                Ok(Reply::Job(self.end(&job, ended)))
            }
            Phase::Lost(lost) => {
                let host = Some(lost.host.clone());
                let ended = Ended { status: EndStatus::Cancelled, host, run: None, error: None };
                Ok(Reply::Job(self.end(&job, ended)))
            }
            Phase::Leased(Lease { cancel_requested_at: Some(_), .. }) => Ok(Reply::Job(job)),
            Phase::Leased(lease) => {
                let host = lease.host.clone();
                let lease = Lease { cancel_requested_at: Some(self.stamp.at), ..lease.clone() };
                let mut job = Job { phase: Phase::Leased(lease), ..(*job).clone() };
                job.remember(self.event("cancel_requested", ""));
                let job = self.put_job(job);
                self.effects.push(Effect::StopRun { job: id.clone(), host });
                Ok(Reply::Job(job))
            }
            Phase::Ended(ended) if ended.status == EndStatus::Cancelled => Ok(Reply::Job(job)),
            Phase::Ended(_) => Err(Refusal::JobEnded { job: id.clone(), status: job.status() }),
        }
    }

    /// Ends a job, and its lease if it had one.
    pub(super) fn end(&mut self, job: &Arc<Job>, ended: Ended) -> Arc<Job> {
        let holder = job.lease().map(|lease| lease.host.clone());
        let detail = match (&ended.run, &ended.error) {
            (Some(run), Some(error)) => format!("exit code {}: {error}", run.exit_code),
            (Some(run), None) => format!("exit code {}", run.exit_code),
            (None, error) => error.clone().unwrap_or_default(),
        };
        let kind = JobStatus::from(ended.status).as_str();
        let mut over = Job { phase: Phase::Ended(ended), ..(**job).clone() };
        over.life = over.life.map(Life::waits_no_more);
        // What nobody ever took, and nobody in particular ended, has no history beyond its record.
        if over.history.is_some() || self.by.is_some() {
            over.remember(Event { fence: over.fence, ..self.event(kind, detail) });
        }
        let job = self.put_job(over);
        if let Some(host) = holder {
            self.lease_over(&job.id, &host);
        }
        job
    }

    pub(super) fn find(&self, id: &JobId, archive: &impl Archive) -> Result<Arc<Job>, Refusal> {
        self.known(id, archive).ok_or_else(|| Refusal::UnknownJob(id.clone()))
    }

    /// A job that ended in this command, so that it is neither active nor in the archive yet.
    fn just_ended(&self, id: &JobId) -> Option<Arc<Job>> {
        self.changes.iter().rev().find_map(|change| match change {
            Change::Job(job) if job.id == *id => Some(Arc::clone(job)),
            _ => None,
        })
    }

    /// A job, active or ended.
    pub(super) fn known(&self, id: &JobId, archive: &impl Archive) -> Option<Arc<Job>> {
        self.state.jobs.get(id).cloned().or_else(|| archive.job(id))
    }
}
