//! What the machine holds in memory: the replicated state, and what is soft beside it.
//!
//! Soft means: only the leader's copy counts, nothing of it is written down, and a new leader starts
//! without it and does no harm. Effects of applied commands arrive here in order and none is lost, as
//! they are taken in by the very task that applied the commands.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skyclaw_core::{ById, Change, Effect, Host, HostFreeze, Job, Notice, Operation, State};
use skyclaw_proto::logs::LogWant;
use skyclaw_proto::request::RunningJob;
use skyclaw_proto::response::{self, Stop, StopReason};
use skyclaw_proto::{EventId, HostId, HostState, JobId, RestoreId, ServiceId, Timestamp, record};
use skyclaw_store::Batch;
use tokio::sync::oneshot;

use super::hearing::{Hearing, News};
use super::leases::Leases;
use super::live::Live;
use super::logs::{Logs, is_news};
use super::orders::{Order, orders};
use super::parking::Parking;
use super::seen::Seen;
use super::timetable::Timetable;
use super::watchers::Watchers;

/// What the machine holds in memory.
#[derive(Debug)]
pub(crate) struct Memory {
    /// The replicated state.
    pub(crate) state: State,
    /// What is not in the database yet, newest first.
    pub(crate) unwritten: Unwritten,
    /// Which ids of jobs are not new.
    pub(crate) seen: Seen,
    pub(crate) leases: Leases,
    pub(crate) claims: Parking,
    pub(crate) jobs: Watchers<JobId>,
    /// Which schedule is due when.
    pub(crate) timetable: Timetable,
    /// Those who follow all changes.
    pub(crate) live: Live,
    pub(super) beats: Watchers<HostId>,
    /// Output on its way from hosts to who follows it.
    pub(super) logs: Logs,
    /// Which hosts are heard of.
    pub(super) hearing: Hearing,
    /// What each host was told to stop already: told again in every answer, but no reason to hurry.
    told: ById<HostId, BTreeSet<Order>>,
    /// The service each host that does not say what it runs was told of last.
    last_service: ById<HostId, ServiceId>,
    pub(super) closing: bool,
    /// How often a job has ended.
    ends: u64,
    /// Until when claims find nothing, because somebody waits for all leases to be over.
    pub(super) held_until: Option<Instant>,
    /// When the leader may let claims go on that a restore holds back.
    release_at: Option<Instant>,
    /// The restore whose parts are laid by, and since when this leader has seen it wait.
    staging_since: Option<(RestoreId, Instant)>,
}

/// Changes on their way to the database.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    pub(crate) pending: Batch,
    pub(crate) in_flight: Option<Arc<Batch>>,
}

/// What is known in memory of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lookup<T> {
    /// This is it.
    Here(T),
    /// It is no more, whatever the database says.
    Gone,
    /// The database knows.
    Elsewhere,
}

impl<T> Lookup<T> {
    pub(crate) fn map<R>(self, map: impl FnOnce(T) -> R) -> Lookup<R> {
        match self {
            Self::Here(found) => Lookup::Here(map(found)),
            Self::Gone => Lookup::Gone,
            Self::Elsewhere => Lookup::Elsewhere,
        }
    }
}

impl Unwritten {
    /// A job that changed, or that it is no more.
    pub(crate) fn job(&self, id: &JobId) -> Lookup<&Arc<Job>> {
        for batch in self.batches() {
            match batch.job(id) {
                Some(job) => return Lookup::Here(job),
                None if batch.has_pruned(id) => return Lookup::Gone,
                None => {}
            }
        }
        Lookup::Elsewhere
    }

    /// The batches, newest first.
    pub(crate) fn batches(&self) -> impl Iterator<Item = &Batch> {
        std::iter::once(&self.pending).chain(self.in_flight.as_deref())
    }
}

/// The answer to a heartbeat, and what to wait for before it is sent.
#[derive(Debug)]
pub(crate) struct Beat {
    pub(crate) answer: response::Heartbeat,
    pub(crate) wait: Option<oneshot::Receiver<()>>,
}

impl Memory {
    pub(crate) fn new(state: State, lease: Duration) -> Self {
        let mut timetable = Timetable::default();
        timetable.restart(&state);
        Self {
            state,
            timetable,
            unwritten: Unwritten::default(),
            seen: Seen::default(),
            leases: Leases::new(lease),
            claims: Parking::default(),
            jobs: Watchers::default(),
            live: Live::default(),
            beats: Watchers::default(),
            logs: Logs::default(),
            hearing: Hearing::new(lease, Instant::now()),
            told: ById::default(),
            last_service: ById::default(),
            closing: false,
            ends: 0,
            held_until: None,
            release_at: None,
            staging_since: None,
        }
    }

    /// Takes in what applied commands brought about.
    pub(crate) fn take_in(&mut self, effects: impl IntoIterator<Item = Effect>, now: Instant) {
        for effect in effects {
            match effect {
                // It was claimed in the entry that queued it.
                Effect::JobQueued { .. } if self.state.in_queue() == 0 => {}
                Effect::JobQueued { required } => self.wake_for_job(&required),
                Effect::TurnCame { turn } => self.wake_for_turn(&turn),
                Effect::LeaseHeld { job, fence, host } => self.leases.begin(job, fence, host, now),
                Effect::LeaseOver { job } => self.leases.end(&job),
                Effect::StopRun { host, .. } | Effect::TellHost { host } => self.beats.wake(&host),
                Effect::HostChanged { host } => self.claims.wake_host(&host),
                Effect::JobChanged { job } => {
                    self.jobs.wake(&job);
                    self.timetable.job_changed(&job, &self.state);
                }
                Effect::ScheduleChanged { schedule } => self.timetable.change(&schedule, &self.state),
                Effect::ClaimsReleased => self.claims.wake_all(),
                Effect::ServiceChanged { .. } => {}
            }
        }
    }

    /// Looks at a change that a command brought about. Nothing is kept of a host that is no more (whatever is kept
    /// is of hosts that are known, so nobody has to go through all of them for that), and one that registers has
    /// given a sign of life.
    pub(super) fn look_at(&mut self, operation: &Operation, change: &Change) {
        match change {
            Change::RemoveHost(host) => {
                self.hearing.forget(host);
                self.told.remove(host);
                self.last_service.remove(host);
            }
            Change::Host(host) if matches!(operation, Operation::RegisterHost { .. }) => {
                self.hearing.heard(&host.id, Instant::now());
            }
            Change::Job(job) if job.is_ended() => self.ends += 1,
            _ => {}
        }
    }

    /// Keeps what is told of a change, and tells those who follow.
    pub(super) fn note(&mut self, id: EventId, notice: Notice) {
        if self.live.is_followed() {
            self.live.add(id, &notice);
        }
        self.unwritten.pending.note(id, notice);
    }

    /// The whole state is another from now on: whoever waits looks again.
    pub(crate) fn replace(&mut self, state: State) {
        self.state = state;
        self.unwritten = Unwritten::default();
        self.seen.forget();
        self.held_until = None;
        self.begin_leading(Instant::now());
        self.claims.wake_all();
        self.jobs.wake_all();
        self.beats.wake_all();
        self.logs.clear();
    }

    /// This node leads from now on: every lease has a full period, nobody has been heard of.
    pub(crate) fn begin_leading(&mut self, now: Instant) {
        let held = self.state.leased().map(|(job, lease)| (job.id.clone(), job.fence, lease.host.clone()));
        self.leases.restart(held.collect::<Vec<_>>(), now);
        self.release_at = self.state.claims_held().then(|| now + self.leases.whole());
        self.staging_since = None;
        self.hearing.restart(now);
        self.timetable.restart(&self.state);
        self.told.clear();
        self.last_service.clear();
        self.logs.clear();
    }

    /// This node leads no more: whoever waits here has to ask the new leader.
    pub(crate) fn end_leading(&mut self) {
        self.claims.wake_all();
        self.beats.wake_all();
        self.logs.clear();
    }

    /// Takes in a heartbeat of a host that brings the output `logs`, if it can. `None` when the host is unknown.
    pub(crate) fn beat(
        &mut self,
        id: &HostId,
        running: &[RunningJob],
        logs: Option<&[LogWant]>,
        at: Timestamp,
        now: Instant,
        may_wait: bool,
    ) -> Option<Beat> {
        let host = Arc::clone(self.state.host(id)?);
        self.hearing.beat(id, now, at);
        let mut stop = Vec::new();
        let mut urgent = false;
        for run in running {
            if !self.leases.renew(id, &run.job_id, run.fence, now) {
                stop.push(Stop { job_id: run.job_id.clone(), reason: StopReason::NotLeased });
                urgent = true;
            }
        }
        let orders = orders(&self.state, &host, at);
        let told = self.told.get(id);
        urgent |= orders.iter().any(|order| told.is_none_or(|told| !told.contains(order)));
        let mut stop_services = Vec::new();
        for order in &orders {
            match order {
                Order::Run { stop: order, .. } => stop.push(order.clone()),
                Order::Service(order) => stop_services.push(order.clone()),
            }
        }
        if !orders.is_empty() {
            self.told.insert(id.clone(), orders);
        } else if !self.told.is_empty() {
            self.told.remove(id);
        }
        let wanted = logs.map(|_| self.logs.wanted_of(id, now)).unwrap_or_default();
        urgent |= logs.is_some_and(|serving| is_news(&wanted, serving));
        let wait = (may_wait && !urgent && !self.closing).then(|| self.beats.watch(id.clone()));
        let host = self.seen(&host);
        let answer = response::Heartbeat { host, stop, stop_services, logs: wanted };
        Some(Beat { answer, wait })
    }

    /// What a host was to be told did not reach it.
    pub(crate) fn untell(&mut self, id: &HostId) {
        self.told.remove(id);
    }

    /// The restore after which claims may be answered again: as much time has passed as a lease lasts that
    /// began, unknown here, at the moment of the restore.
    pub(crate) fn to_release(&self, now: Instant) -> Option<RestoreId> {
        self.release_at.filter(|at| *at <= now)?;
        let last = self.state.restores().last().filter(|last| last.claims_held)?;
        Some(last.id.clone())
    }

    /// What is to be written down of which hosts are heard of.
    pub(crate) fn hosts_news(&self, now: Instant, limit: usize) -> News {
        self.hearing.news(&self.state, now, limit, |host| self.waits(host))
    }

    /// Whether a request of a host waits here.
    pub(super) fn waits(&self, host: &HostId) -> bool {
        self.beats.is_watched(host) || self.claims.has(host)
    }

    /// Has hosts look at what they have to stop whose time to be drained is over by now and was not before.
    pub(crate) fn wake_drained(&mut self, before: Timestamp, now: Timestamp) {
        let due = self.state.hosts().filter(|host| {
            let deadline = host.drain().and_then(|drain| drain.deadline);
            deadline.is_some_and(|deadline| before < deadline && deadline <= now)
        });
        for host in due {
            self.beats.wake(&host.id);
        }
    }

    /// A restore whose parts were laid by and that nobody has finished for very long.
    pub(crate) fn abandoned(&mut self, now: Instant, after: Duration) -> Option<RestoreId> {
        let staging = self.state.staging()?;
        match &self.staging_since {
            Some((id, _)) if id == staging && self.held_until.is_none() => {}
            _ => self.staging_since = Some((staging.clone(), now)),
        }
        let (id, since) = self.staging_since.as_ref()?;
        (now.duration_since(*since) > after).then(|| id.clone())
    }

    /// Whether nobody may wait any more.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    /// A job as far as it is in memory: an active one, or one that ended and is not in the database yet.
    pub(crate) fn job(&self, id: &JobId) -> Lookup<Arc<Job>> {
        match self.state.job(id) {
            Some(job) => Lookup::Here(Arc::clone(job)),
            None => self.unwritten.job(id).map(Arc::clone),
        }
    }

    /// How often a job has ended, or changed after its end, since this process began: jobs that have ended are no
    /// more by that many than they were.
    pub(crate) fn ends(&self) -> u64 {
        self.ends
    }

    /// A host with what is known of it beyond the record.
    pub(crate) fn host(&self, id: &HostId) -> Option<record::Host> {
        self.state.host(id).map(|host| self.seen(host))
    }

    fn seen(&self, host: &Host) -> record::Host {
        let mut seen = record::Host::from(host);
        if let Some(beat) = self.hearing.last_beat(&host.id) {
            seen.last_seen_at = seen.last_seen_at.max(beat);
        }
        seen.state.get_or_insert(HostState::Up);
        seen.state_since.get_or_insert(seen.registered_at);
        seen
    }

    /// Whether a host is known, and that it was frozen on its machine.
    pub(crate) fn host_freeze(&self, id: &HostId) -> Option<Option<HostFreeze>> {
        Some(self.state.host(id)?.frozen().cloned())
    }

    /// All hosts by id.
    pub(crate) fn hosts(&self) -> Vec<record::Host> {
        self.state.hosts().map(|host| self.seen(host)).collect()
    }

    /// The service a host was told of last.
    pub(crate) fn last_service(&self, host: &HostId) -> Option<&ServiceId> {
        self.last_service.get(host)
    }

    /// Remembers the service a host was told of.
    pub(crate) fn told_service(&mut self, host: HostId, service: ServiceId) {
        self.last_service.insert(host, service);
    }

    /// Forgets those who wait no more, and wakes who waits although there is something for it: a claim
    /// that was woken may have died before it claimed.
    pub(crate) fn sweep(&mut self) {
        if self.held_until.is_some_and(|until| until <= Instant::now()) {
            self.hold_claims(None);
        }
        self.claims.sweep();
        self.jobs.sweep();
        self.beats.sweep();
        self.logs.sweep(&self.state, Instant::now());
        self.wake_who_was_missed();
    }

    /// Wakes everyone, and lets nobody wait any more.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        self.claims.wake_all();
        self.jobs.wake_all();
        self.beats.wake_all();
        self.logs.clear();
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
pub(super) mod tests;
