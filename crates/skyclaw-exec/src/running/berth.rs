//! What every run needs and none has of its own yet, made before it comes: a directory, a control group, and a shim that
//! listens in the directory. To make them would take most of a run's beginning.
//!
//! There is one at most. No plan is in it, and nothing depends on it: a run that finds none, or one that was damaged,
//! makes its own. One that is left by a daemon that was killed is a directory without a label, of which nothing was
//! started, and is removed as such.

use std::io;
use std::mem;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tokio_util::task::TaskTracker;

use super::label::Label;
use super::launch::{Shims, Waiting};
use crate::cgroup::Group;
use crate::rundir::RunDir;

/// A place for a run, before anybody keeps it. Dropped without being [taken](Self::take), it is removed.
#[derive(Debug)]
pub(crate) struct Place {
    dir: Option<RunDir>,
    groups: Vec<Group>,
}

impl Place {
    /// A directory, and the groups that a run is in which asks for nothing.
    pub(crate) fn new(dir: RunDir, groups: Vec<Group>) -> Self {
        Self { dir: Some(dir), groups }
    }

    /// What it is made of, which is up to the caller from then on.
    pub(crate) fn take(mut self) -> Option<(RunDir, Vec<Group>)> {
        Some((self.dir.take()?, mem::take(&mut self.groups)))
    }

    fn is_intact(&self) -> bool {
        self.dir.as_ref().is_some_and(Label::has_room)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(dir) = self.dir.take() {
            self.groups.iter().for_each(Group::remove);
            dir.remove();
        }
    }
}

/// A place with a shim.
#[derive(Debug)]
pub(crate) struct Berth {
    // Dropped first: it ends then, and leaves the directory.
    shim: Waiting,
    place: Place,
}

impl Berth {
    /// Has a shim come to a place.
    ///
    /// # Errors
    /// When none does.
    pub(crate) async fn at(place: Place, shims: &Shims) -> io::Result<Self> {
        let dir = place.dir.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Label::make_room(dir)?;
        let shim = shims.ask_ahead(&dir.control())?;
        let berth = Self { shim, place };
        if berth.shim.is_there_in_time().await {
            return Ok(berth);
        }
        shims.distrust();
        Err(io::Error::other("no shim has come"))
    }

    pub(crate) fn into_parts(self) -> (Waiting, Place) {
        (self.shim, self.place)
    }
}

/// The place for the next run.
#[derive(Debug, Default)]
pub(crate) struct Berths {
    next: Mutex<Next>,
    /// Who knows of the tasks that make one; until there is somebody, none is made.
    tracker: OnceLock<TaskTracker>,
}

#[derive(Debug, Default)]
enum Next {
    #[default]
    Wanted,
    BeingMade,
    There(Box<Berth>),
}

impl Berths {
    /// From now on there is to be one.
    pub(crate) fn turn_on(&self, tracker: &TaskTracker) {
        self.tracker.get_or_init(|| tracker.clone());
    }

    /// Takes the place, if it is as it was made, and calls its shim.
    pub(crate) fn take(&self) -> Option<Berth> {
        let mut next = self.lock();
        let taken = mem::take(&mut *next);
        let Next::There(berth) = taken else {
            *next = taken;
            return None;
        };
        drop(next);
        (berth.place.is_intact() && berth.shim.call().is_ok()).then_some(*berth)
    }

    /// Whether there is one.
    pub(crate) fn has_one(&self) -> bool {
        matches!(*self.lock(), Next::There(_))
    }

    /// Whether one is to be made now: by a task of this tracker, which must say what has [come](Self::end) of it.
    pub(crate) fn begin(&self) -> Option<&TaskTracker> {
        let tracker = self.tracker.get()?;
        let mut next = self.lock();
        if !matches!(*next, Next::Wanted) {
            return None;
        }
        *next = Next::BeingMade;
        Some(tracker)
    }

    /// Keeps what was made.
    pub(crate) fn end(&self, made: Option<Berth>) {
        *self.lock() = made.map_or(Next::Wanted, |berth| Next::There(Box::new(berth)));
    }

    fn lock(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
