//! Parts of a snapshot, and the way back to it.
//!
//! The last step itself, [`Operation::RollBack`](crate::Operation::RollBack), replaces what is on disk, so
//! who applies commands carries it out: it asks [`State::judge`] first, then makes the record with
//! [`Restore::of`], and loads the state anew with the [records](State::restores) of before and that one.

use std::sync::Arc;

use skyclaw_proto::RestoreId;

use super::Draft;
use crate::command::Command;
use crate::outcome::{Change, Effect, Refusal, Reply, StagedPart};
use crate::restore::{KEPT_RESTORES, Restore, RollBack, SnapshotOf};
use crate::state::State;

/// Most jobs a refusal names.
const NAMED_JOBS: usize = 20;

/// Whether the state is to go back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Go,
    /// It has gone back already: the command has come twice.
    Done(Arc<Restore>),
    /// It must not.
    Refused(Refusal),
}

impl State {
    /// Whether to go back to what is staged. Nothing may be leased: a run goes on whatever its record says,
    /// and the job, queued again by the snapshot, would be given to another host beside it.
    #[must_use]
    pub fn judge(&self, back: &RollBack) -> Verdict {
        if let Some(done) = self.restore(&back.restore) {
            return Verdict::Done(Arc::clone(done));
        }
        if self.staging.as_ref() != Some(&back.restore) {
            return Verdict::Refused(Refusal::NotStaged(back.restore.clone()));
        }
        let mut jobs: Vec<_> = self.leases.values().flatten().collect();
        if jobs.is_empty() {
            return Verdict::Go;
        }
        jobs.sort_unstable();
        let count = jobs.len() as u64;
        let jobs = jobs.into_iter().take(NAMED_JOBS).cloned().collect();
        Verdict::Refused(Refusal::JobsLeased { count, jobs })
    }

    /// The newest of the restores there were, oldest first.
    #[must_use]
    pub fn restores(&self) -> &[Arc<Restore>] {
        &self.restores
    }

    /// A restore that was carried out.
    #[must_use]
    pub fn restore(&self, id: &RestoreId) -> Option<&Arc<Restore>> {
        self.restores.iter().rev().find(|restore| restore.id == *id)
    }

    /// The restore whose parts are laid by.
    #[must_use]
    pub fn staging(&self) -> Option<&RestoreId> {
        self.staging.as_ref()
    }

    /// Whether nothing is claimed at the moment; see [`Restore::claims_held`].
    #[must_use]
    pub fn claims_held(&self) -> bool {
        self.restores.last().is_some_and(|last| last.claims_held)
    }

    /// With what is known of restores: those there were, oldest first, and the one under way.
    #[must_use]
    pub fn with_restores(
        mut self,
        restores: impl IntoIterator<Item = Arc<Restore>>,
        staging: Option<RestoreId>,
    ) -> Self {
        self.restores = restores.into_iter().collect();
        self.forget_old_restores();
        self.staging = staging;
        self
    }

    fn forget_old_restores(&mut self) {
        self.restores.drain(..self.restores.len().saturating_sub(KEPT_RESTORES));
    }
}

impl Restore {
    /// The record of going back to this snapshot, after `last`.
    ///
    /// Runs that another cluster started are not known here. Those of a cluster that is gone end with their
    /// leases, so nothing is claimed until such a lease would be over.
    ///
    /// # Errors
    /// When the snapshot is of another cluster and that was not asked for.
    pub fn of(
        command: &Command,
        back: &RollBack,
        snapshot: SnapshotOf,
        last: Option<&Self>,
    ) -> Result<Self, Refusal> {
        let foreign = snapshot.cluster != back.cluster;
        if foreign && !back.force {
            return Err(Refusal::ForeignSnapshot { snapshot: snapshot.cluster, cluster: back.cluster });
        }
        Ok(Self {
            number: last.map_or(1, |last| last.number + 1),
            id: back.restore.clone(),
            at: command.at,
            node: command.node.clone(),
            requested_by: back.requested_by.clone(),
            snapshot,
            foreign,
            // What is still held for an earlier one is held on.
            claims_held: foreign || last.is_some_and(|last| last.claims_held),
        })
    }
}

impl Draft<'_> {
    /// There is one restore at a time: a part of another drops the parts before.
    pub(super) fn stage(&mut self, part: &Arc<StagedPart>) -> Reply {
        if let Some(done) = self.state.restore(&part.restore) {
            return Reply::Restored(Arc::clone(done));
        }
        self.state.staging = Some(part.restore.clone());
        self.changes.push(Change::Stage(Arc::clone(part)));
        Reply::Done
    }

    /// What another restore has staged since is not touched.
    pub(super) fn cancel_restore(&mut self, restore: &RestoreId) -> Reply {
        if let Some(done) = self.state.restore(restore) {
            return Reply::Restored(Arc::clone(done));
        }
        if self.state.staging.as_ref() == Some(restore) {
            self.state.staging = None;
            self.changes.push(Change::DropStaged);
        }
        Reply::Done
    }

    pub(super) fn release_claims(&mut self, restore: &RestoreId) -> Reply {
        let Some(last) = self.state.restores.last_mut() else { return Reply::Done };
        if last.id == *restore && last.claims_held {
            let open = Arc::new(Restore { claims_held: false, ..(**last).clone() });
            *last = Arc::clone(&open);
            self.changes.push(Change::Restore(open));
            self.effects.push(Effect::ClaimsReleased);
        }
        Reply::Done
    }
}
