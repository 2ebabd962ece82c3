//! The way of a command into the log.
//!
//! Commands that wait are put together into one entry, and one entry is on its way at a time: while it
//! is written and synced, the next batch gathers. So under load many commands share one fsync, and a
//! lone command does not wait for company.
//!
//! What is refused here was never proposed. Once a command is proposed, only the log knows its fate.

use std::sync::Arc;
use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};
use skyclaw_core::Command;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::error::WriteError;
use crate::log::Log;
use crate::machine::{Answer, Machine};
use crate::raft::{Proposal, Raft};

/// Most commands that wait; beyond, they are refused.
const QUEUE: usize = 8192;
/// Most commands of one entry.
const MAX_COMMANDS: usize = 2048;
/// Past this an entry takes no more commands.
const MAX_BYTES: usize = 1024 * 1024;
/// What the log must have room for beyond an entry: entries of its own, and an estimate that was low.
const RESERVE_BYTES: u64 = 1024 * 1024;
/// How long an entry may take to be committed before its clients are told that nobody knows.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(15);

/// A command that was carried out or refused, and the place in the log where that was decided.
pub(crate) type Decided = (Answer, u64);

struct Waiting {
    command: Command,
    decided: oneshot::Sender<Result<Decided, WriteError>>,
}

/// The handle of the proposer.
#[derive(Debug, Clone)]
pub(crate) struct Proposer {
    queue: mpsc::Sender<Waiting>,
}

impl Proposer {
    /// Starts the task. It ends with the last handle.
    pub(crate) fn start(raft: Raft, log: Log, machine: Machine, tracker: &TaskTracker) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tracker.spawn(Task { raft, log, machine }.run(waiting));
        Self { queue }
    }

    /// Puts a command into the log and waits until it is applied.
    ///
    /// # Errors
    /// When it was not proposed, or its outcome is unknown.
    pub(crate) async fn propose(&self, command: Command) -> Result<Decided, WriteError> {
        let (decided, decision) = oneshot::channel();
        self.queue.try_send(Waiting { command, decided }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => WriteError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => WriteError::ShuttingDown,
        })?;
        decision.await.unwrap_or(Err(WriteError::OutcomeUnknown))
    }
}

struct Task {
    raft: Raft,
    log: Log,
    machine: Machine,
}

impl Task {
    async fn run(self, mut queue: mpsc::Receiver<Waiting>) {
        while let Some(first) = queue.recv().await {
            let mut bytes = first.command.approx_bytes();
            let mut batch = vec![first];
            while bytes < MAX_BYTES && batch.len() < MAX_COMMANDS {
                let Ok(next) = queue.try_recv() else { break };
                bytes += next.command.approx_bytes();
                batch.push(next);
            }
            self.propose(batch, bytes as u64).await;
        }
    }

    async fn propose(&self, batch: Vec<Waiting>, bytes: u64) {
        let (commands, clients): (Vec<_>, Vec<_>) = batch.into_iter().map(|w| (w.command, w.decided)).unzip();
        let result = match self.storage_trouble(bytes) {
            Some(trouble) => Err(WriteError::Storage(trouble)),
            None => self.write(commands).await,
        };
        match result {
            Ok((answers, index)) => {
                debug_assert_eq!(answers.len(), clients.len(), "one answer a command");
                for (client, answer) in clients.into_iter().zip(answers) {
                    let _ = client.send(Ok((answer, index)));
                }
            }
            Err(error) => {
                for client in clients {
                    let _ = client.send(Err(error.clone()));
                }
            }
        }
    }

    /// A full disk must be noticed before something is proposed: an entry that cannot be written down
    /// would end the log's life.
    fn storage_trouble(&self, bytes: u64) -> Option<String> {
        if let Some(trouble) = self.machine.trouble() {
            return Some(trouble);
        }
        let room = self.log.room();
        (room < bytes + RESERVE_BYTES).then(|| format!("the log has room for {room} more bytes only"))
    }

    async fn write(&self, commands: Vec<Command>) -> Result<(Vec<Answer>, u64), WriteError> {
        let write = self.raft.client_write(Proposal(Arc::new(commands)));
        match tokio::time::timeout(COMMIT_TIMEOUT, write).await {
            Ok(Ok(done)) => Ok((done.data.0, done.log_id.index)),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(WriteError::NoLeader),
            Ok(Err(error)) => {
                tracing::error!(%error, "the log took no entry");
                Err(WriteError::OutcomeUnknown)
            }
            Err(_) => Err(WriteError::OutcomeUnknown),
        }
    }
}
