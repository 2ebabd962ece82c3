//! Runs that are over.

use std::os::fd::OwnedFd;

use super::found::Found;
use super::label::Label;
use super::{LATE, Running};
use crate::cgroup::Group;
use crate::outcome::{self, Outcome};
use crate::protocol::{Process, Status};
use crate::record::Exit;
use crate::rundir::RunDir;
use crate::{sweep, tree};

/// A run that is over. What it left on disk stays until it is forgotten.
#[derive(Debug)]
pub struct Ended {
    outcome: Outcome,
    label: serde_json::Value,
    container: Option<String>,
    dir: RunDir,
    /// Its shim and its guard, as far as they may still be there.
    keepers: Vec<OwnedFd>,
    /// Guard and shim, if they hold on to the record because the disk did not take it.
    held: Option<[Process; 2]>,
    groups: Vec<Group>,
}

impl Running {
    /// What it left, after the end of what is left of it. Of one that is not over, that is all of it.
    pub async fn end(mut self) -> Ended {
        self.over = true;
        let (dir, label, status) = (self.dir.clone(), self.label.clone(), self.status.take());
        let unwritten = self.unwritten.take();
        match Self::read_end(dir.clone(), label.clone(), status, true, unwritten).await {
            Found::Ended(ended) => ended,
            _ => {
                let Label { label, container, groups, .. } = label;
                let keepers = Vec::new();
                Ended { outcome: Outcome::lost(), label, container, dir, keepers, held: None, groups }
            }
        }
    }

    /// Reads how a run ended, after ending what is left of it where nobody keeps it.
    pub(super) async fn read_end(
        dir: RunDir,
        label: Label,
        status: Option<Status>,
        sweep: bool,
        unwritten: Option<Box<Exit>>,
    ) -> Found {
        let read = move || {
            let control = dir.control();
            let recorded = |dir: &RunDir| {
                Exit::read(&dir.control()).unwrap_or_else(|error| {
                    tracing::error!(run = dir.id(), %error, "the record of a run cannot be read");
                    None
                })
            };
            let held = status.as_ref().filter(|_| unwritten.is_some()).map(|it| [it.guard, it.shim]);
            let mut exit = unwritten.map(|exit| *exit).or_else(|| recorded(&dir));
            if exit.is_none() && sweep {
                sweep::end(dir.id(), status.as_ref(), &label.groups);
                exit = recorded(&dir);
            }
            let Some(exit) = exit else {
                dir.remove();
                return Found::Lost(label.label);
            };
            let keepers = status.into_iter().flat_map(|it| [it.shim, it.guard]);
            let keepers = keepers.filter_map(|it| tree::hold(it.pid, it.start)).collect();
            let outcome = outcome::of(exit, &control, label.capture, label.hint.as_deref());
            let Label { label, container, groups, .. } = label;
            Found::Ended(Ended { outcome, label, container, dir, keepers, held, groups })
        };
        tokio::task::spawn_blocking(read).await.unwrap_or(Found::Lost(serde_json::Value::Null))
    }
}

impl Ended {
    /// How it ended.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// What whoever started it wrote on it.
    #[must_use]
    pub fn label(&self) -> &serde_json::Value {
        &self.label
    }

    /// The name of the container it was in, which is still to be cleared away.
    #[must_use]
    pub fn container(&self) -> Option<&str> {
        self.container.as_deref()
    }

    /// Removes what it left on disk, and gives the outcome. To be called when that is safe elsewhere.
    pub async fn forget(self) -> Outcome {
        let Self { outcome, dir, keepers, held, groups, .. } = self;
        // Its removal is on the file system, so it is done off the runtime.
        let remove = move || {
            // They would write the record as soon as there is room again. In this order, as a guard does it when
            // its shim is gone.
            held.into_iter().flatten().for_each(sweep::kill);
            // Who told of the end has only to clear up after itself.
            for keeper in keepers {
                sweep::is_gone_within(&keeper, LATE);
            }
            // In case it was killed before it could.
            groups.iter().for_each(Group::remove);
            dir.remove();
        };
        let _ = tokio::task::spawn_blocking(remove).await;
        outcome
    }
}
