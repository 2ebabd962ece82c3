//! Has jobs forgotten that ended long ago, or are too many, and replies whose time is over.
//!
//! ```text
//!  database ─► who is next, a page at a time ─► what must be kept is left out ─► PruneJobs ─► log
//!     ▲                                                                                       │
//!     └───────────────────────────────── applied on every node ◄─────────────────────────────┘
//! ```
//!
//! Only the leader decides, by its own settings and clock; what it decides names each job, so all nodes forget the
//! same. Nothing is remembered here that a new leader would miss: it finds again what is left.
//!
//! It works in small steps, one after the other, and takes a quarter of its time: after each it rests three times as long as
//! that took, so it slows down as everything else does. When it does not keep up like this it rests less and less: what
//! ends must not outrun it, however much that is. A job is left alone for some seconds after its end whatever
//! the settings, so that who waits for it sees it, and a late copy of a command finds it.

mod progress;

use std::time::{Duration, Instant};

use skyclaw_core::{Expendable, Operation, PruneJobs, WhyPruned};
use skyclaw_proto::Timestamp;
use skyclaw_store::{EndedCount, EndedPage, ReadError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::machine::{Gone, Machine};
use crate::options::Stamper;
use crate::proposer::Proposer;

use progress::Progress;

/// How long jobs are kept that have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobRetention {
    /// Those that ask for no time of their own: so long after their end; `None` for without end.
    pub age: Option<Duration>,
    /// How many at most; `None` for as many as there are.
    pub count: Option<u64>,
}

impl Default for JobRetention {
    fn default() -> Self {
        Self { age: Some(Duration::from_secs(7 * 24 * 3600)), count: Some(1_000_000) }
    }
}

/// No job is forgotten sooner after its end.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// About how many bytes of records one command removes at most.
const BYTES_AT_ONCE: u64 = 4 * 1024 * 1024;
/// How many pages are looked through at once for one job that need not be kept.
const PAGES_AT_ONCE: usize = 16;
/// How often it is looked whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long to wait when something failed.
const RETRY: Duration = Duration::from_secs(1);
/// How often jobs are looked at again that had to be kept, and all are counted when nothing asks for it.
const ANEW_EVERY: Duration = Duration::from_secs(60);
/// How often jobs are counted at most, and how much more time than counting must pass in between.
const COUNT_EVERY: (Duration, u32) = (Duration::from_secs(1), 500);
/// How often it is logged what was forgotten.
const SAY_EVERY: Duration = Duration::from_secs(30);

pub(crate) struct Pruner {
    pub(crate) machine: Machine,
    pub(crate) proposer: Proposer,
    pub(crate) stamper: Stamper,
    pub(crate) keep: JobRetention,
    /// Whether this node leads.
    pub(crate) leading: watch::Receiver<bool>,
    pub(crate) stop: CancellationToken,
}

/// What is to be done next.
enum Next {
    /// There may be more to do.
    More,
    /// There is nothing to do for now.
    Nothing,
    /// What was to be done did not work.
    Failed,
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Gone(#[from] Gone),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] crate::error::WriteError),
}

/// When jobs were counted.
struct Counted {
    at: Instant,
    took: Duration,
    /// Up to where the log was applied.
    applied: u64,
    /// How many ends had been applied.
    ends: u64,
    count: EndedCount,
}

/// What was forgotten and not said yet.
#[derive(Default)]
struct Tally {
    jobs: usize,
    /// When the first and the last of them ended.
    span: Option<(Timestamp, Timestamp)>,
    said: Option<Instant>,
}

impl Tally {
    fn add(&mut self, jobs: &[Expendable]) {
        self.jobs += jobs.len();
        for job in jobs {
            let (first, last) = self.span.unwrap_or((job.ended_at, job.ended_at));
            self.span = Some((first.min(job.ended_at), last.max(job.ended_at)));
        }
    }

    fn say(&mut self) {
        let Some((first, last)) = self.span.filter(|_| self.said.is_none_or(|at| at.elapsed() >= SAY_EVERY))
        else {
            return;
        };
        tracing::info!(jobs = self.jobs, %first, %last, "jobs that ended in that time are forgotten");
        *self = Self { said: Some(Instant::now()), ..Self::default() };
    }
}

impl Pruner {
    pub(crate) async fn run(mut self) {
        let (mut progress, mut counted, mut tally) = (Progress::new(), None, Tally::default());
        // Whether the last step did not work: it is said once.
        let mut waits = false;
        loop {
            let leads = *self.leading.borrow_and_update();
            let began = Instant::now();
            let stepped = match leads {
                true => self.step(&mut progress, &mut counted, &mut tally).await,
                false => self.count(&mut counted, None).await.map(|_| Next::Nothing),
            };
            let next = match stepped {
                Ok(next) => {
                    if std::mem::take(&mut waits) {
                        tracing::info!("jobs that have ended are forgotten again");
                    }
                    next
                }
                Err(Error::Gone(_)) => return,
                Err(error) => {
                    if !std::mem::replace(&mut waits, true) {
                        tracing::warn!(%error, "jobs that have ended cannot be forgotten at the moment");
                    }
                    Next::Failed
                }
            };
            tally.say();
            let rest = match next {
                Next::More => progress.rest(began.elapsed()),
                Next::Nothing => LOOK_EVERY,
                Next::Failed => RETRY,
            };
            // Every branch is cancel-safe: each waits for a change or a time.
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = self.leading.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    progress = Progress::new();
                }
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// One step: the next jobs and the next replies. Both, as there may be jobs to forget for as long as there is work.
    async fn step(
        &self,
        progress: &mut Progress,
        counted: &mut Option<Counted>,
        tally: &mut Tally,
    ) -> Result<Next, Error> {
        if progress.began.elapsed() > ANEW_EVERY {
            progress.begin_anew();
        }
        if let Some(count) = self.count(counted, self.keep.count).await? {
            progress.surplus = surplus(&count, self.keep.count);
        }
        let now = self.stamper.now();
        let jobs = self.forget_jobs(now, progress, tally).await?;
        let replies = self.forget_replies(now, progress).await?;
        Ok(if jobs || replies { Next::More } else { Next::Nothing })
    }

    /// Forgets the next jobs that are to be forgotten for the first reason that there are any. False when there are none.
    async fn forget_jobs(
        &self,
        now: Timestamp,
        progress: &mut Progress,
        tally: &mut Tally,
    ) -> Result<bool, Error> {
        for why in WhyPruned::ALL {
            let Some(prune) = self.next(why, now, progress).await? else { continue };
            tally.add(&prune.jobs);
            self.propose(now, Operation::PruneJobs(prune)).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// The next jobs to be forgotten for a reason.
    async fn next(
        &self,
        why: WhyPruned,
        now: Timestamp,
        progress: &mut Progress,
    ) -> Result<Option<PruneJobs>, Error> {
        if why != WhyPruned::Count {
            let until = match why {
                WhyPruned::Own => Some(now.minus(GRACE)),
                _ => self.keep.age.map(|age| now.minus(age.max(GRACE))),
            };
            let Some(until) = until else { return Ok(None) };
            return self.find(why, why == WhyPruned::Own, until, u64::MAX, now, progress).await;
        }
        let EndedCount { usual, own, .. } = progress.surplus;
        if usual > 0 {
            let found = self.find(why, false, now.minus(GRACE), usual, now, progress).await?;
            let named = found.as_ref().map_or(0, |prune| prune.jobs.len() as u64);
            progress.surplus.usual = usual.saturating_sub(named);
            if found.is_some() {
                return Ok(found);
            }
        }
        if own == 0 {
            return Ok(None);
        }
        let found = self.find(why, true, Timestamp::from_millis(i64::MAX), own, now, progress).await?;
        let named = found.as_ref().map_or(0, |prune| prune.jobs.len() as u64);
        progress.surplus.own = own.saturating_sub(named);
        Ok(found)
    }

    /// Looks through jobs whose time was over by `until`, from where it stopped the last time.
    async fn find(
        &self,
        why: WhyPruned,
        have_own: bool,
        until: Timestamp,
        most: u64,
        now: Timestamp,
        progress: &mut Progress,
    ) -> Result<Option<PruneJobs>, Error> {
        let store = self.machine.store();
        for _ in 0..PAGES_AT_ONCE {
            let many = progress.jobs_at_once.count();
            let at_once = u32::try_from(most).map_or(many, |most| most.min(many));
            let EndedPage { jobs, last, is_full } = match have_own {
                true => store.outlived_jobs(until, progress.outlived, at_once, BYTES_AT_ONCE).await?,
                false => store.ended_jobs(until, progress.ended, at_once, BYTES_AT_ONCE).await?,
            };
            let (Some(last), Some(up_to)) = (last, jobs.last().map(|job| job.ended_at)) else { break };
            match have_own {
                true => progress.outlived = last,
                false => progress.ended = last,
            }
            progress.found_jobs(is_full && most > u64::from(many));
            let jobs = self.expendable(jobs, now.minus(GRACE)).await?;
            if !jobs.is_empty() {
                let up_to = (!have_own).then_some(up_to);
                return Ok(Some(PruneJobs { jobs, why, up_to }));
            }
        }
        Ok(None)
    }

    /// Those of the jobs that need not be kept.
    async fn expendable(&self, jobs: Vec<Expendable>, until: Timestamp) -> Result<Vec<Expendable>, Error> {
        let look = move |memory: &mut crate::machine::memory::Memory| {
            let kept = memory.state.kept();
            let may_go = |job: &Expendable| job.ended_at <= until && !kept.has(&job.id);
            jobs.into_iter().filter(may_go).collect()
        };
        Ok(self.machine.look(look).await?)
    }

    /// Forgets the next replies. False when there are none, or it is not looked for them yet.
    async fn forget_replies(&self, now: Timestamp, progress: &mut Progress) -> Result<bool, Error> {
        if progress.replies_at > Instant::now() {
            return Ok(false);
        }
        let at_once = progress.replies_at_once.count();
        let Some(expired) = self.machine.store().expired_replies(progress.replies, now, at_once).await?
        else {
            progress.rest_from_replies();
            return Ok(false);
        };
        self.propose(expired.before, Operation::PruneReplies).await?;
        progress.found_replies(expired.before, expired.count >= u64::from(at_once));
        Ok(true)
    }

    async fn propose(&self, at: Timestamp, operation: Operation) -> Result<(), Error> {
        let mut command = self.stamper.stamp(None, operation);
        command.at = at;
        let (answer, _) = self.proposer.propose(command).await?;
        answer.map(drop).map_err(|refusal| crate::error::WriteError::from(refusal).into())
    }

    /// Counts the jobs when there may be more than `most`, and now and then otherwise; `None` when it did not.
    /// It reads an index as a whole, so it does so the more rarely the longer that takes.
    async fn count(
        &self,
        counted: &mut Option<Counted>,
        most: Option<u64>,
    ) -> Result<Option<EndedCount>, Error> {
        let applied = self.machine.applied();
        if counted.as_ref().is_some_and(|counted| counted.applied == applied) {
            return Ok(None);
        }
        let ends = self.machine.look(|memory| memory.ends()).await?;
        if let Some(last) = counted {
            let grown = last.count.usual + last.count.own + ends.saturating_sub(last.ends);
            let is_time = match most {
                Some(most) if grown > most => {
                    last.at.elapsed() >= COUNT_EVERY.0.max(last.took * COUNT_EVERY.1)
                }
                _ => last.at.elapsed() >= ANEW_EVERY,
            };
            if !is_time {
                return Ok(None);
            }
        }
        // What was forgotten and is not written yet would be counted.
        self.machine.settle().await?;
        let began = Instant::now();
        let count = self.machine.store().count_ended().await?;
        self.machine.meters().retained(&count);
        *counted = Some(Counted { at: Instant::now(), took: began.elapsed(), applied, ends, count });
        Ok(Some(count))
    }
}

/// How many jobs of each kind there are too many. Those with a time of their own count, and have to go only when they
/// alone are too many.
fn surplus(count: &EndedCount, most: Option<u64>) -> EndedCount {
    let most = most.unwrap_or(u64::MAX);
    let all = count.usual.saturating_add(count.own);
    EndedCount {
        usual: all.saturating_sub(most).min(count.usual),
        own: count.own.saturating_sub(most),
        oldest: None,
    }
}

#[cfg(test)]
mod tests;
