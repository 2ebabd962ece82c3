//! A state machine with what it wrote down beside it, as a node has them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skyclaw_proto::request::{DeployService, ReportService};
use skyclaw_proto::{
    AssignmentStatus, Capabilities, Enforces, FreezeId, HostId, JobId, NodeId, Payload, Resolution,
    RestoreId, ScheduleId, Scope, ServiceId, Terms, Timestamp,
};

use crate::archive::Archive;
use crate::command::{Command, Completion, IdempotencyKey, LeaseRef, Operation};
use crate::freeze::Freeze;
use crate::model::{Host, Job, Service};
use crate::outcome::{Change, Outcome, Refusal, Reply, StoredReply};
use crate::restore::Restore;
use crate::retention::EndedJob;
use crate::schedule::Schedule;
use crate::state::{Counters, State};

/// 2026-01-01T00:00:00Z.
pub(super) const START_MS: i64 = 1_767_225_600_000;
pub(super) const LEASE_MS: u64 = 60_000;

pub(super) fn host_id(id: &str) -> HostId {
    HostId::parse(id).expect("an id")
}

pub(super) fn job_id(id: &str) -> JobId {
    JobId::parse(id).expect("an id")
}

pub(super) fn service_id(id: &str) -> ServiceId {
    ServiceId::parse(id).expect("an id")
}

pub(super) fn freeze_id(id: &str) -> FreezeId {
    FreezeId::parse(id).expect("an id")
}

pub(super) fn host_of(reply: Result<Reply, Refusal>) -> Arc<Host> {
    match reply {
        Ok(Reply::Host(host)) => host,
        other => panic!("not a host: {other:?}"),
    }
}

pub(super) fn node_id(id: &str) -> NodeId {
    NodeId::parse(id).expect("an id")
}

/// What was written down: the changes of every command, in plain maps.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Records {
    pub(super) hosts: BTreeMap<HostId, Arc<Host>>,
    /// Ended ones too.
    pub(super) jobs: BTreeMap<JobId, Arc<Job>>,
    pub(super) services: BTreeMap<ServiceId, Arc<Service>>,
    replies: BTreeMap<[String; 3], Arc<StoredReply>>,
    pub(super) restores: BTreeMap<u64, Arc<Restore>>,
    pub(super) staged: Option<(RestoreId, BTreeMap<u32, Vec<u8>>)>,
    pub(super) freezes: BTreeMap<u64, Arc<Freeze>>,
    pub(super) schedules: BTreeMap<ScheduleId, Arc<Schedule>>,
}

fn slot(key: &IdempotencyKey) -> [String; 3] {
    [key.caller.clone(), key.route.clone(), key.key.clone()]
}

impl Records {
    fn write(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Host(host) => drop(self.hosts.insert(host.id.clone(), Arc::clone(host))),
                Change::RemoveHost(id) => drop(self.hosts.remove(id)),
                Change::Job(job) => drop(self.jobs.insert(job.id.clone(), Arc::clone(job))),
                Change::Service(service) => {
                    self.services.insert(service.id.clone(), Arc::clone(service));
                }
                Change::Reply(reply) => drop(self.replies.insert(slot(&reply.key), Arc::clone(reply))),
                Change::PruneReplies(at) => self.replies.retain(|_, reply| reply.key.expires_at >= *at),
                Change::Stage(part) => {
                    if self.staged.as_ref().is_none_or(|(restore, _)| *restore != part.restore) {
                        self.staged = Some((part.restore.clone(), BTreeMap::new()));
                    }
                    let parts = self.staged.as_mut().map(|(_, parts)| parts);
                    parts.map(|parts| parts.insert(part.part, part.bytes.clone()));
                }
                Change::DropStaged => self.staged = None,
                Change::Restore(restore) => {
                    drop(self.restores.insert(restore.number, Arc::clone(restore)));
                }
                Change::Freeze(freeze) => drop(self.freezes.insert(freeze.number, Arc::clone(freeze))),
                Change::ForgetFreeze(number) => drop(self.freezes.remove(number)),
                Change::Schedule(schedule) => {
                    drop(self.schedules.insert(schedule.id.clone(), Arc::clone(schedule)));
                }
                Change::RemoveSchedule(id) => drop(self.schedules.remove(id)),
                Change::PruneJobs(pruned) => {
                    for (id, seq) in &pruned.jobs {
                        let gone = self.jobs.remove(id);
                        assert_eq!(gone.map(|job| job.seq), Some(*seq), "{id} was there");
                    }
                }
            }
        }
    }

    pub(super) fn active_jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.values().filter(|job| !job.is_ended())
    }
}

impl Archive for Records {
    fn job(&self, id: &JobId) -> Option<Arc<Job>> {
        self.jobs.get(id).filter(|job| job.is_ended()).cloned()
    }
    fn ended(&self, id: &JobId) -> Option<EndedJob> {
        EndedJob::of(self.jobs.get(id)?)
    }
    fn reply(&self, key: &IdempotencyKey) -> Option<Arc<StoredReply>> {
        self.replies.get(&slot(key)).cloned()
    }
}

/// Records that may be asked only for what the command names.
struct Named<'a> {
    records: &'a Records,
    command: &'a Command,
}

impl Archive for Named<'_> {
    fn job(&self, id: &JobId) -> Option<Arc<Job>> {
        let is_named = self.command.operation.named_jobs().any(|named| named == id);
        assert!(is_named, "{id} is looked up and not named by {:?}", self.command.operation);
        self.records.job(id)
    }
    fn ended(&self, id: &JobId) -> Option<EndedJob> {
        let is_named = self.command.operation.pruned_jobs().any(|named| named == id);
        assert!(is_named, "{id} is looked up and not pruned by {:?}", self.command.operation);
        self.records.ended(id)
    }
    fn reply(&self, key: &IdempotencyKey) -> Option<Arc<StoredReply>> {
        assert_eq!(self.command.idempotency.as_ref(), Some(key));
        self.records.reply(key)
    }
}

/// What is in memory, to be compared.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Memory {
    pub(super) hosts: BTreeMap<HostId, Arc<Host>>,
    pub(super) active: BTreeMap<JobId, Arc<Job>>,
    pub(super) services: Vec<Arc<Service>>,
    pub(super) counters: Counters,
    pub(super) restores: Vec<Arc<Restore>>,
    pub(super) staging: Option<RestoreId>,
    pub(super) freezes: Vec<Arc<Freeze>>,
    pub(super) schedules: BTreeMap<ScheduleId, Arc<Schedule>>,
}

impl Memory {
    pub(super) fn of(state: &State) -> Self {
        Self {
            hosts: state.hosts().map(|host| (host.id.clone(), Arc::clone(host))).collect(),
            active: state.active_jobs().map(|job| (job.id.clone(), Arc::clone(job))).collect(),
            services: state.services().cloned().collect(),
            counters: state.counters(),
            restores: state.restores().to_vec(),
            staging: state.staging().cloned(),
            freezes: state.freezes().to_vec(),
            schedules: state.schedules().map(|it| (it.id.clone(), Arc::clone(it))).collect(),
        }
    }
}

/// A state, its records and a clock.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) state: State,
    pub(super) records: Records,
    passed: Duration,
}

impl World {
    /// The same world after a restart: the state is put together from the records.
    pub(super) fn restart(&mut self) {
        self.state = State::load(
            self.records.hosts.values().cloned(),
            self.records.active_jobs().cloned(),
            self.records.services.values().cloned(),
            self.state.counters(),
        )
        .with_restores(
            self.records.restores.values().cloned(),
            self.records.staged.as_ref().map(|(restore, _)| restore.clone()),
        )
        .with_freezes(self.records.freezes.values().cloned())
        .with_schedules(self.records.schedules.values().cloned());
    }

    pub(super) fn apply(&mut self, command: &Command) -> Outcome {
        let outcome = self.state.apply(command, &Named { records: &self.records, command });
        self.records.write(&outcome.changes);
        outcome
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_millis(START_MS).plus(self.passed)
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.passed += time;
    }

    /// The command that asks for an operation here and now, without a key.
    pub(super) fn command(&self, operation: Operation) -> Command {
        Command { at: self.now(), node: node_id("node_a"), idempotency: None, by: None, operation }
    }

    pub(super) fn run(&mut self, operation: Operation) -> Result<Reply, Refusal> {
        self.apply(&self.command(operation)).reply
    }

    pub(super) fn register(&mut self, host: &str, capabilities: &[&str], max_parallel: u32) -> Arc<Host> {
        let capabilities = Capabilities::new(capabilities);
        let (id, name, enforces) = (host_id(host), host.into(), None);
        host_of(self.run(Operation::RegisterHost { id, name, capabilities, max_parallel, enforces }))
    }

    /// A host that says what it can enforce.
    pub(super) fn register_enforcing(&mut self, host: &str, can: &[&str]) -> Arc<Host> {
        let can = can.iter().map(|word| (*word).to_owned()).collect();
        let enforces = Some(Arc::new(Enforces { can, ..Enforces::default() }));
        let (id, name, capabilities) = (host_id(host), host.into(), Capabilities::default());
        host_of(self.run(Operation::RegisterHost { id, name, capabilities, max_parallel: 5, enforces }))
    }

    /// A job that is to be run like this.
    pub(super) fn enqueue_with(&mut self, job: &str, terms: Terms, labels: &[(&str, &str)]) -> Arc<Job> {
        let mut operation = enqueue(job, &[], 50);
        if let Operation::Enqueue { terms: own, labels: pairs, .. } = &mut operation {
            *own = terms.kept().map(Into::into);
            *pairs = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        }
        job_of(self.run(operation))
    }

    pub(super) fn freeze(&mut self, id: &str, scope: Scope) -> Result<Reply, Refusal> {
        let (reason, by) = (Some("a test".to_owned()), Some("ann".to_owned()));
        self.run(Operation::Freeze { id: freeze_id(id), scope, reason, by })
    }

    pub(super) fn thaw(&mut self, id: &str) -> Result<Reply, Refusal> {
        self.run(Operation::Thaw { id: freeze_id(id), by: None })
    }

    pub(super) fn drain(&mut self, host: &str, deadline_ms: Option<u64>) -> Arc<Host> {
        let (reason, by) = (Some("new disk".to_owned()), None);
        host_of(self.run(Operation::DrainHost { id: host_id(host), deadline_ms, reason, by }))
    }

    pub(super) fn resolve(&mut self, job: &str, action: Resolution) -> Result<Reply, Refusal> {
        let (reason, by) = (Some("looked".to_owned()), Some("ann".to_owned()));
        self.run(Operation::ResolveJob { id: job_id(job), action, reason, by, result: None })
    }

    pub(super) fn enqueue(&mut self, job: &str, required: &[&str], priority: u8) -> Arc<Job> {
        job_of(self.run(enqueue(job, required, priority)))
    }

    pub(super) fn claim(&mut self, host: &str, max: u32) -> Vec<Arc<Job>> {
        match self.run(claim(host, max)) {
            Ok(Reply::Claimed(jobs)) => jobs,
            other => panic!("not a claim: {other:?}"),
        }
    }

    pub(super) fn cancel(&mut self, job: &str) -> Result<Reply, Refusal> {
        self.run(Operation::Cancel { id: job_id(job) })
    }

    pub(super) fn complete(&mut self, job: &str, host: &str, success: bool) -> Result<Reply, Refusal> {
        self.run(Operation::Complete(completion(job, host, success)))
    }

    pub(super) fn expire(&mut self, job: &Job) -> Result<Reply, Refusal> {
        self.run(Operation::ExpireLeases { leases: vec![lease_of(job)] })
    }

    pub(super) fn deploy(&mut self, service: &str, replicas: u32) -> Arc<Service> {
        let required_capabilities = Capabilities::default();
        let deploy = DeployService {
            service_id: None,
            name: service.into(),
            command: "serve".into(),
            args: Vec::new(),
            cwd: None,
            env: None,
            replicas,
            required_capabilities,
            labels: BTreeMap::new(),
            agent_id: None,
        };
        let operation = Operation::DeployService { id: service_id(service), service: Box::new(deploy) };
        service_of(self.run(operation))
    }

    /// What a host that says nothing of what it runs is told.
    pub(super) fn claim_service(&mut self, host: &str) -> Option<Arc<Service>> {
        self.claim_service_after(host, None)
    }

    pub(super) fn claim_service_after(&mut self, host: &str, after: Option<&str>) -> Option<Arc<Service>> {
        let after = after.map(service_id);
        match self.run(Operation::ClaimService { host: host_id(host), running: None, after }) {
            Ok(Reply::ClaimedService(service)) => service,
            other => panic!("not a claim: {other:?}"),
        }
    }

    pub(super) fn report(&mut self, service: &str, host: &str, status: AssignmentStatus) -> Arc<Service> {
        service_of(self.run(report(service, host, status)))
    }
}

pub(super) fn enqueue(job: &str, required: &[&str], priority: u8) -> Operation {
    Operation::Enqueue {
        id: job_id(job),
        payload: Arc::new(Payload::OpenclawRun(Default::default())),
        required: Capabilities::new(required),
        submitted_by: None,
        priority,
        labels: BTreeMap::new(),
        terms: None,
        plan: None,
        links: None,
    }
}

pub(super) fn claim(host: &str, max: u32) -> Operation {
    Operation::Claim { host: host_id(host), max, lease_ms: LEASE_MS }
}

pub(super) fn completion(job: &str, host: &str, success: bool) -> Completion {
    Completion {
        duration_ms: 7,
        stdout: "out".into(),
        stderr: "err".into(),
        error: (!success).then(|| "broke".into()),
        ..Completion::new(job_id(job), host_id(host), success)
    }
}

pub(super) fn report(service: &str, host: &str, status: AssignmentStatus) -> Operation {
    let report = ReportService { host_id: host_id(host), status, endpoint: None, error: None };
    Operation::ReportService { id: service_id(service), report }
}

pub(super) fn lease_of(job: &Job) -> LeaseRef {
    LeaseRef { job: job.id.clone(), fence: job.fence }
}

pub(super) fn job_of(reply: Result<Reply, Refusal>) -> Arc<Job> {
    match reply {
        Ok(Reply::Job(job)) => job,
        other => panic!("not a job: {other:?}"),
    }
}

pub(super) fn service_of(reply: Result<Reply, Refusal>) -> Arc<Service> {
    match reply {
        Ok(Reply::Service(service)) => service,
        other => panic!("not a service: {other:?}"),
    }
}
