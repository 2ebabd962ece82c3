//! Hands what the log has committed to the machine.

use std::io;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{
    EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, Snapshot, SnapshotMeta, StoredMembership,
};
use skyclaw_store::Position;

use super::snapshot::{Builder, Checkpointed};
use super::types::{Answers, Entry, LogId, Member, Place, RaftId, StorageError, TypeConfig};
use crate::machine::{Applier, Machine};

/// What openraft believes to be the state machine.
#[derive(Debug)]
pub(crate) struct StateMachine {
    machine: Machine,
    applier: Applier,
    place: Place,
}

impl StateMachine {
    /// `place` is how far the machine had come when it was loaded.
    pub(crate) fn new(machine: Machine, applier: Applier, place: Place) -> Self {
        Self { machine, applier, place }
    }
}

fn failed(verb: ErrorVerb, why: String) -> StorageError {
    StorageError::from_io_error(ErrorSubject::StateMachine, verb, io::Error::other(why))
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = Builder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId>, StoredMembership<RaftId, Member>), StorageError> {
        Ok((self.place.log_id, self.place.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answers>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut batches = Vec::new();
        for entry in entries {
            self.place.log_id = Some(entry.log_id);
            batches.push(match entry.payload {
                EntryPayload::Normal(proposal) => proposal.0,
                EntryPayload::Blank => Arc::default(),
                EntryPayload::Membership(membership) => {
                    self.place.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Arc::default()
                }
            });
        }
        let bytes =
            rmp_serde::to_vec_named(&self.place).map_err(|e| failed(ErrorVerb::Write, e.to_string()))?;
        let index = self.place.log_id.map_or(0, |id| id.index);
        let answers = self.applier.apply(Position { index, bytes }, batches).await;
        let answers = answers.map_err(|why| failed(ErrorVerb::Write, why))?;
        Ok(answers.into_iter().map(Answers).collect())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { machine: self.machine.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Checkpointed>, StorageError> {
        Err(failed(ErrorVerb::Read, "this node has no peers to receive a snapshot from".to_owned()))
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta<RaftId, Member>,
        _snapshot: Box<Checkpointed>,
    ) -> Result<(), StorageError> {
        Err(failed(ErrorVerb::Write, "this node has no peers to receive a snapshot from".to_owned()))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        Ok(None)
    }
}
