//! Where a run takes place, made when it comes or ahead of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use super::{Driver, Error, Inner};
use crate::Resources;
use crate::cgroup::{Group, Member, Wanted};
use crate::rundir::RunDir;
use crate::running::{Berth, Place, Waiting};

/// How long a run that has just begun is left alone: it may be over by then.
const REST: Duration = Duration::from_millis(10);
/// For how long a shim that was called is taken to be there still. One that was called longer ago may be frozen by now,
/// and would keep the plan it is given to itself.
const FRESH: Duration = Duration::from_millis(100);

impl Driver {
    /// Makes ahead what the next run needs, now and after each run from now on. To be called after
    /// [`recover`](Self::recover), which would take it for left behind, and in a runtime. What
    /// is made is so by tasks of the tracker.
    pub fn prepare(&self, tracker: &TaskTracker) {
        self.inner.berths.turn_on(tracker);
        self.inner.clone().make_berth(Duration::ZERO);
    }

    /// Whether what the next run needs is there.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        self.inner.berths.has_one()
    }
}

/// What was made ahead, for a run that is about to be started. Its shim was called, and comes to itself while the rest is
/// seen to. Dropped, it is removed.
#[derive(Debug)]
pub struct Reserved {
    inner: Arc<Inner>,
    berth: Option<Berth>,
    called: Instant,
}

impl Reserved {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        let berth = inner.berths.take();
        Self { inner, berth, called: Instant::now() }
    }

    /// A shim, the directory of a run, and the groups that were made for it already.
    pub(super) fn redeem(mut self) -> Result<(Waiting, RunDir, Vec<Group>), Error> {
        let berth = self.berth.take().filter(|_| self.called.elapsed() < FRESH);
        if let Some((shim, place)) = berth.map(Berth::into_parts)
            && let Some((dir, groups)) = place.take()
        {
            return Ok((shim, dir, groups));
        }
        let shim = self.inner.shims.ask().map_err(Error::Shim)?;
        Ok((shim, self.inner.make_dir()?, Vec::new()))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.berth.take().is_some() {
            self.inner.clone().make_next_berth();
        }
    }
}

impl Inner {
    fn make_dir(&self) -> Result<RunDir, Error> {
        let runs = &self.config.runs_dir;
        let fault = |source| Error::RunsDir { path: runs.clone(), source };
        let dir = RunDir::create(runs, RunDir::fresh_id()).map_err(fault)?;
        match self.config.user.as_ref().map(|user| dir.give_to(user)) {
            Some(Err(source)) => {
                dir.remove();
                Err(fault(source))
            }
            _ => Ok(dir),
        }
    }

    /// Has a place be there for the next run after the one that has just begun.
    pub(super) fn make_next_berth(self: Arc<Self>) {
        self.make_berth(REST);
    }

    /// Has a place be there for the next run, if that is wanted. Nothing depends on it.
    fn make_berth(self: Arc<Self>, rest: Duration) {
        let this = self.clone();
        let Some(tracker) = this.berths.begin() else { return };
        tracker.spawn(async move {
            tokio::time::sleep(rest).await;
            let this = self.clone();
            let made = tokio::task::spawn_blocking(move || this.make_place()).await;
            let berth = match made {
                Ok(Ok(place)) => Berth::at(place, &self.shims).await.ok(),
                _ => None,
            };
            self.berths.end(berth);
        });
    }

    fn make_place(&self) -> Result<Place, Error> {
        let dir = self.make_dir()?;
        let resources = Resources::default();
        let wanted = Wanted { run: dir.id(), member: Member::Processes, resources, agent: None };
        let groups = self.cgroups.make(&wanted).unwrap_or_default();
        Ok(Place::new(dir, groups))
    }
}
