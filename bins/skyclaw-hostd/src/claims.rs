//! Claims jobs and runs them.
//!
//! A claim is repeated with the same key and body until it is answered, so a lost answer costs nothing;
//! the leases it gives count from when it was first sent. Each job holds one of the host's slots until
//! its outcome was heard.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use skyclaw_client::Error;
use skyclaw_config::{clock, ids};
use skyclaw_exec::{BootTime, Driver, Ended, Outcome, Reserved, RunSpec, Running};
use skyclaw_exec::{StopSignal, Stopper, stop_channel};
use skyclaw_proto::record::Job;
use skyclaw_proto::request::ClaimBody;
use skyclaw_proto::{JobId, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::completion::Completion;
use crate::containers::{Containers, Fault, Way};
use crate::coordinator::{ChangeLog, Coordinator, Said, is_unknown_host};
use crate::history;
use crate::keeper::Keeper;
use crate::leases::Lease;
use crate::logs::Logs;
use crate::spool::{Spool, Spooled};
use crate::stopping::Why;
use crate::switch::Switch;
use crate::ticket::{self, JobTicket, Ticket};

/// How long a claim may wait at the coordinator.
const WAIT: Duration = Duration::from_secs(25);
/// An empty answer that comes this much sooner is from a coordinator that does not let claims wait.
const EARLY: Duration = Duration::from_secs(1);
/// How long outcomes are still offered to the coordinators when everything must stop.
const LAST_WORD: Duration = Duration::from_secs(5);

/// What every run needs.
#[derive(Debug, Clone)]
pub(crate) struct Workshop {
    pub(crate) coordinator: Coordinator,
    pub(crate) keeper: Keeper,
    pub(crate) driver: Driver,
    pub(crate) containers: Containers,
    pub(crate) spool: Spool,
    /// The host's own switch.
    pub(crate) switch: Switch,
    /// What brings the output of runs that somebody follows.
    pub(crate) logs: Logs,
    /// Cancelled when runs must stop.
    pub(crate) hard: CancellationToken,
    /// Cancelled when runs are to go on without this daemon.
    pub(crate) leave: CancellationToken,
}

/// The task that claims.
pub(crate) struct Claims {
    workshop: Workshop,
    poll: Duration,
    slots: Arc<Semaphore>,
    runs: TaskTracker,
    /// Of each job that runs, or ran lately.
    known: HashMap<JobId, Known>,
    log: ChangeLog,
}

struct Known {
    stopper: Stopper,
    over: CancellationToken,
}

/// Jobs, and since when their leases may count.
struct Claimed {
    jobs: Vec<Job>,
    since: (Instant, BootTime),
    slot: OwnedSemaphorePermit,
}

/// How this daemon's part in a run ended.
pub(crate) enum End {
    /// It is over.
    Ended(Ended),
    /// It was not started.
    Unstarted(Outcome),
    /// There is nothing to tell: it goes on without this daemon, or is another's.
    Left,
}

impl Claims {
    /// Claims as many jobs as there are slots; runs them on `runs`. To be ended by dropping it.
    pub(crate) fn new(workshop: Workshop, max_parallel: u32, poll: Duration, runs: TaskTracker) -> Self {
        let slots = Arc::new(Semaphore::new(max_parallel as usize));
        Self { workshop, poll, slots, runs, known: HashMap::new(), log: ChangeLog::new("claim") }
    }

    /// Claims and starts for ever.
    pub(crate) async fn work(mut self) {
        while let Some(Claimed { jobs, since, slot }) = self.claim().await {
            self.known.retain(|_, known| !known.over.is_cancelled());
            let mut slot = Some(slot);
            for job in jobs {
                let slot = match slot.take() {
                    Some(first) => Ok(first),
                    None => self.slots.clone().acquire_owned().await,
                };
                if let Ok(slot) = slot {
                    self.start(job, since, slot);
                }
            }
        }
    }

    /// One claim, answered. `None` when there are no slots and never will be.
    async fn claim(&mut self) -> Option<Claimed> {
        let slot = self.slots.clone().acquire_owned().await.ok()?;
        self.workshop.switch.thawed().await;
        let free = u32::try_from(1 + self.slots.available_permits()).unwrap_or(u32::MAX);
        let wait_ms = u64::try_from(WAIT.as_millis()).ok();
        let body = ClaimBody { wait_ms, max: Some(free.min(limits::MAX_CLAIM)) };
        let key = ids::uuid().to_string();
        let Coordinator { client, host, .. } = &self.workshop.coordinator;
        let boot = BootTime::now();
        let since = (Instant::now(), boot);
        loop {
            let asked = Instant::now();
            match client.claim(host, &body, Some(&key)).await {
                Ok(answer) => {
                    self.log.went_well();
                    let jobs = answer.jobs.unwrap_or_else(|| answer.job.into_iter().collect());
                    if jobs.is_empty() && asked.elapsed() + EARLY < WAIT {
                        tokio::time::sleep(self.poll).await;
                    }
                    return Some(Claimed { jobs, since, slot });
                }
                Err(error) if is_unknown_host(&error) => self.workshop.coordinator.register().await,
                // It may have been carried out: only the same claim again can tell.
                Err(error @ (Error::Unavailable { .. } | Error::InvalidAnswer { .. })) => {
                    self.log.failed(&error);
                    tokio::time::sleep(self.poll).await;
                }
                Err(error) => {
                    self.log.failed(&error);
                    tokio::time::sleep(self.poll).await;
                    return Some(Claimed { jobs: vec![], since, slot });
                }
            }
        }
    }

    /// Takes over a run that an earlier daemon started.
    pub(crate) fn adopt(&mut self, mut running: Running, job: JobTicket) {
        let (stopper, stop) = stop_channel();
        let over = CancellationToken::new();
        self.known.insert(job.job.clone(), Known { stopper: stopper.clone(), over: over.clone() });
        // There may be more of them than slots now.
        let slot = self.slots.clone().try_acquire_owned().ok();
        let span = tracing::info_span!("job", id = %job.job, attempt = job.attempt);
        let workshop = self.workshop.clone();
        let run = async move {
            let guard = over.clone().drop_guard();
            let _slot = slot;
            let lease = job.lease(running.deadline());
            // It runs already; what is waited for is only that the keeper knows of it.
            let held = workshop.keeper.hold(job.job.clone(), lease, stopper.clone(), over);
            if let Err(why) = workshop.containers.take_up(&mut running).await {
                tracing::warn!(why, "its container cannot be started; the run is given back");
                stopper.stop(Why::NoPodman.stop());
            }
            let running = workshop.see_through(&job, running, &stopper, stop, held).await;
            let container = workshop.tell(&job, running).await;
            drop(guard);
            workshop.containers.clear(container.as_deref()).await;
        };
        self.runs.spawn(run.instrument(span));
    }

    fn start(&mut self, job: Job, since: (Instant, BootTime), slot: OwnedSemaphorePermit) {
        let before = self.known.get(&job.id).filter(|known| !known.over.is_cancelled());
        let mut earlier = None;
        if let Some(before) = before {
            if job.fence.is_none() {
                // A reference coordinator gives out again what takes longer than its lease, and takes
                // the first outcome that comes.
                tracing::info!(job = %job.id, "claimed once more while it runs here: it goes on as it is");
                return;
            }
            before.stopper.stop(Why::GivenAnew.stop());
            earlier = Some(before.over.clone());
        }
        let (stopper, stop) = stop_channel();
        let over = CancellationToken::new();
        self.known.insert(job.id.clone(), Known { stopper: stopper.clone(), over: over.clone() });
        let span = tracing::info_span!("job", id = %job.id, attempt = job.attempts);
        let workshop = self.workshop.clone();
        let run = async move {
            let guard = over.clone().drop_guard();
            let _slot = slot;
            if let Some(earlier) = earlier {
                earlier.cancelled().await;
            }
            let container = workshop.run(job, since, stopper, stop, &over).await;
            // The job is over; what is left of it still takes its slot.
            drop(guard);
            workshop.containers.clear(container.as_deref()).await;
        };
        self.runs.spawn(run.instrument(span));
    }
}

/// How long a run may take to stop: what its job asks for, but no longer than this host waits before a lease
/// ends.
fn grace(job: &Job, most: Duration) -> Duration {
    job.terms().grace_ms.map_or(most, |asked| Duration::from_millis(asked).min(most))
}

/// Where a job is going to run.
enum Place {
    Process(Reserved),
    /// `forced`: by this host, though the job does not ask for it.
    Container {
        forced: bool,
    },
}

impl Workshop {
    /// Runs a job, and says what container is left of it.
    async fn run(
        &self,
        job: Job,
        (since, boot): (Instant, BootTime),
        stopper: Stopper,
        stop: StopSignal,
        over: &CancellationToken,
    ) -> Option<String> {
        let place = match self.containers.way(&job) {
            // Its shim comes to itself while the keeper takes the job into its care.
            Way::Process => Place::Process(self.driver.reserve()),
            Way::Container { forced } => Place::Container { forced },
        };
        let grace = grace(&job, self.driver.config().stop_grace);
        let lease = Lease::of(&job, since, boot, grace);
        let held = self.keeper.hold(job.id.clone(), lease, stopper.clone(), over.clone());
        let may_start = tokio::select! {
            may_start = held => may_start,
            () = self.hard.cancelled() => false,
        };
        if !may_start {
            tracing::warn!("its lease was gone before it could start");
            return None;
        }
        let ticket = JobTicket::new(&job, lease.as_ref());
        let mut spec = RunSpec::job(&job, &self.coordinator.host, self.driver.config());
        spec.label = Ticket::Job(ticket.clone()).label();
        spec.grace = grace;
        if let Some(lease) = lease {
            spec.grace = lease.grace;
            spec.deadline = Some(ticket::deadline(&lease, stop.deadline()));
        }
        let started = match place {
            Place::Process(reserved) => self.driver.start_at(reserved, spec).await.map_err(Fault::from),
            Place::Container { forced } => {
                self.containers.start(&job, &spec, forced, &self.driver, &stop).await
            }
        };
        let end = match started {
            Ok(running) => self.see_through(&ticket, running, &stopper, stop, async { true }).await,
            Err(Fault::TooLate) => {
                tracing::warn!("not started: its deadline had passed");
                End::Left
            }
            Err(Fault::Told(outcome)) => End::Unstarted(*outcome),
        };
        self.tell(&ticket, end).await
    }

    /// Stays with a run until it is over, or goes on without this daemon.
    async fn see_through(
        &self,
        job: &JobTicket,
        mut running: Running,
        stopper: &Stopper,
        mut stop: StopSignal,
        held: impl Future<Output = bool>,
    ) -> End {
        let mut held = std::pin::pin!(held);
        let beginning = history::tell_beginning(&self.coordinator, job, running.beginning().to_vec());
        let mut beginning = std::pin::pin!(beginning);
        let (mut known, mut told, mut hard, mut frozen) = (false, false, false, false);
        let mut switch = self.switch.clone();
        let _followed = self.logs.began(job.job.clone(), job.fence, running.output()).await;
        loop {
            tokio::select! {
                biased;
                () = running.watch(&mut stop) => break,
                () = self.leave.cancelled() => {
                    tracing::info!(job = %job.job, "left running");
                    running.leave();
                    return End::Left;
                }
                () = self.hard.cancelled(), if !hard => {
                    hard = true;
                    stopper.stop(Why::ShuttingDown.stop());
                }
                // Its shim sees it as well, unless it is one of an older daemon, or is frozen itself.
                () = switch.frozen(), if !frozen => {
                    frozen = true;
                    stopper.stop(Why::Tripped.stop());
                }
                // That it may not start is nothing to a run that goes on: its shim knows until when.
                _ = &mut held, if !known => known = true,
                () = &mut beginning, if !told => told = true,
            }
        }
        End::Ended(running.end().await)
    }

    /// Tells how a run ended, once that is on disk here; only then what the run left is removed, but for its
    /// container, which is named.
    pub(crate) async fn tell(&self, job: &JobTicket, end: End) -> Option<String> {
        let (outcome, ended) = match end {
            End::Left => return None,
            End::Unstarted(outcome) => (outcome, None),
            End::Ended(ended) => (ended.outcome().clone(), Some(ended)),
        };
        tracing::info!(
            exit_code = outcome.exit_code,
            error = outcome.error,
            ms = outcome.duration.as_millis(),
            cpu_ms = outcome.usage.cpu.as_millis(),
            peak_memory_bytes = outcome.usage.peak_memory_bytes,
            "ended"
        );
        let completion = Completion::new(&self.coordinator.host, job, outcome, clock::now());
        let kept = self.keep(completion.clone()).await;
        match (ended, kept) {
            (Some(ended), Some(kept)) => {
                // Neither waits for the other: the cluster may be out of reach, and the disk slow.
                tokio::join!(self.forget(ended), self.deliver(completion, Some(kept))).0
            }
            // The record of the run is all there is on disk: it stays until the outcome was heard.
            (Some(ended), None) => {
                if self.deliver(completion, None).await {
                    self.forget(ended).await
                } else {
                    None
                }
            }
            (None, kept) => {
                self.deliver(completion, kept).await;
                None
            }
        }
    }

    /// Removes what a run left in this daemon's own directory, and says what container it was in.
    async fn forget(&self, ended: Ended) -> Option<String> {
        let container = ended.container().map(str::to_owned);
        ended.forget().await;
        container
    }

    /// Puts an outcome on disk. Without a disk it is at least delivered.
    async fn keep(&self, completion: Completion) -> Option<Spooled> {
        let spool = self.spool.clone();
        let kept = tokio::task::spawn_blocking(move || spool.keep(&completion)).await.ok()?;
        kept.inspect_err(|error| tracing::error!(%error, "could not keep an outcome on disk")).ok()
    }

    /// Tells the cluster an outcome until it was heard or refused; given up only when everything must
    /// stop, and then told at the next start. Says whether nothing is left to tell.
    pub(crate) async fn deliver(&self, mut completion: Completion, kept: Option<Spooled>) -> bool {
        let Coordinator { client, .. } = &self.coordinator;
        let said = loop {
            let Completion { job, key, body } = &completion;
            let give_up = async {
                self.hard.cancelled().await;
                tokio::time::sleep(LAST_WORD).await;
            };
            let say = || client.complete(job, body, Some(key));
            match self.coordinator.insist("completion", give_up, say).await {
                // Something on the way takes less than a coordinator does.
                Said::Refused(error) if error.status() == Some(413) && completion.shrink() => {}
                said => break said,
            }
        };
        let job = &completion.job;
        match said {
            Said::Heard(_) => {}
            Said::Refused(error) => tracing::warn!(%job, %error, "the outcome was refused"),
            Said::GivenUp => {
                tracing::warn!(%job, "the outcome was not heard; it is told at the next start");
                return false;
            }
        }
        if let Some(kept) = kept {
            let _ = tokio::task::spawn_blocking(move || kept.forget()).await;
        }
        true
    }
}
