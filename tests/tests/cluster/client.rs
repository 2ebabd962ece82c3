//! One client of a cluster under load. Every request carries an idempotency key and is sent again, to
//! any node, until the truth is told: so what the client knows in the end is exact.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng, SeedableRng};
use skyclaw_tests::mesh::{id, shell_job, success_of, with};
use skyclaw_tests::{Reply, Value, Wire, json};

use super::ledger::{Events, Hold};

/// How long leases last: short enough that some run out while a node is frozen.
pub(super) const LEASE: Duration = Duration::from_secs(4);
/// How long an answer is waited for before another node is asked.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a client goes on asking for the truth.
const TRUTH_WITHIN: Duration = Duration::from_secs(120);
/// So that a client that is refused everywhere does not take the processor from those it waits for.
const PAUSE: Duration = Duration::from_millis(20);

/// A lease as its holder knows it.
#[derive(Debug)]
struct Lease {
    job: String,
    fence: u64,
    /// When it was first asked for, when it was told of.
    asked: Instant,
    told: Instant,
}

/// One client, which is a host as well.
#[derive(Debug)]
pub(super) struct Client {
    host: String,
    nodes: Vec<Wire>,
    rng: StdRng,
    count: usize,
    held: Vec<Lease>,
    events: Events,
}

impl Client {
    pub(super) fn new(number: usize, nodes: &[Wire], seed: u64) -> Self {
        let nodes = nodes.iter().map(|wire| wire.with_patience(PATIENCE)).collect();
        let (rng, events) = (StdRng::seed_from_u64(seed), Events::default());
        Self { host: format!("c{number}"), nodes, rng, count: 0, held: Vec::new(), events }
    }

    /// Works until it is told to stop, and tells what it knows then.
    pub(super) fn work(mut self, stop: &AtomicBool) -> Events {
        let body = json!({"hostId": self.host, "name": self.host, "maxParallel": 100_000});
        let registered = self.send("/v1/hosts/register", &body).1;
        assert_eq!(registered.status, 200, "{}", registered.text);
        while !stop.load(Ordering::Relaxed) {
            match self.rng.random_range(0..3) {
                0 => self.enqueue(),
                1 => self.claim(),
                _ => self.complete(),
            }
        }
        for lease in std::mem::take(&mut self.held) {
            self.events.holds.push(self.hold(&lease, None));
        }
        self.events
    }

    fn enqueue(&mut self) {
        let marker = format!("{}-{}", self.host, self.count);
        let (_, reply) = self.send("/v1/jobs", &shell_job(&json!({"submittedBy": marker})));
        let job = job(&reply);
        assert_eq!(job["submittedBy"], marker, "another's job: {job}");
        self.events.enqueued.push((marker, id(&job)));
    }

    fn claim(&mut self) {
        let wait_ms = if self.rng.random_bool(0.3) { 300 } else { 0 };
        let path = format!("/v1/hosts/{}/claim", self.host);
        let (asked, reply) = self.send(&path, &json!({"waitMs": wait_ms}));
        let job = job(&reply);
        if job.is_null() {
            return;
        }
        assert_eq!((&job["assignedHostId"], &job["status"]), (&json!(self.host), &json!("leased")), "{job}");
        let fence = job["fence"].as_u64().expect("a fence");
        self.held.push(Lease { job: id(&job), fence, asked, told: Instant::now() });
    }

    fn complete(&mut self) {
        let Some(lease) = self.held.pop() else { return };
        let stdout = format!("{}-{}", self.host, self.count);
        let body = with(&success_of(&self.host), &json!({"stdout": stdout, "fence": lease.fence}));
        let (sent, reply) = self.send(&format!("/v1/jobs/{}/complete", lease.job), &body);
        self.events.holds.push(self.hold(&lease, Some(sent)));
        if reply.status == 200 {
            let job = job(&reply);
            assert_eq!(
                (&job["id"], &job["status"]),
                (&json!(lease.job), &json!("completed")),
                "{}",
                reply.text
            );
            assert_eq!(job["result"]["stdout"], stdout, "another's completion: {}", reply.text);
            self.events.completed.push((lease.job, lease.fence, stdout));
        } else {
            assert!(
                lease.asked.elapsed() > LEASE,
                "refused before the lease ran out: {}; it was asked for {:?} ago, told of {:?} ago, and its end first \
                 reported {:?} ago with key {}-{}: {lease:?}; the nodes say {:#?}",
                reply.text,
                lease.asked.elapsed(),
                lease.told.elapsed(),
                sent.elapsed(),
                self.host,
                self.count,
                self.views_of(&lease.job)
            );
            self.events.refused += 1;
        }
    }

    /// When the lease was certainly held: from when its holder was told until it could have run out at
    /// the earliest, or until its end was asked for.
    fn hold(&self, lease: &Lease, completed: Option<Instant>) -> Hold {
        let runs_out = lease.asked + LEASE;
        let until = completed.map_or(runs_out, |at| at.min(runs_out));
        let (job, host) = (lease.job.clone(), self.host.clone());
        Hold { job, host, fence: lease.fence, from: lease.told, until }
    }

    /// A job as each node has it, for people.
    fn views_of(&self, job: &str) -> Vec<String> {
        let path = format!("/v1/jobs/{job}");
        let view = |wire: &Wire| wire.get(&path).try_send().map_or_else(|error| error, |reply| reply.text);
        self.nodes.iter().map(view).collect()
    }

    /// Asks one node after the other until one knows. Says when it was first asked.
    fn send(&mut self, path: &str, body: &Value) -> (Instant, Reply) {
        self.count += 1;
        let key = format!("{}-{}", self.host, self.count);
        let first = Instant::now();
        loop {
            let node = self.nodes.choose(&mut self.rng).expect("a node");
            let answer = node.post(path, body).key(&key).try_send();
            match answer {
                Ok(reply) if matches!(reply.status, 200 | 409) => return (first, reply),
                Ok(reply) => {
                    assert_eq!(reply.status, 503, "{path} {body}: {}", reply.text);
                    self.events.unavailable += 1;
                }
                Err(_) => self.events.unanswered += 1,
            }
            assert!(first.elapsed() < TRUTH_WITHIN, "{path} {body} with {key}: no node tells the truth");
            std::thread::sleep(PAUSE);
        }
    }
}

#[track_caller]
fn job(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["job"].take()
}
