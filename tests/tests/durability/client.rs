//! One client under load: it enqueues, claims and completes, and notes down what it was told.

use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skyclaw_tests::mesh::{id, shell_job, success_of, with};
use skyclaw_tests::{Reply, Value, Wire, json};

use super::ledger::{Completed, Enqueued, Events};

/// A request, so that it can be sent again.
#[derive(Debug, Clone)]
struct Request {
    path: String,
    body: Value,
    key: Option<String>,
    purpose: Purpose,
}

#[derive(Debug, Clone)]
enum Purpose {
    Enqueue { marker: String },
    Claim,
    Complete { job: String, stdout: String },
}

/// One client. Half of its requests carry an idempotency key.
#[derive(Debug)]
pub(super) struct Client {
    host: String,
    rng: StdRng,
    count: usize,
    /// Jobs it holds the lease of.
    held: Vec<String>,
    /// Requests that got no answer.
    unanswered: Vec<Request>,
}

impl Client {
    pub(super) fn new(number: usize, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { host: format!("c{number}"), rng, count: 0, held: Vec::new(), unanswered: Vec::new() }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Works until the daemon is gone.
    pub(super) fn work(&mut self, wire: &Wire, round: usize, killed: &AtomicBool) -> Events {
        let mut events = Events::default();
        while !killed.load(Ordering::Relaxed) && self.unanswered.is_empty() {
            let request = match self.rng.random_range(0..3) {
                0 => self.enqueue(round),
                1 => self.claim(),
                _ => match self.held.pop() {
                    Some(job) => self.complete(job),
                    None => self.claim(),
                },
            };
            self.send(wire, request, &mut events);
        }
        events
    }

    /// Sends what got no answer again: with its key, the truth comes back; without one, only what can
    /// be asked for twice without harm is.
    pub(super) fn settle(&mut self, wire: &Wire, events: &mut Events) {
        for request in std::mem::take(&mut self.unanswered) {
            match (&request.purpose, &request.key) {
                (Purpose::Enqueue { marker }, None) => events.perhaps.push(marker.clone()),
                (Purpose::Claim, None) => events.claims_without_answer += 1,
                (Purpose::Complete { job, stdout }, None) => {
                    let reply = wire.post(&request.path, &request.body).send();
                    let is_done = reply.status == 409 && reply.error() == format!("job {job} is not leased");
                    assert!(reply.status == 200 || is_done, "{request:?}: {} {}", reply.status, reply.text);
                    events.completed.push(Completed { job: job.clone(), stdout: stdout.clone() });
                }
                (_, Some(_)) => {
                    self.send(wire, request.clone(), events);
                    assert!(self.unanswered.is_empty(), "{request:?} got no answer");
                }
            }
        }
    }

    fn send(&mut self, wire: &Wire, request: Request, events: &mut Events) {
        let mut call = wire.post(&request.path, &request.body);
        if let Some(key) = &request.key {
            call = call.key(key);
        }
        match call.try_send() {
            Ok(reply) if reply.status == 200 => self.note(&request, &reply, events),
            Ok(reply) => panic!("{request:?}: {} {}", reply.status, reply.text),
            Err(_) => self.unanswered.push(request),
        }
    }

    fn note(&mut self, request: &Request, reply: &Reply, events: &mut Events) {
        let job = reply.json()["job"].take();
        match &request.purpose {
            Purpose::Enqueue { marker } => {
                events.enqueued.push(Enqueued { marker: marker.clone(), id: id(&job) });
            }
            Purpose::Claim if job.is_null() => {}
            Purpose::Claim => {
                assert_eq!(
                    (&job["assignedHostId"], &job["attempts"]),
                    (&json!(self.host), &json!(1)),
                    "{job}"
                );
                events.claimed.push((id(&job), self.host.clone()));
                self.held.push(id(&job));
            }
            Purpose::Complete { job: id, stdout } => {
                assert_eq!(job["status"], "completed", "{job}");
                events.completed.push(Completed { job: id.clone(), stdout: stdout.clone() });
            }
        }
    }

    fn enqueue(&mut self, round: usize) -> Request {
        let (key, name) = self.next();
        let marker = format!("{round}-{name}");
        let body = shell_job(&json!({"submittedBy": marker, "labels": {"round": round.to_string()}}));
        Request { path: "/v1/jobs".to_owned(), body, key, purpose: Purpose::Enqueue { marker } }
    }

    fn claim(&mut self) -> Request {
        let (key, _) = self.next();
        let path = format!("/v1/hosts/{}/claim", self.host);
        Request { path, body: json!({}), key, purpose: Purpose::Claim }
    }

    fn complete(&mut self, job: String) -> Request {
        let (key, stdout) = self.next();
        let body = with(&success_of(&self.host), &json!({"stdout": stdout}));
        let path = format!("/v1/jobs/{job}/complete");
        Request { path, body, key, purpose: Purpose::Complete { job, stdout } }
    }

    /// A key for every other request, and a name for each that occurs once.
    fn next(&mut self) -> (Option<String>, String) {
        self.count += 1;
        let name = format!("{}-{}", self.host, self.count);
        (self.rng.random_bool(0.5).then(|| name.clone()), name)
    }
}
