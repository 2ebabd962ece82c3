//! Keeps this host's leases: sends the heartbeats that renew them, stops what they no longer cover,
//! and stops what the coordinators want stopped.
//!
//! One task owns the [`Leases`]; [`Keeper`] is the handle on it. A heartbeat names all runs and waits at
//! the coordinator until something is to be stopped or the next heartbeat is due; a coordinator that
//! answers at once is asked again at the same pace. While one is out, what is asked of the keeper is
//! done all the same, and runs are stopped in time.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use skyclaw_exec::{BootTime, Stop, Stopper};
use skyclaw_proto::request::{HeartbeatBody, RunningJob};
use skyclaw_proto::response::{Heartbeat, StopReason, StopService};
use skyclaw_proto::{JobId, limits};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::coordinator::{ChangeLog, Coordinator, is_unknown_host};
use crate::leases::{Lease, Leases};
use crate::logs::Logs;
use crate::stopping::Why;
use crate::switch::Switch;

/// Requests that may wait for the task.
const QUEUE: usize = 64;
/// Shortest time between two heartbeats when the first was answered early.
const MIN_GAP: Duration = Duration::from_secs(1);
/// The same when it told only of output that somebody follows.
const LOGS_GAP: Duration = Duration::from_millis(50);

/// What is asked of the task.
enum Request {
    /// To take a job into its care.
    Hold { job: JobId, lease: Option<Lease>, run: Run },
    /// Whether it goes on, and whether the last heartbeat was answered.
    Answer(oneshot::Sender<bool>),
}

/// The handle on the keeper. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Keeper(mpsc::Sender<Request>);

impl Keeper {
    /// Starts the task, which ends when it is aborted.
    pub(crate) fn start(
        tracker: &TaskTracker,
        coordinator: Coordinator,
        heartbeat: Duration,
        services: watch::Sender<Vec<StopService>>,
        switch: Switch,
        logs: Logs,
    ) -> (Self, JoinHandle<()>) {
        let (send, requests) = mpsc::channel(QUEUE);
        let log = ChangeLog::new("heartbeat");
        let task = Task {
            coordinator,
            heartbeat,
            pace: heartbeat,
            leases: Leases::new(),
            runs: HashMap::new(),
            requests,
            services,
            switch,
            logs,
            log,
        };
        (Self(send), tracker.spawn(task.keep()))
    }

    /// Takes a claimed job into the keeper's care until `over` is cancelled, and waits until it may
    /// start. `false`: it may not, its lease is gone.
    pub(crate) async fn hold(
        &self,
        job: JobId,
        lease: Option<Lease>,
        stopper: Stopper,
        over: CancellationToken,
    ) -> bool {
        let (start, may_start) = oneshot::channel();
        let run = Run { stopper, over, start: Some(start) };
        self.0.send(Request::Hold { job, lease, run }).await.is_ok() && may_start.await.is_ok()
    }

    /// Waits until the task has answered, and says whether the last heartbeat was. `None`: the task has ended.
    pub(crate) async fn answers(&self) -> Option<bool> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Request::Answer(answer)).await.ok()?;
        answered.await.ok()
    }
}

/// What the keeper has on a job in its care.
struct Run {
    stopper: Stopper,
    /// Cancelled when the run is over and its outcome was heard, or its task is gone for whatever reason.
    over: CancellationToken,
    /// There while the job waits for a renewal before it starts. Dropped, it does not start.
    start: Option<oneshot::Sender<()>>,
}

struct Task {
    coordinator: Coordinator,
    heartbeat: Duration,
    /// The interval the last heartbeat was sent with.
    pace: Duration,
    leases: Leases,
    runs: HashMap<JobId, Run>,
    requests: mpsc::Receiver<Request>,
    /// The services that the coordinators want stopped, as of the last heartbeat.
    services: watch::Sender<Vec<StopService>>,
    /// The host's own switch, which the cluster is told of.
    switch: Switch,
    /// What brings the output of runs that somebody follows.
    logs: Logs,
    log: ChangeLog,
}

impl Task {
    async fn keep(mut self) {
        loop {
            self.prune();
            // The shims' clock first: what is counted from it must not be counted from later.
            let (boot, sent) = (BootTime::now(), Instant::now());
            let named = self.leases.to_renew();
            let interval = self.leases.interval(self.heartbeat);
            let coordinator = self.coordinator.clone();
            self.pace = interval;
            let wait = if self.leases.is_urgent(sent, interval) { Duration::ZERO } else { interval };
            let body = self.body(&named, wait);
            let answer = self.attend(coordinator.client.heartbeat(&coordinator.host, &body)).await;
            let mut next = sent + interval;
            match answer {
                None => continue,
                Some(Ok(answer)) => {
                    self.log.went_well();
                    // Answered early: there is something to stop, and soon there may be more.
                    if !answer.stop.is_empty() || !answer.stop_services.is_empty() {
                        next = next.min(sent + MIN_GAP).max(Instant::now());
                    }
                    // Somebody has begun to follow a run, and the next who does is not to wait.
                    if !answer.logs.is_empty() && sent.elapsed() + LOGS_GAP < wait {
                        next = next.min(sent + LOGS_GAP).max(Instant::now());
                    }
                    self.logs.wanted(answer.logs.clone());
                    self.take_in(&answer, &named, (sent, boot));
                }
                Some(Err(error)) if is_unknown_host(&error) => {
                    let registered = self.attend(coordinator.register()).await;
                    if registered.is_some() {
                        next = Instant::now();
                    }
                }
                Some(Err(error)) => self.log.failed(&error),
            }
            self.attend(tokio::time::sleep_until(next)).await;
        }
    }

    fn body(&mut self, named: &[RunningJob], wait: Duration) -> HeartbeatBody {
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).min(limits::MAX_WAIT_MS);
        HeartbeatBody {
            active_leases: Some(u32::try_from(self.leases.count()).unwrap_or(u32::MAX)),
            running: Some(named.to_vec()),
            wait_ms: Some(wait),
            switch: Some(self.switch.now()),
            logs: Some(self.logs.serving()),
        }
    }

    /// Waits for something while doing what is asked of the keeper and stopping runs in time. `None`
    /// when a heartbeat is wanted at once; what was waited for is dropped then.
    async fn attend<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let mut what = pin!(what);
        let (switch, logs) = (self.switch.clone(), self.logs.clone());
        loop {
            let end = self.leases.next_end();
            let lease_end = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Renewals count before ends: an answer that is there is not overlooked.
                biased;
                done = &mut what => return Some(done),
                () = lease_end => self.give_up(),
                // The cluster is to hear of it at once.
                () = switch.is_news() => return None,
                () = logs.are_fewer() => return None,
                request = self.requests.recv() => match request {
                    Some(request) => {
                        if self.asked(request) {
                            return None;
                        }
                    }
                    // Nobody is left to ask for anything; what is waited for still counts.
                    None => return Some(what.await),
                },
            }
        }
    }

    /// Whether a heartbeat is wanted at once.
    fn asked(&mut self, request: Request) -> bool {
        let (job, lease, mut run) = match request {
            Request::Hold { job, lease, run } => (job, lease, run),
            Request::Answer(answer) => {
                // An error means that nobody waits for it any more.
                let _ = answer.send(self.log.goes_well());
                return false;
            }
        };
        let now = Instant::now();
        if self.leases.insert(job.clone(), lease, now) {
            run.go();
        }
        self.runs.insert(job, run);
        let interval = self.leases.interval(self.heartbeat);
        interval < self.pace || self.leases.is_urgent(now, interval)
    }

    /// Leaves out what is over.
    fn prune(&mut self) {
        let leases = &mut self.leases;
        self.runs.retain(|job, run| {
            let over = run.over.is_cancelled();
            if over {
                leases.remove(job);
            }
            !over
        });
    }

    fn forget(&mut self, job: &JobId) {
        self.leases.remove(job);
        self.runs.remove(job);
    }

    fn give_up(&mut self) {
        self.prune();
        for job in self.leases.give_up(Instant::now()) {
            tracing::error!(%job, "its lease could not be renewed in time; the run is stopped");
            if let Some(run) = self.runs.get(&job) {
                run.stopper.stop(Why::NotRenewed.stop());
            }
        }
    }

    fn take_in(&mut self, answer: &Heartbeat, named: &[RunningJob], sent: (Instant, BootTime)) {
        self.prune();
        self.services.send_if_modified(|orders| {
            let is_news = *orders != answer.stop_services;
            if is_news {
                orders.clone_from(&answer.stop_services);
            }
            is_news
        });
        // A job that began while the heartbeat was on its way is not named in it, and may be called off.
        for stop in &answer.stop {
            let why = match stop.reason {
                StopReason::Cancelled => Stop::Cancelled,
                StopReason::Frozen => Why::Frozen.stop(),
                StopReason::Draining => Why::Draining.stop(),
                StopReason::NotLeased | StopReason::Unknown => continue,
            };
            if let Some(run) = self.runs.get(&stop.job_id) {
                run.stopper.stop(why);
            }
        }
        for job in named {
            // In the meantime it may have ended, and begun anew under another lease.
            if !self.leases.holds(job) {
                continue;
            }
            let stop = answer.stop.iter().find(|stop| stop.job_id == job.job_id).map(|stop| stop.reason);
            match stop {
                None | Some(StopReason::Cancelled | StopReason::Frozen | StopReason::Draining) => {
                    self.renew(job, sent);
                }
                Some(StopReason::NotLeased | StopReason::Unknown) => {
                    tracing::warn!(job = %job.job_id, "this host no longer holds its lease; the run is stopped");
                    if let Some(run) = self.runs.get(&job.job_id) {
                        run.stopper.stop(Why::NotHeld.stop());
                    }
                    self.forget(&job.job_id);
                }
            }
        }
    }

    fn renew(&mut self, job: &RunningJob, (sent, boot): (Instant, BootTime)) {
        let may_start = self.leases.renew(job, sent);
        let deadline = self.leases.deadline(job, boot);
        if let (Some(deadline), Some(run)) = (deadline, self.runs.get(&job.job_id)) {
            run.stopper.extend(deadline);
        }
        if may_start && let Some(run) = self.runs.get_mut(&job.job_id) {
            run.go();
        }
    }
}

impl Run {
    fn go(&mut self) {
        if let Some(start) = self.start.take() {
            // An error means that it is not wanted any more.
            let _ = start.send(());
        }
    }
}
