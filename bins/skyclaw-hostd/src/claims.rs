//! Claims jobs and runs them.
//!
//! A claim is repeated with the same key and body until it is answered, so a lost answer costs nothing;
//! the leases it gives count from when it was first sent. Each job holds one of the host's slots until
//! its outcome was heard.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use skyclaw_client::Error;
use skyclaw_config::ids;
use skyclaw_exec::{Driver, RunSpec, Stop, StopSignal, Stopper, stop_channel};
use skyclaw_proto::record::Job;
use skyclaw_proto::request::ClaimBody;
use skyclaw_proto::{JobId, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::completion::Completion;
use crate::coordinator::{ChangeLog, Coordinator, Said, is_unknown_host};
use crate::keeper::Keeper;
use crate::leases::Lease;
use crate::spool::{Spool, Spooled};

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
    pub(crate) spool: Spool,
    /// Cancelled when runs must stop.
    pub(crate) hard: CancellationToken,
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
    since: Instant,
    slot: OwnedSemaphorePermit,
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
        let free = u32::try_from(1 + self.slots.available_permits()).unwrap_or(u32::MAX);
        let wait_ms = u64::try_from(WAIT.as_millis()).ok();
        let body = ClaimBody { wait_ms, max: Some(free.min(limits::MAX_CLAIM)) };
        let key = ids::uuid().to_string();
        let Coordinator { client, host, .. } = &self.workshop.coordinator;
        let since = Instant::now();
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

    fn start(&mut self, job: Job, since: Instant, slot: OwnedSemaphorePermit) {
        let before = self.known.get(&job.id).filter(|known| !known.over.is_cancelled());
        let mut earlier = None;
        if let Some(before) = before {
            if job.fence.is_none() {
                // A reference coordinator gives out again what takes longer than its lease, and takes
                // the first outcome that comes.
                tracing::info!(job = %job.id, "claimed once more while it runs here: it goes on as it is");
                return;
            }
            before.stopper.stop(Stop::Because("its lease was given out anew".to_owned()));
            earlier = Some(before.over.clone());
        }
        let (stopper, stop) = stop_channel();
        let over = CancellationToken::new();
        self.known.insert(job.id.clone(), Known { stopper: stopper.clone(), over: over.clone() });
        let span = tracing::info_span!("job", id = %job.id, attempt = job.attempts);
        let workshop = self.workshop.clone();
        let run = async move {
            let _guard = over.clone().drop_guard();
            let _slot = slot;
            if let Some(earlier) = earlier {
                earlier.cancelled().await;
            }
            workshop.run(job, since, stopper, stop, &over).await;
        };
        self.runs.spawn(run.instrument(span));
    }
}

impl Workshop {
    async fn run(
        &self,
        job: Job,
        since: Instant,
        stopper: Stopper,
        stop: StopSignal,
        over: &CancellationToken,
    ) {
        let lease = Lease::of(&job, since);
        let held = self.keeper.hold(job.id.clone(), lease, stopper.clone(), over.clone());
        let may_start = tokio::select! {
            may_start = held => may_start,
            () = self.hard.cancelled() => false,
        };
        if !may_start {
            tracing::warn!("its lease was gone before it could start");
            return;
        }
        let mut spec = RunSpec::job(&job, &self.coordinator.host, self.driver.config());
        if let Some(lease) = lease {
            spec.grace = lease.grace(spec.grace);
        }
        let outcome = {
            let mut run = std::pin::pin!(self.driver.run(spec, stop));
            tokio::select! {
                outcome = &mut run => outcome,
                () = self.hard.cancelled() => {
                    stopper.stop(Stop::Because("host is shutting down".to_owned()));
                    run.await
                }
            }
        };
        tracing::info!(
            exit_code = outcome.exit_code,
            error = outcome.error,
            ms = outcome.duration.as_millis(),
            "ended"
        );
        let completion = Completion::new(&self.coordinator.host, &job, outcome);
        let kept = self.keep(completion.clone()).await;
        self.deliver(completion, kept).await;
    }

    /// Puts an outcome on disk. Without a disk it is at least delivered.
    async fn keep(&self, completion: Completion) -> Option<Spooled> {
        let spool = self.spool.clone();
        let kept = tokio::task::spawn_blocking(move || spool.keep(&completion)).await.ok()?;
        kept.inspect_err(|error| tracing::error!(%error, "could not keep an outcome on disk")).ok()
    }

    /// Tells the cluster an outcome until it was heard or refused; given up only when everything must
    /// stop, and then told at the next start.
    pub(crate) async fn deliver(&self, mut completion: Completion, kept: Option<Spooled>) {
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
                return;
            }
        }
        if let Some(kept) = kept {
            let _ = tokio::task::spawn_blocking(move || kept.forget()).await;
        }
    }
}
