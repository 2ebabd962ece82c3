//! The load: enqueuers, and hosts that claim and complete.
//!
//! ```text
//! enqueuers ──(at most so many queued)──► coordinator ──► hosts: claim, complete, claim, …
//!   closing: no further job is made            over: all that was accepted is settled, or nothing moves
//! ```
//!
//! Every request is one try at one coordinator: what a client with failover would hide is seen and counted here.
//! A further try goes to the next coordinator under the same idempotency key, so that no job is made twice.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use skyclaw_client::{Client, Error as ClientError};
use skyclaw_proto::HostId;
use skyclaw_proto::payload::Payload;
use skyclaw_proto::record::Job;
use skyclaw_proto::request::{
    ClaimBody, CompleteJobBody, EnqueueJobBody, HeartbeatBody, PayloadBody, RequirementBody,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Plan;
use super::figures::{Figures, Operation, is_final};
use crate::error::Error;

/// Names the bench a job belongs to.
pub(super) const LABEL: &str = "skyclaw-bench";
/// How long a claim is asked to wait for a job. Hosts end between two claims, so this is how long an end takes.
const WAIT: Duration = Duration::from_secs(1);
/// First and longest pause of a host at a coordinator that answers at once that there is nothing.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));
/// How often one operation is tried.
const MAX_TRIES: usize = 5;
/// Pause before the second try; it doubles from then on.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A worker that fails so often in a row ends.
const GIVE_UP: u32 = 3;
/// Between two heartbeats of a host, as hosts have it.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Heartbeats on their way at once.
const HEARTBEATS: usize = 32;

/// What all workers share.
#[derive(Debug)]
pub(super) struct Load {
    /// The id of this bench: the capability its jobs ask for, and the beginning of its hosts' ids.
    pub(super) run: String,
    pub(super) plan: Plan,
    /// One for each coordinator, each with one try a call.
    clients: Vec<Client>,
    pub(super) began: Instant,
    pub(super) figures: Figures,
    /// Numbers of jobs that were given out.
    taken: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) completed: AtomicU64,
    /// Completed, or given up by a host.
    pub(super) settled: AtomicU64,
    pub(super) empty_claims: AtomicU64,
    /// Set when a claim found nothing and was answered at once all the same.
    pub(super) polls: AtomicBool,
    pub(super) first_error: OnceLock<String>,
    keys: AtomicU64,
    /// How many more jobs may be queued.
    places: Semaphore,
    /// When each job was acknowledged, in nanoseconds after the start; 0 while it is not.
    acknowledged: Box<[AtomicU64]>,
    /// Someone wants it to end now.
    interrupted: CancellationToken,
    /// No further job is made.
    pub(super) closing: CancellationToken,
    /// Every enqueuer has ended.
    pub(super) enqueued: CancellationToken,
    /// Hosts end.
    pub(super) over: CancellationToken,
}

impl Load {
    pub(super) fn new(
        run: &str,
        plan: Plan,
        clients: Vec<Client>,
        interrupted: CancellationToken,
    ) -> Result<Self, Error> {
        let places = if plan.separately { Semaphore::MAX_PERMITS } else { plan.max_queued };
        Ok(Self {
            run: run.to_owned(),
            clients,
            began: Instant::now(),
            figures: Figures::new()?,
            taken: 0.into(),
            accepted: 0.into(),
            completed: 0.into(),
            settled: 0.into(),
            empty_claims: 0.into(),
            polls: false.into(),
            first_error: OnceLock::new(),
            keys: 0.into(),
            places: Semaphore::new(places),
            acknowledged: (0..plan.most_jobs()).map(|_| AtomicU64::new(0)).collect(),
            closing: interrupted.child_token(),
            interrupted,
            enqueued: CancellationToken::new(),
            over: CancellationToken::new(),
            plan,
        })
    }

    /// The same, from now on.
    pub(super) fn begin(mut self) -> Self {
        self.began = Instant::now();
        self
    }

    pub(super) fn host_id(&self, index: usize) -> String {
        format!("{}-{index}", self.run)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Puts jobs in until there are enough.
    pub(super) async fn enqueue_jobs(&self, worker: usize) {
        let mut misses = 0;
        while misses < GIVE_UP && !self.closing.is_cancelled() {
            // Both are cancel safe.
            let place = tokio::select! {
                place = self.places.acquire() => place,
                () = self.closing.cancelled() => return,
            };
            let number = self.taken.fetch_add(1, Ordering::Relaxed);
            let Some(slot) = usize::try_from(number).ok().and_then(|n| self.acknowledged.get(n)) else {
                return;
            };
            let body = self.job(number);
            let body = &body;
            let sent = self.call(Operation::Enqueue, worker, |client, key| async move {
                client.enqueue(body, Some(&key)).await
            });
            match sent.await {
                Some((_, took)) => {
                    let at = self.now();
                    slot.store(nanos(at).max(1), Ordering::Release);
                    self.accepted.fetch_add(1, Ordering::SeqCst);
                    self.figures.done(worker, Operation::Enqueue, at, took, true);
                    if let Ok(place) = place {
                        place.forget();
                    }
                    misses = 0;
                }
                None => misses += 1,
            }
        }
    }

    /// A job, with its number and when it was sent in its arguments, for whoever claims it.
    fn job(&self, number: u64) -> EnqueueJobBody {
        let payload = payload(&self.run, number, nanos(self.now()), self.plan.padding);
        EnqueueJobBody {
            payload: Some(payload),
            requirement: Some(RequirementBody { required_capabilities: Some(vec![self.run.clone()]) }),
            submitted_by: Some(self.run.clone()),
            labels: Some([(LABEL.to_owned(), self.run.clone())].into()),
            ..EnqueueJobBody::default()
        }
    }

    /// A host: claims and completes until it is over.
    pub(super) async fn work(&self, index: usize, id: HostId) {
        let worker = index;
        if self.plan.separately {
            tokio::select! {
                () = self.enqueued.cancelled() => {}
                () = self.over.cancelled() => return,
            }
        }
        let (mut misses, mut pause) = (0, PAUSES.0);
        while misses < GIVE_UP && !self.interrupted.is_cancelled() {
            let asked = self.now();
            // A claim is only dropped when there is nothing left that it could be given.
            let answer = tokio::select! {
                answer = self.claim(worker, &id, WAIT) => answer,
                () = self.over.cancelled() => return,
            };
            match answer {
                None => misses += 1,
                Some((Some(job), took)) => {
                    self.claimed(worker, &job, asked, took);
                    self.settle(worker, &id, &job).await;
                    (misses, pause) = (0, PAUSES.0);
                }
                Some((None, took)) => {
                    self.empty_claims.fetch_add(1, Ordering::Relaxed);
                    misses = 0;
                    if took < WAIT / 2 {
                        self.polls.store(true, Ordering::Relaxed);
                        tokio::select! {
                            () = tokio::time::sleep(pause) => {}
                            () = self.over.cancelled() => return,
                        }
                        pause = (pause * 2).min(PAUSES.1);
                    }
                }
            }
        }
    }

    /// Claims once: a job, or that there is none, and how long that took.
    pub(super) async fn claim(
        &self,
        worker: usize,
        id: &HostId,
        wait: Duration,
    ) -> Option<(Option<Job>, Duration)> {
        let body = ClaimBody { wait_ms: u64::try_from(wait.as_millis()).ok(), max: None };
        let body = &body;
        let sent = self.call(Operation::Claim, worker, |client, key| async move {
            client.claim(id, body, Some(&key)).await
        });
        sent.await.map(|(claimed, took)| (claimed.job, took))
    }

    fn claimed(&self, worker: usize, job: &Job, asked: Duration, took: Duration) {
        let at = self.now();
        let Some((number, sent)) = mark(&job.payload) else { return };
        let slot = usize::try_from(number).ok().and_then(|number| self.acknowledged.get(number));
        let acknowledged = slot.map_or(0, |slot| slot.load(Ordering::Acquire));
        let was_there = acknowledged != 0 && acknowledged <= nanos(asked);
        self.figures.done(worker, Operation::Claim, at, took, was_there);
        let since = at.saturating_sub(Duration::from_nanos(sent));
        self.figures.done(worker, Operation::EnqueueToClaimed, at, since, true);
    }

    /// Completes a job; whether it was taken.
    pub(super) async fn settle(&self, worker: usize, id: &HostId, job: &Job) -> bool {
        let body = CompleteJobBody {
            host_id: Some(id.to_string()),
            success: Some(true),
            duration_ms: Some(0),
            exit_code: Some(0),
            stdout: Some(String::new()),
            stderr: Some(String::new()),
            fence: job.fence,
            ..CompleteJobBody::default()
        };
        let body = &body;
        let sent = self.call(Operation::Complete, worker, |client, key| async move {
            client.complete(&job.id, body, Some(&key)).await
        });
        let done = sent.await;
        if let Some((_, took)) = &done {
            self.figures.done(worker, Operation::Complete, self.now(), *took, true);
            self.completed.fetch_add(1, Ordering::Relaxed);
        }
        self.settled.fetch_add(1, Ordering::SeqCst);
        if !self.plan.separately {
            self.places.add_permits(1);
        }
        self.end_if_all_is_settled();
        done.is_some()
    }

    /// Ends the hosts once nothing is left for them. Called after whatever may have been the last.
    pub(super) fn end_if_all_is_settled(&self) {
        let all = self.enqueued.is_cancelled()
            && self.settled.load(Ordering::SeqCst) >= self.accepted.load(Ordering::SeqCst);
        if all {
            self.over.cancel();
        }
    }

    /// Beats for all hosts, as each would for itself.
    pub(super) async fn beat(&self, hosts: &[HostId]) {
        use futures_util::{StreamExt, stream};
        loop {
            tokio::select! {
                () = tokio::time::sleep(HEARTBEAT) => {}
                () = self.over.cancelled() => return,
            }
            let beats = hosts.iter().cloned().enumerate().map(|(worker, id)| self.beat_once(worker, id));
            let all = stream::iter(beats).buffer_unordered(HEARTBEATS).for_each(|()| async {});
            tokio::select! {
                () = all => {}
                () = self.over.cancelled() => return,
            }
        }
    }

    async fn beat_once(&self, worker: usize, id: HostId) {
        let id = &id;
        let sent = self.call(Operation::Heartbeat, worker, |client, _| async move {
            client.heartbeat(id, &HeartbeatBody::default()).await
        });
        if let Some((_, took)) = sent.await {
            self.figures.done(worker, Operation::Heartbeat, self.now(), took, true);
        }
    }

    /// Does something, with further tries; what came of it, and how long it took in all.
    async fn call<'a, T, W>(
        &'a self,
        operation: Operation,
        worker: usize,
        send: impl Fn(&'a Client, String) -> W,
    ) -> Option<(T, Duration)>
    where
        W: Future<Output = Result<T, ClientError>>,
    {
        let key = format!("{}-{}", self.run, self.keys.fetch_add(1, Ordering::Relaxed));
        let (began, mut pause) = (Instant::now(), RETRY_PAUSE);
        for (nth, client) in self.clients.iter().cycle().skip(worker % self.clients.len()).enumerate() {
            let error = match send(client, key.clone()).await {
                Ok(answer) => return Some((answer, began.elapsed())),
                Err(error) => error,
            };
            self.figures.missed(worker, operation, &error);
            self.first_error.get_or_init(|| error.to_string());
            let leaving = self.interrupted.is_cancelled() || self.over.is_cancelled();
            if nth + 1 >= MAX_TRIES || is_final(&error) || leaving {
                break;
            }
            self.figures.retried(worker, operation);
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.figures.failed(worker, operation);
        None
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn payload(run: &str, number: u64, sent: u64, padding: usize) -> PayloadBody {
    let args = vec![run.to_owned(), format!("{number:020}"), format!("{sent:020}"), "x".repeat(padding)];
    PayloadBody {
        kind: Some("shell".to_owned()),
        command: Some("true".to_owned()),
        args: Some(args),
        ..PayloadBody::default()
    }
}

/// How long a payload is that has no padding.
pub(super) fn least_payload_bytes(run: &str) -> usize {
    serde_json::to_vec(&payload(run, 0, 0, 0)).map_or(0, |text| text.len())
}

/// The number of a job, and when it was sent.
fn mark(payload: &Payload) -> Option<(u64, u64)> {
    let Payload::Shell(shell) = payload else { return None };
    let args = shell.args.as_deref()?;
    Some((args.get(1)?.parse().ok()?, args.get(2)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skyclaw_proto::payload::ShellPayload;

    #[test]
    fn a_payload_is_as_long_as_was_asked_for_and_says_which_one_it_is() {
        let run = "bench-0123456789ab";
        let least = least_payload_bytes(run);
        let body = payload(run, 77, 123_456_789, 300 - least);
        assert_eq!(serde_json::to_vec(&body).expect("json").len(), 300);
        let shell = ShellPayload { command: "true".into(), args: body.args, ..ShellPayload::default() };
        assert_eq!(mark(&Payload::Shell(shell)), Some((77, 123_456_789)));
    }
}
