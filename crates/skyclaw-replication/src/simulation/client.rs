//! Clients: each is a host as well, and does one thing after the other at whatever node it likes.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skyclaw_core::{Completion, IdempotencyKey, Operation, Reply};
use skyclaw_proto::{Capabilities, HostId, JobId, JobStatus, Links, OnDependencyFailure, Plan, Retry};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::history::{Act, Asks, Event, History, Time, Told, View};
use super::member::{CLOCK_SPEED, clock};
use super::net::Net;
use crate::node::kit::enqueue_with;
use crate::{Node, WriteError, Written};

/// How long a node may take for anything before the client turns away.
const PATIENCE: Duration = Duration::from_secs(12);
/// A lease this long does not run out while anything is tried.
pub(super) const LONG_LEASE: Duration = Duration::from_secs(3600);
/// How far the wall clock and that of the history may be apart, in nanoseconds of the latter: one counts milliseconds.
const CLOCKS: Time = 5_000_000;
/// How many of the newest jobs are talked about.
const RECENT: usize = 12;

/// What all clients share.
#[derive(Clone)]
pub(super) struct World {
    pub(super) net: Arc<Net>,
    pub(super) urls: Vec<String>,
    pub(super) lease: Duration,
    pub(super) began: Instant,
    pub(super) history: Arc<Mutex<History>>,
    pub(super) keys: Arc<Mutex<Vec<IdempotencyKey>>>,
    recent: Arc<Mutex<Vec<JobId>>>,
    /// No new work is begun.
    pub(super) closing: CancellationToken,
}

impl World {
    pub(super) fn new(net: Arc<Net>, urls: Vec<String>, lease: Duration) -> Self {
        let (history, keys, recent, closing) = Default::default();
        Self { net, urls, lease, began: Instant::now(), history, keys, recent, closing }
    }

    pub(super) fn now(&self) -> Time {
        u64::try_from(self.began.elapsed().as_nanos()).expect("a short simulation")
    }

    pub(super) fn note(&self, event: Event) {
        self.history.lock().expect("no panic").events.push(event);
    }
}

/// A client.
pub(super) struct Client {
    world: World,
    rng: StdRng,
    host: HostId,
    /// What it claimed and has not completed.
    held: Vec<(JobId, u64)>,
    counter: u64,
}

/// What came of one attempt.
type Attempt = Result<Told, WriteError>;

impl Client {
    pub(super) fn new(world: &World, nth: usize, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed.wrapping_mul(1000).wrapping_add(nth as u64));
        let host = HostId::parse(&format!("host-{nth}")).expect("an id");
        Self { world: world.clone(), rng, host, held: Vec::new(), counter: 0 }
    }

    /// Works until there is to be no new work.
    pub(super) async fn run(mut self) {
        self.register().await;
        while !self.world.closing.is_cancelled() {
            let keyed = self.rng.random_bool(0.7);
            match self.rng.random_range(0..100) {
                0..30 => self.enqueue(keyed).await,
                30..55 => self.claim(keyed).await,
                55..80 => self.complete(keyed).await,
                80..87 => self.cancel(keyed).await,
                87..91 => self.retry(keyed).await,
                _ => self.read().await,
            }
        }
    }

    /// A node, and where it runs.
    fn pick(&mut self) -> Option<(Node, tokio::runtime::Handle)> {
        let url = &self.world.urls[self.rng.random_range(0..self.world.urls.len())];
        self.world.net.node(url)
    }

    /// Does something at any node that runs. A node that dies meanwhile leaves the outcome unknown.
    async fn at_a_node<F>(&mut self, act: impl FnOnce(Node) -> F) -> Attempt
    where
        F: Future<Output = Attempt> + Send + 'static,
    {
        let Some((node, runtime)) = self.pick() else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            return Err(WriteError::NoLeader);
        };
        match tokio::time::timeout(PATIENCE, runtime.spawn(act(node))).await {
            Ok(Ok(attempt)) => attempt,
            Ok(Err(_)) | Err(_) => Err(WriteError::OutcomeUnknown),
        }
    }

    async fn register(&mut self) {
        while !self.world.closing.is_cancelled() {
            let operation = Operation::RegisterHost {
                id: self.host.clone(),
                name: "simulated".into(),
                capabilities: Capabilities::new(["shell"]),
                max_parallel: 3,
                enforces: None,
            };
            let register =
                |node: Node| async move { node.write(None, operation).await.map(|_| Told::Nothing) };
            if self.at_a_node(register).await.is_ok() {
                return;
            }
        }
    }

    fn key(&mut self, route: &str) -> IdempotencyKey {
        self.counter += 1;
        let key = IdempotencyKey {
            caller: self.host.to_string(),
            route: route.to_owned(),
            key: self.counter.to_string(),
            fingerprint: [7; 32],
            expires_at: clock().plus(Duration::from_secs(24 * 3600)),
        };
        self.world.keys.lock().expect("no panic").push(key.clone());
        key
    }

    /// Tries until it is known what came of it, if it may be tried again; notes what was done.
    async fn settle<F>(
        &mut self,
        act: impl FnOnce() -> Act,
        keyed: bool,
        mut attempt: impl FnMut(Node) -> F,
    ) -> Told
    where
        F: Future<Output = Attempt> + Send + 'static,
    {
        let asked = self.world.now();
        let told = loop {
            match self.at_a_node(&mut attempt).await {
                Ok(told) => break told,
                Err(WriteError::Refused(refusal)) => break Told::Refused(refusal),
                Err(_) if keyed => {}
                Err(WriteError::OutcomeUnknown | WriteError::TargetNotMet { .. }) => break Told::Unknown,
                // Nothing was written.
                Err(_) if self.world.closing.is_cancelled() => return Told::Unknown,
                Err(_) => {}
            }
        };
        let told_at = if told == Told::Unknown { Time::MAX } else { self.world.now() };
        self.world.note(Event { asked, told_at, keyed, act: act(), told: told.clone() });
        told
    }

    async fn enqueue(&mut self, keyed: bool) {
        let key = keyed.then(|| self.key("/v1/jobs"));
        let (mut asks, plan) = self.plan();
        let links = if plan.is_none() { self.links(&mut asks) } else { None };
        let after = links.as_ref().map(|links| links.depends_on[0].clone());
        // Every attempt brings an id of its own, as a coordinator makes one for each request.
        let ids = Arc::new(Mutex::new(Vec::new()));
        let made = Arc::clone(&ids);
        let attempt = move |node: Node| {
            let id = JobId::from_uuid(Uuid::now_v7());
            made.lock().expect("no panic").push(id.clone());
            let key = key.clone();
            let operation = enqueue_with(id, plan.clone(), links.clone());
            async move { node.write(key, operation).await.map(told_job) }
        };
        let act = || Act::Enqueue { ids: ids.lock().expect("no panic").clone(), asks, after };
        let told = self.settle(act, keyed, attempt).await;
        if let Told::Job(id, _) = told {
            let mut recent = self.world.recent.lock().expect("no panic");
            recent.push(id);
            if recent.len() > RECENT {
                recent.remove(0);
            }
        }
    }

    /// What the next job is to be: mostly as it is without a plan.
    fn plan(&mut self) -> (Asks, Option<Arc<Plan>>) {
        let mut asks = Asks::default();
        let mut plan = Plan::default();
        match self.rng.random_range(0..10) {
            0..3 => {
                // Where leases run out, it depends on claims that nobody was told of how many tries are left; so
                // there are enough.
                let most = if self.world.lease < LONG_LEASE { 100 } else { self.rng.random_range(2..=3) };
                asks.tries = Some(most);
                plan.retry = Some(Retry { max_attempts: most, backoff_ms: 0, max_backoff_ms: 0 });
            }
            3 => {
                let wait = Duration::from_millis(self.rng.random_range(50..600));
                // By both clocks: one is what is asked for, the other what is checked, never later.
                asks.not_before = Some(self.world.now() + nanos(wait) - CLOCKS);
                plan.not_before = Some(clock().plus(wait * CLOCK_SPEED));
            }
            4 => {
                let wait = self.rng.random_range(50..600);
                asks.ttl = Some(nanos(Duration::from_millis(wait)) - CLOCKS);
                plan.ttl_ms = Some(wait * u64::from(CLOCK_SPEED));
            }
            _ => {}
        }
        (asks, (plan != Plan::default()).then(|| Arc::new(plan)))
    }

    /// The job that the next one is to depend on: mostly none.
    fn links(&mut self, asks: &mut Asks) -> Option<Arc<Links>> {
        let depends_on = vec![self.recent().filter(|_| self.rng.random_bool(0.25))?];
        let (on_dependency_failure, status) = match self.rng.random_bool(0.5) {
            true => (OnDependencyFailure::Fail, JobStatus::Failed),
            false => (OnDependencyFailure::Skip, JobStatus::Cancelled),
        };
        asks.fails_as = Some(status);
        Some(Arc::new(Links { depends_on, on_dependency_failure, ..Links::default() }))
    }

    async fn claim(&mut self, keyed: bool) {
        let key = keyed.then(|| self.key("/v1/jobs/claim"));
        let (host, max) = (self.host.clone(), self.rng.random_range(1..=2));
        let wait = Duration::from_millis(self.rng.random_range(0..3) * 100);
        let act = Act::Claim { host: host.clone() };
        let act = || act;
        let attempt = move |node: Node| {
            let (host, key) = (host.clone(), key.clone());
            async move { node.claim(&host, max, wait, key).await.map(told_claim) }
        };
        if let Told::Claimed(jobs) = self.settle(act, keyed, attempt).await {
            self.held.extend(jobs.into_iter().map(|(job, view)| (job, view.fence)));
        }
    }

    async fn complete(&mut self, keyed: bool) {
        let own = self.rng.random_bool(0.9);
        let named = match own {
            true if self.held.is_empty() => return,
            true => self.held.remove(self.rng.random_range(0..self.held.len())),
            false => match self.recent() {
                Some(job) => (job, self.rng.random_range(1..20)),
                None => return,
            },
        };
        // With the token of somebody else's lease it must not get through.
        let (job, fence) = named;
        let key = keyed.then(|| self.key(&format!("/v1/jobs/{job}/complete")));
        let (host, success) = (self.host.clone(), self.rng.random_bool(0.8));
        let act = Act::Complete { job: job.clone(), host: host.clone(), fence, success };
        let act = || act;
        let completion = Completion { fence: Some(fence), ..Completion::new(job, host, success) };
        let attempt = move |node: Node| {
            let (key, operation) = (key.clone(), Operation::Complete(completion.clone()));
            async move { node.write(key, operation).await.map(told_job) }
        };
        self.settle(act, keyed, attempt).await;
    }

    async fn cancel(&mut self, keyed: bool) {
        let Some(job) = self.recent() else { return };
        let key = keyed.then(|| self.key(&format!("/v1/jobs/{job}/cancel")));
        let act = Act::Cancel { job: job.clone() };
        let act = || act;
        let attempt = move |node: Node| {
            let (key, operation) = (key.clone(), Operation::Cancel { id: job.clone() });
            async move { node.write(key, operation).await.map(told_job) }
        };
        self.settle(act, keyed, attempt).await;
    }

    async fn retry(&mut self, keyed: bool) {
        let Some(job) = self.recent() else { return };
        let key = keyed.then(|| self.key(&format!("/v1/jobs/{job}/retry")));
        let act = Act::Retry { job: job.clone() };
        let act = || act;
        let attempt = move |node: Node| {
            let operation = Operation::RetryJob { id: job.clone(), reason: None, by: None };
            let key = key.clone();
            async move { node.write(key, operation).await.map(told_job) }
        };
        self.settle(act, keyed, attempt).await;
    }

    async fn read(&mut self) {
        let Some(job) = self.recent() else { return };
        let act = Act::Read { job: job.clone() };
        let act = || act;
        let attempt = move |node: Node| {
            let job = job.clone();
            async move { read(&node, &job).await }
        };
        self.settle(act, false, attempt).await;
    }

    fn recent(&mut self) -> Option<JobId> {
        let recent = self.world.recent.lock().expect("no panic");
        (!recent.is_empty()).then(|| recent[self.rng.random_range(0..recent.len())].clone())
    }
}

/// Reads a job as it was after all that was acknowledged before.
pub(super) async fn read(node: &Node, job: &JobId) -> Attempt {
    node.catch_up(Duration::from_secs(5)).await?;
    let found = node.job(job).await.map_err(|_| WriteError::ShuttingDown)?;
    Ok(found.map_or(Told::Nothing, |found| Told::Job(found.id.clone(), View::of(&found))))
}

fn nanos(time: Duration) -> Time {
    u64::try_from(time.as_nanos()).expect("a short time")
}

fn told_job(written: Written) -> Told {
    match written.reply {
        Reply::Job(job) => Told::Job(job.id.clone(), View::of(&job)),
        other => panic!("a job was asked for: {other:?}"),
    }
}

fn told_claim(written: Written) -> Told {
    match written.reply {
        Reply::Claimed(jobs) => {
            Told::Claimed(jobs.iter().map(|job| (job.id.clone(), View::of(job))).collect())
        }
        other => panic!("jobs were asked for: {other:?}"),
    }
}
