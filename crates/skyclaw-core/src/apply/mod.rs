//! Applying a command: total, deterministic, and the only way the state changes.

mod dependents;
mod freezes;
mod hosts;
mod jobs;
mod leases;
mod lost;
mod merge;
mod restores;
mod retention;
mod retries;
mod schedules;
mod services;
#[cfg(test)]
mod tests;
mod time;

use std::collections::BTreeSet;
use std::sync::Arc;

use skyclaw_proto::{Actor, HostId};

pub use self::dependents::SETTLED_AT_ONCE;
use self::dependents::Settled;
pub use self::restores::Verdict;
use crate::archive::Archive;
use crate::command::{Command, IdempotencyKey, Operation};
use crate::history::Event;
use crate::model::{Host, Job, Phase, Service};
use crate::outcome::{Change, Effect, Outcome, Refusal, Reply, StoredReply};
use crate::schedule::Origin;
use crate::state::{Stamp, State};

/// Collects what a command brings about while it is applied.
pub(crate) struct Draft<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) stamp: Stamp,
    /// Whom it is put down to.
    by: Option<Arc<Actor>>,
    pub(crate) changes: Vec<Change>,
    pub(crate) effects: Vec<Effect>,
    /// Jobs that ended by this command and that others wait for.
    settling: Vec<Settled>,
    /// The schedule that a job comes from which is enqueued.
    pub(crate) origin: Option<Arc<Origin>>,
}

impl State {
    /// Carries out one command.
    ///
    /// The caller writes the changes down together with the command's place in the log, and must have
    /// `archive` answer as of the command before this one.
    pub fn apply(&mut self, command: &Command, archive: &impl Archive) -> Outcome {
        let stamp = Stamp { at: command.at, node: command.node.clone() };
        if let Some((key, stored)) =
            command.idempotency.as_ref().and_then(|key| known_reply(key, &stamp, archive))
        {
            let reply = self.reply_again(key, &stored);
            return Outcome { reply, changes: Vec::new(), effects: Vec::new() };
        }
        // Room for what most commands bring about.
        let (changes, effects) = (Vec::with_capacity(2), Vec::with_capacity(2));
        let by = command.whose();
        let mut draft =
            Draft { state: self, stamp, by, changes, effects, settling: Vec::new(), origin: None };
        draft.state.lanes.forget_opened();
        let reply = draft.operate(&command.operation, archive);
        draft.settle();
        if draft.state.lanes.has_opened() {
            draft.effects.extend(draft.state.lanes.take_opened());
        }
        let Draft { mut changes, mut effects, .. } = draft;
        match (&reply, &command.idempotency) {
            (Err(_), _) => {
                debug_assert!(changes.is_empty(), "a refusal changes nothing");
                changes.clear();
                effects.clear();
            }
            (Ok(reply), Some(key)) if !changes.is_empty() || !found_nothing(reply) => {
                changes.push(Change::Reply(Arc::new(StoredReply { key: key.clone(), reply: reply.clone() })));
            }
            (Ok(_), _) => {}
        }
        Outcome { reply, changes, effects }
    }

    /// What a stored reply is worth now.
    ///
    /// A claim's key stands for the leases it gave: those that are over are left out, or a host that
    /// lost the first answer would run what another host has by now.
    fn reply_again(&self, key: &IdempotencyKey, stored: &StoredReply) -> Result<Reply, Refusal> {
        if stored.key.fingerprint != key.fingerprint {
            return Err(Refusal::KeyReused(stored.key.route.clone()));
        }
        let Reply::Claimed(jobs) = &stored.reply else { return Ok(stored.reply.clone()) };
        let still_held = |job: &&Arc<Job>| {
            self.job(&job.id)
                .is_some_and(|now| now.fence == job.fence && matches!(now.phase, Phase::Leased(_)))
        };
        Ok(Reply::Claimed(jobs.iter().filter(still_held).cloned().collect()))
    }
}

/// Whether a host or peer asked and there was nothing for it. Such an answer is not kept: it would cost
/// a write each time one asks, and asking again may well find something.
fn found_nothing(reply: &Reply) -> bool {
    match reply {
        Reply::Claimed(jobs) => jobs.is_empty(),
        // With a service in it and no change, the host was reminded of one it has.
        Reply::ClaimedService(_) | Reply::Merged(_) | Reply::Done | Reply::Restored(_) => true,
        Reply::Host(_)
        | Reply::Job(_)
        | Reply::Existing(_)
        | Reply::Service(_)
        | Reply::Freeze(_)
        | Reply::Schedule(_)
        | Reply::Triggered { .. } => false,
    }
}

/// The reply a key stands for already; `None` when it is new, or so old that it is forgotten.
fn known_reply<'k>(
    key: &'k IdempotencyKey,
    stamp: &Stamp,
    archive: &impl Archive,
) -> Option<(&'k IdempotencyKey, Arc<StoredReply>)> {
    let stored = archive.reply(key)?;
    (stored.key.expires_at > stamp.at).then_some((key, stored))
}

impl Draft<'_> {
    fn operate(&mut self, operation: &Operation, archive: &impl Archive) -> Result<Reply, Refusal> {
        match operation {
            Operation::RegisterHost { id, name, capabilities, max_parallel, enforces } => {
                Ok(self.register_host(id, name, capabilities, *max_parallel, enforces.as_ref()))
            }
            Operation::Enqueue { .. } => self.enqueue(operation, archive),
            Operation::Claim { host, max, lease_ms } => self.claim(host, *max, *lease_ms),
            Operation::Complete(completion) => self.complete(completion, archive),
            Operation::SettleDependents { ended } => Ok(self.settle_dependents(ended, archive)),
            Operation::Cancel { id } => self.cancel(id, archive),
            Operation::RenewLeases { leases, lease_ms } => Ok(self.renew_leases(leases, *lease_ms)),
            Operation::ExpireLeases { leases } => Ok(self.expire_leases(leases)),
            Operation::DeployService { id, service } => Ok(self.deploy_service(id, service)),
            Operation::ClaimService { host, running, after } => {
                self.claim_service(host, running.as_deref(), after.as_ref())
            }
            Operation::ReportService { id, report } => self.report_service(id, report),
            Operation::Merge { hosts, jobs, services } => Ok(self.merge(hosts, jobs, services, archive)),
            Operation::PruneReplies => {
                self.changes.push(Change::PruneReplies(self.stamp.at));
                Ok(Reply::Done)
            }
            Operation::StageRestore(part) => Ok(self.stage(part)),
            Operation::CancelRestore { restore } => Ok(self.cancel_restore(restore)),
            // Where it is alone it does not come here.
            Operation::RollBack(back) => Err(Refusal::RestoreNotAlone(back.restore.clone())),
            Operation::ReleaseClaims { restore } => Ok(self.release_claims(restore)),
            Operation::ResolveJob { id, action, reason, by, result } => {
                self.resolve(id, *action, reason.as_ref(), by.as_ref(), result.as_ref(), archive)
            }
            Operation::TellEvents { id, host, fence, events } => {
                self.tell_events(id, host, *fence, events, archive)
            }
            Operation::Freeze { id, scope, reason, by } => {
                self.freeze(id, scope, reason.as_ref(), by.as_ref())
            }
            Operation::Thaw { id, by } => self.thaw(id, by.as_ref()),
            Operation::DrainHost { id, deadline_ms, reason, by } => {
                self.drain_host(id, *deadline_ms, reason.as_ref(), by.as_ref())
            }
            Operation::UndrainHost { id } => self.undrain_host(id),
            Operation::RemoveHost { id, force } => self.remove_host(id, *force),
            Operation::NoteHosts { up, down } => Ok(self.note_hosts(up, down)),
            Operation::NoteSwitch { id, frozen, by } => self.note_switch(id, frozen.as_ref(), by.as_ref()),
            Operation::RetryJob { id, reason, by } => self.retry(id, reason.as_ref(), by.as_ref(), archive),
            Operation::PassTime { most } => Ok(self.pass_time(*most)),
            Operation::CreateSchedule { id, spec, next_at, paused, by } => {
                self.create_schedule(id, spec, *next_at, *paused, by.as_ref())
            }
            Operation::PauseSchedule { schedule, reason, by } => {
                self.pause_schedule(schedule, reason.as_ref(), by.as_ref())
            }
            Operation::ResumeSchedule { schedule, next_at, by } => {
                self.resume_schedule(schedule, *next_at, by.as_ref())
            }
            Operation::DeleteSchedule { schedule } => self.delete_schedule(schedule),
            Operation::FireSchedule(fire) => Ok(self.fire_schedule(fire, archive)),
            Operation::SubmitWaiting { schedule, at, job } => {
                Ok(self.submit_waiting(schedule, *at, job, archive))
            }
            Operation::TriggerSchedule { schedule, job, by } => {
                self.trigger_schedule(schedule, job.as_deref(), by.as_ref(), archive)
            }
            Operation::PruneJobs(prune) => Ok(self.prune_jobs(prune, archive)),
        }
    }

    /// Something that happens by this command.
    fn event(&self, kind: &str, detail: impl Into<String>) -> Event {
        Event { by: self.by.clone(), ..Event::new(self.stamp.at, kind, detail) }
    }

    /// Puts a job's new shape in the place of its old one, in memory and among the changes.
    fn put_job(&mut self, mut job: Job) -> Arc<Job> {
        job.version = self.state.next_version();
        job.updated_at = self.stamp.at.max(job.updated_at);
        job.updated_by = self.stamp.node.clone();
        self.adopt_job(job)
    }

    /// The same for a job that keeps its version and stamp.
    fn adopt_job(&mut self, job: Job) -> Arc<Job> {
        let job = Arc::new(job);
        let old = match &job.phase {
            Phase::Ended(ended) => {
                if self.state.dependents.ended(&job.id) {
                    self.settling.push((job.id.clone(), Some(ended.status)));
                }
                self.state.jobs.remove(&job.id)
            }
            Phase::Queued | Phase::Leased(_) | Phase::Lost(_) => {
                self.state.dependents.is_active(&job.id);
                self.state.jobs.insert(job.id.clone(), Arc::clone(&job))
            }
        };
        if let Some(old) = old {
            self.state.unindex(&old);
        }
        let can_be_claimed = self.state.index(&job);
        self.changes.push(Change::Job(Arc::clone(&job)));
        self.effects.push(Effect::JobChanged { job: job.id.clone() });
        if can_be_claimed {
            self.effects.push(Effect::JobQueued { required: job.needs() });
        }
        job
    }

    fn put_host(&mut self, mut host: Host) -> Arc<Host> {
        host.version = self.state.next_version();
        host.updated_by = self.stamp.node.clone();
        self.adopt_host(host)
    }

    /// The same for a host that keeps its version and stamp.
    fn adopt_host(&mut self, host: Host) -> Arc<Host> {
        let host = Arc::new(host);
        self.state.keep_host(Arc::clone(&host));
        self.changes.push(Change::Host(Arc::clone(&host)));
        host
    }

    /// Brings `active_leases` of a host in line with the leases held in its name.
    fn recount(&mut self, id: &HostId) {
        let held = u32::try_from(self.state.leases.get(id).map_or(0, BTreeSet::len)).unwrap_or(u32::MAX);
        let Some(host) = self.state.hosts.get(id) else { return };
        if host.active_leases != held {
            let host = Host { active_leases: held, ..(**host).clone() };
            self.put_host(host);
        }
    }

    fn put_service(&mut self, mut service: Service) -> Arc<Service> {
        service.version = self.state.next_version();
        service.updated_at = self.stamp.at.max(service.updated_at);
        service.updated_by = self.stamp.node.clone();
        self.adopt_service(service)
    }

    fn adopt_service(&mut self, service: Service) -> Arc<Service> {
        let service = Arc::new(service);
        if let Some(old) = self.state.services.insert(service.id.clone(), Arc::clone(&service)) {
            self.state.service_order.remove(&old.seq);
        }
        self.state.service_order.insert(service.seq, service.id.clone());
        self.changes.push(Change::Service(Arc::clone(&service)));
        self.effects.push(Effect::ServiceChanged { service: service.id.clone() });
        service
    }
}
