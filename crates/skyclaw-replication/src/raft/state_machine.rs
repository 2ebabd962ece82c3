//! Hands what the log has committed to the machine.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{
    EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, Snapshot, SnapshotMeta, StoredMembership,
};
use skyclaw_core::{Command, Operation, RollBack};
use skyclaw_store::Position;

use super::snapshot::{Builder, SnapshotData, place};
use super::synced::Synced;
use super::types::{Answers, Entry, LogId, Member, Place, RaftId, StorageError, TypeConfig};
use crate::machine::{Applier, Machine};

/// What openraft believes to be the state machine.
#[derive(Debug)]
pub(crate) struct StateMachine {
    machine: Machine,
    applier: Applier,
    place: Place,
    /// The place that was found at the start.
    found: Place,
    /// How far the log is on disk: nothing is applied before.
    synced: Synced,
    /// Where copies that are sent lie meanwhile.
    copies: PathBuf,
}

impl StateMachine {
    /// `place` is how far the machine had come when it was loaded.
    pub(crate) fn new(
        machine: Machine,
        applier: Applier,
        place: Place,
        synced: Synced,
        copies: PathBuf,
    ) -> Self {
        Self { machine, applier, found: place.clone(), place, synced, copies }
    }
}

impl StateMachine {
    /// Where in the log the entries so far end.
    fn position(&self) -> Result<Position, String> {
        let bytes = rmp_serde::to_vec_named(&self.place).map_err(|error| error.to_string())?;
        Ok(Position { index: self.place.log_id.map_or(0, |id| id.index), bytes })
    }

    async fn pass_on(&self, batches: Vec<Arc<Vec<Command>>>) -> Result<Vec<Answers>, StorageError> {
        let write = |why| failed(ErrorVerb::Write, why);
        let answers = self.applier.apply(self.position().map_err(write)?, batches).await.map_err(write)?;
        Ok(answers.into_iter().map(Answers).collect())
    }
}

/// The command that is alone in its entry and has the cluster go back.
fn going_back(payload: &EntryPayload<TypeConfig>) -> Option<(Command, RollBack)> {
    let EntryPayload::Normal(proposal) = payload else { return None };
    let [command] = proposal.commands().as_slice() else { return None };
    let Operation::RollBack(back) = &command.operation else { return None };
    Some((command.clone(), back.clone()))
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
        let (mut batches, mut answers) = (Vec::new(), Vec::new());
        let entries: Vec<Entry> = entries.into_iter().collect();
        if let Some(last) = entries.last() {
            self.synced.wait_for(last.log_id.index).await.map_err(|why| failed(ErrorVerb::Write, why))?;
        }
        for entry in entries {
            let back = going_back(&entry.payload);
            if back.is_some() && !batches.is_empty() {
                answers.extend(self.pass_on(std::mem::take(&mut batches)).await?);
            }
            self.place.log_id = Some(entry.log_id);
            if let Some((command, back)) = back {
                let write = |why| failed(ErrorVerb::Write, why);
                let position = self.position().map_err(write)?;
                let answer = self.applier.go_back(position, command, back).await.map_err(write)?;
                answers.push(Answers(vec![answer]));
                continue;
            }
            batches.push(match entry.payload {
                EntryPayload::Normal(proposal) => Arc::clone(proposal.commands()),
                EntryPayload::Blank => Arc::default(),
                EntryPayload::Membership(membership) => {
                    self.place.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Arc::default()
                }
            });
        }
        if !batches.is_empty() {
            answers.extend(self.pass_on(batches).await?);
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { machine: self.machine.clone(), copies: self.copies.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotData>, StorageError> {
        let why = "snapshots are received as a whole".to_owned();
        Err(failed(ErrorVerb::Read, why))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<RaftId, Member>,
        snapshot: Box<SnapshotData>,
    ) -> Result<(), StorageError> {
        let SnapshotData::Received { file } = *snapshot else {
            return Err(failed(ErrorVerb::Write, "this node's own state is no snapshot for it".to_owned()));
        };
        let installed = self.applier.install(file.clone()).await;
        let _ = tokio::fs::remove_file(&file).await;
        let position = installed.map_err(|why| failed(ErrorVerb::Write, why))?;
        let found = place(position.as_ref()).map_err(|error| failed(ErrorVerb::Read, error.to_string()))?;
        if found.log_id != meta.last_log_id {
            let why = "the snapshot does not go as far as its sender said".to_owned();
            return Err(failed(ErrorVerb::Write, why));
        }
        tracing::info!(index = found.log_id.map(|id| id.index), "installed a snapshot");
        self.place = found;
        Ok(())
    }

    /// The place that is named is one the database holds durably, which what was only written is not. Should no
    /// checkpoint have succeeded yet, as on a full disk, it is the one that was found at the start.
    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let durable = self.machine.checkpointed();
        let place = match durable {
            Some(_) => place(durable.as_ref()).map_err(|e| failed(ErrorVerb::Read, e.to_string()))?,
            None => self.found.clone(),
        };
        let builder = self.get_snapshot_builder().await;
        Ok(place.log_id.is_some().then(|| builder.snapshot(&place)))
    }
}
