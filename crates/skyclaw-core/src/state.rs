//! Everything that is active, in memory, with the indexes that make looking it up cheap.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skyclaw_proto::{
    AssignmentStatus, Capabilities, HostId, JobId, JobStatus, NodeId, RestoreId, ScheduleId, ServiceId,
    Timestamp,
};

use crate::by_id::ById;
use crate::dependents::Dependents;
use crate::freeze::Freeze;
use crate::keys::Unique;
use crate::lanes::{Lanes, Turn};
use crate::model::{Host, Job, Lease, Phase, Service};
use crate::queue::Queue;
use crate::restore::Restore;
use crate::schedule::Schedule;
use crate::standing::{Due, Waiting};

/// Numbers that only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// The next place in the order of enqueueing.
    pub next_seq: u64,
    /// The next version of a record.
    pub next_version: u64,
    /// The next fencing token.
    pub next_fence: u64,
    /// Jobs that ended by then, and ask for no time of their own, were pruned, but for some that must be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruned_to: Option<Timestamp>,
    /// When the last of those ended that were pruned and did ask for a time of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_pruned_to: Option<Timestamp>,
}

impl Default for Counters {
    fn default() -> Self {
        Self { next_seq: 1, next_version: 1, next_fence: 1, pruned_to: None, own_pruned_to: None }
    }
}

/// Everything that is active: hosts, queued, leased and lost jobs, services.
#[derive(Debug, Default)]
pub struct State {
    pub(crate) counters: Counters,
    pub(crate) hosts: BTreeMap<HostId, Arc<Host>>,
    /// What a job may ask of each host.
    pub(crate) offers: HashMap<HostId, Capabilities>,
    /// Those that have not ended.
    pub(crate) jobs: ById<JobId, Arc<Job>>,
    pub(crate) queue: Queue,
    /// How many of them there are in each status, at its place in [`JobStatus::ALL`].
    pub(crate) in_status: [u64; JobStatus::ALL.len()],
    /// Queued jobs that are not in the queue.
    pub(crate) waiting: Waiting,
    /// When there is something to do about a queued job.
    pub(crate) due: Due,
    /// The queued jobs with a concurrency key, and how many with each run.
    pub(crate) lanes: Lanes,
    /// The queued jobs that wait for others.
    pub(crate) dependents: Dependents,
    /// The active jobs with a unique key.
    pub(crate) unique: Unique,
    /// The freezes in force and the newest of those that are over, oldest first.
    pub(crate) freezes: Vec<Arc<Freeze>>,
    /// Those in force alone.
    pub(crate) in_force: Vec<Arc<Freeze>>,
    /// The leased jobs of each host, registered or not.
    pub(crate) leases: BTreeMap<HostId, BTreeSet<JobId>>,
    pub(crate) services: BTreeMap<ServiceId, Arc<Service>>,
    /// The services in the order of their deployment.
    pub(crate) service_order: BTreeMap<u64, ServiceId>,
    /// The newest of the restores there were, oldest first.
    pub(crate) restores: Vec<Arc<Restore>>,
    /// The restore whose parts are laid by.
    pub(crate) staging: Option<RestoreId>,
    /// By their ids, which are in the order of their making.
    pub(crate) schedules: BTreeMap<ScheduleId, Arc<Schedule>>,
    pub(crate) schedule_names: BTreeMap<String, ScheduleId>,
}

/// Whether a claim would find something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimable {
    /// The host is not registered.
    UnknownHost,
    /// The host holds as many as it may, or takes no more.
    Full,
    /// No queued job fits the host.
    Nothing,
    /// There is one.
    Yes,
}

/// What a host that claims a service is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceOffer {
    /// The host is not registered.
    UnknownHost,
    /// There is nothing to run.
    Nothing,
    /// The host has this one already and should see to it that it runs.
    Held(Arc<Service>),
    /// The host may take a replica of this one, which takes a command.
    Free(ServiceId),
}

impl State {
    /// Puts a state together from its records, as they were written down.
    pub fn load(
        hosts: impl IntoIterator<Item = Arc<Host>>,
        active_jobs: impl IntoIterator<Item = Arc<Job>>,
        services: impl IntoIterator<Item = Arc<Service>>,
        counters: Counters,
    ) -> Self {
        let mut state = Self { counters, ..Self::default() };
        for host in hosts {
            state.keep_host(host);
        }
        for job in active_jobs {
            state.index(&job);
            if !job.is_ended() {
                state.dependents.is_active(&job.id);
                state.jobs.insert(job.id.clone(), job);
            }
        }
        for service in services {
            state.service_order.insert(service.seq, service.id.clone());
            state.services.insert(service.id.clone(), service);
        }
        state
    }

    /// The numbers that only grow, to be written down with the changes.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// A host.
    #[must_use]
    pub fn host(&self, id: &HostId) -> Option<&Arc<Host>> {
        self.hosts.get(id)
    }

    /// All hosts by id.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = &Arc<Host>> {
        self.hosts.values()
    }

    /// A queued, leased or lost job.
    #[must_use]
    pub fn job(&self, id: &JobId) -> Option<&Arc<Job>> {
        self.jobs.get(id)
    }

    /// All queued, leased and lost jobs, in no order.
    pub fn active_jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.values()
    }

    /// How many jobs are queued.
    #[must_use]
    pub fn queued(&self) -> usize {
        usize::try_from(self.jobs_in(JobStatus::Queued)).unwrap_or(usize::MAX)
    }

    /// How many jobs there are that some host could be given: that do not wait for their time, their turn or others.
    #[must_use]
    pub fn in_queue(&self) -> usize {
        self.queue.len()
    }

    /// How many jobs are in a status; of those that have ended, none is counted.
    #[must_use]
    pub fn jobs_in(&self, status: JobStatus) -> u64 {
        self.in_status[status as usize]
    }

    /// What a job may ask of a host.
    #[must_use]
    pub fn offers(&self, host: &HostId) -> Option<&Capabilities> {
        self.offers.get(host)
    }

    /// All leased jobs, by host.
    pub fn leased(&self) -> impl Iterator<Item = (&Arc<Job>, &Lease)> {
        let jobs = self.leases.values().flatten().filter_map(|id| self.jobs.get(id));
        jobs.filter_map(|job| Some((job, job.lease()?)))
    }

    /// The leased jobs of one host, by id.
    pub fn leased_by(&self, host: &HostId) -> impl Iterator<Item = (&Arc<Job>, &Lease)> {
        let jobs = self.leases.get(host).into_iter().flatten().filter_map(|id| self.jobs.get(id));
        jobs.filter_map(|job| Some((job, job.lease()?)))
    }

    /// A service.
    #[must_use]
    pub fn service(&self, id: &ServiceId) -> Option<&Arc<Service>> {
        self.services.get(id)
    }

    /// All services, oldest first.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.service_order.values().filter_map(|id| self.services.get(id))
    }

    /// Whether a claim would find something. (Changes nothing but a cache.)
    pub fn claimable(&mut self, host: &HostId) -> Claimable {
        let Some(known) = self.hosts.get(host) else { return Claimable::UnknownHost };
        if self.claims_stopped() {
            return Claimable::Nothing;
        }
        if known.active_leases >= known.max_parallel || !known.takes_work() {
            return Claimable::Full;
        }
        let Some(offers) = self.offers.get(host) else { return Claimable::UnknownHost };
        if self.queue.first(offers).is_some() { Claimable::Yes } else { Claimable::Nothing }
    }

    /// Whether nobody is given a job at the moment.
    #[must_use]
    pub fn claims_stopped(&self) -> bool {
        self.claims_held() || self.is_all_frozen()
    }

    /// Whether a job is queued that a host that offers this could take. (Changes nothing but a cache.)
    pub fn queued_for(&mut self, offers: &Capabilities) -> bool {
        !self.claims_stopped() && self.queue.first(offers).is_some()
    }

    /// What the jobs ask for, in their order, that have this turn: where it is told of with an
    /// [`Effect::TurnCame`](crate::Effect::TurnCame), and that is while they ask for many different things.
    pub fn have_turn(&self, turn: &Turn) -> impl Iterator<Item = &Capabilities> {
        self.lanes.firsts(&self.queue, turn)
    }

    /// What a host that claims a service is told.
    ///
    /// First come services with a replica to spare, oldest first. Then those the host has already: of
    /// a host that says what runs, only what does not; to one that does not say, one after the other,
    /// the one behind `after` first. What is frozen is nobody's, and a drained or frozen host is told of none.
    #[must_use]
    pub fn service_offer(
        &self,
        host: &HostId,
        running: Option<&[ServiceId]>,
        after: Option<&ServiceId>,
        now: Timestamp,
    ) -> ServiceOffer {
        let Some(host) = self.hosts.get(host) else { return ServiceOffer::UnknownHost };
        if !host.takes_work() {
            return ServiceOffer::Nothing;
        }
        let free = self.services().find(|s| {
            host.capabilities.covers(&s.required)
                && can_take_replica(s, &host.id, now)
                && self.freeze_of_service(s).is_none()
        });
        if let Some(service) = free {
            return ServiceOffer::Free(service.id.clone());
        }
        let is_held = |s: &&Arc<Service>| {
            s.assignment(&host.id).is_some_and(|a| a.status != AssignmentStatus::Failed)
                && running.is_none_or(|ids| !ids.contains(&s.id))
                && self.freeze_of_service(s).is_none()
        };
        let last = after.and_then(|id| self.services.get(id)).map_or(0, |s| s.seq);
        let held = |(_, id): (&u64, &ServiceId)| self.services.get(id).filter(is_held).cloned();
        let next = self.service_order.range(last + 1..).find_map(held);
        match next.or_else(|| self.service_order.range(..=last).find_map(held)) {
            Some(service) => ServiceOffer::Held(service),
            None => ServiceOffer::Nothing,
        }
    }

    /// Puts a job into the indexes its phase asks for. True when it can be claimed.
    pub(crate) fn index(&mut self, job: &Job) -> bool {
        if !job.is_ended() {
            self.in_status[job.status() as usize] += 1;
        }
        if job.bonds.is_some() {
            self.index_bonds(job);
        }
        match &job.phase {
            Phase::Queued => return self.stand(job),
            Phase::Leased(lease) => {
                self.leases.entry(lease.host.clone()).or_default().insert(job.id.clone());
            }
            Phase::Ended(_) | Phase::Lost(_) => {}
        }
        false
    }

    /// What ties an active job to others beyond its place among the queued ones.
    fn index_bonds(&mut self, job: &Job) {
        if let Some(key) = job.unique_key().filter(|_| !job.is_ended()) {
            self.unique.insert(key, job.seq, &job.id);
        }
        if let Some(turn) = job.turn().filter(|_| job.may_run()) {
            self.lanes.begin(&mut self.queue, &turn.key);
        }
    }

    fn unindex_bonds(&mut self, job: &Job) {
        if let Some(key) = job.unique_key().filter(|_| !job.is_ended()) {
            self.unique.remove(&key, job.seq);
        }
        if let Some(turn) = job.turn().filter(|_| job.may_run()) {
            self.lanes.end(&mut self.queue, &turn.key);
        }
    }

    /// Takes a job out of the indexes of its phase.
    pub(crate) fn unindex(&mut self, job: &Job) {
        if job.bonds.is_some() {
            self.unindex_bonds(job);
        }
        if !job.is_ended() {
            let count = &mut self.in_status[job.status() as usize];
            *count = count.saturating_sub(1);
        }
        match &job.phase {
            Phase::Queued => self.leave(job),
            Phase::Leased(lease) => {
                if let Some(held) = self.leases.get_mut(&lease.host) {
                    held.remove(&job.id);
                    if held.is_empty() {
                        self.leases.remove(&lease.host);
                    }
                }
            }
            Phase::Ended(_) | Phase::Lost(_) => {}
        }
    }

    /// Keeps a host as it is now.
    pub(crate) fn keep_host(&mut self, host: Arc<Host>) {
        let is_same =
            |old: &Arc<Host>| (&old.capabilities, &old.enforces) == (&host.capabilities, &host.enforces);
        if !self.hosts.get(&host.id).is_some_and(is_same) {
            self.offers.insert(host.id.clone(), host.offers());
        }
        self.hosts.insert(host.id.clone(), host);
    }

    pub(crate) fn next_version(&mut self) -> u64 {
        let version = self.counters.next_version;
        self.counters.next_version = version.saturating_add(1);
        version
    }

    pub(crate) fn next_seq(&mut self) -> u64 {
        let seq = self.counters.next_seq;
        self.counters.next_seq += 1;
        seq
    }
}

/// Whether a host may take a replica of a service now: one is missing, and what failed in its place has
/// been left alone for long enough.
pub(crate) fn can_take_replica(service: &Service, host: &HostId, now: Timestamp) -> bool {
    let live = service.assignments.iter().filter(|a| a.status != AssignmentStatus::Failed).count();
    if live >= service.replicas as usize {
        return false;
    }
    match service.assignment(host) {
        Some(own) if own.status != AssignmentStatus::Failed => false,
        Some(own) => now >= own.updated_at.plus(restart_backoff(own.failures)),
        None if service.assignments.len() < service.replicas as usize => true,
        // Another host is one failure ahead of the one that failed: it steps in at once the first time.
        None => {
            longest_failed(service).and_then(|index| service.assignments.get(index)).is_some_and(|gone| {
                now >= gone.updated_at.plus(restart_backoff(gone.failures.saturating_sub(1)))
            })
        }
    }
}

/// Which replica makes room for another.
pub(crate) fn longest_failed(service: &Service) -> Option<usize> {
    let failed = service.assignments.iter().enumerate().filter(|(_, a)| a.status == AssignmentStatus::Failed);
    failed.min_by_key(|(_, a)| a.updated_at).map(|(index, _)| index)
}

/// How long a service that failed `failures` times in a row is left alone: not at all, then 1 s, doubled
/// each time, at most 5 minutes.
fn restart_backoff(failures: u32) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
    Duration::from_secs((1u64 << doublings.min(9)).min(300))
}

/// What stamps a change: when it was made and by which coordinator.
#[derive(Debug, Clone)]
pub(crate) struct Stamp {
    pub(crate) at: Timestamp,
    pub(crate) node: NodeId,
}
