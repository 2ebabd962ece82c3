//! Backups, and the way back to one.
//!
//! A backup is made on whichever node is asked, from its own state once that holds everything acknowledged
//! before. A restore goes through the log in parts; the last step is taken at the leader, which looks first
//! whether it would work: what it finds, every node would find.
//!
//! Nothing may be leased when the cluster goes back ([`skyclaw_core::State::judge`]). Who waits for that has
//! the leader hold claims back meanwhile. That is soft, and only shortens the wait: what counts is what the
//! log says.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skyclaw_core::{Operation, Refusal, Reply, Restore, RollBack, StagedPart, Verdict};
use skyclaw_proto::{NodeId, RestoreId};
use skyclaw_store::RollBackError;
use skyclaw_store::snapshot::{self, Header, Origin};
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::{ReadError, WriteError};
use crate::leader::LeaderReply;
use crate::machine::{refusal, snapshot_of, with_causes};
use crate::node::{Inner, Node, Written};
use crate::peer::{LeaderCall, LeaderError};

/// For how long claims are held at a time; who waits asks again before that.
const HOLD: Duration = Duration::from_secs(15);
/// How long what needs no wait may take: the whole snapshot is read, and written by every node.
pub(crate) const STEP_WITHIN: Duration = Duration::from_secs(600);
/// How long a part is tried again while nobody leads.
const STAGE_WITHIN: Duration = Duration::from_secs(20);
/// How often to look whether leases are over, should no change be noticed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The node belongs to no cluster yet, or nobody leads.
    #[error(transparent)]
    NotNow(#[from] WriteError),
    /// The copy could not be made.
    #[error("the copy for the backup cannot be made: {0}")]
    Copy(String),
    /// The copy could not be written on.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
}

/// A copy of everything, ready to be written as a snapshot. Dropped, it is gone.
#[derive(Debug)]
pub struct Backup {
    file: PathBuf,
    origin: Origin,
    /// How far in the log it goes.
    pub index: u64,
    /// About how many bytes the snapshot will have.
    pub bytes: u64,
}

impl Backup {
    /// Writes the snapshot.
    ///
    /// # Errors
    /// When the copy cannot be read or the snapshot not be written. What was written by then is of no use.
    pub async fn write(&self, out: impl AsyncWrite + Unpin) -> Result<Header, BackupError> {
        Ok(snapshot::write(&self.file, self.origin, out).await?)
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

impl Node {
    /// Copies everything that was acknowledged before now, to be written as a snapshot.
    ///
    /// # Errors
    /// When this node cannot catch up, or there is no room for a copy.
    pub async fn backup(&self, id: Uuid, timeout: Duration) -> Result<Backup, BackupError> {
        let cluster = self.0.cluster.borrow().ok_or(WriteError::NoLeader)?;
        self.catch_up(timeout).await?;
        self.0.machine.settle().await.map_err(WriteError::from)?;
        let file = self.0.copies.join(format!("backup-{id}.db"));
        crate::raft::make_dir(&self.0.copies).map_err(|error| BackupError::Copy(with_causes(&error)))?;
        let copied = self.0.machine.store().copy_to(&file).await;
        let copied = copied.map_err(|error| BackupError::Copy(with_causes(&error)))?;
        let index = copied.position.as_ref().map_or(0, |position| position.index);
        let origin = Origin { cluster, created_at: self.0.stamper.now() };
        Ok(Backup { file, origin, index, bytes: copied.bytes })
    }

    /// Lays a part of a snapshot by on every node. Doing so again is harmless. The restore is returned if it
    /// has been carried out already.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn stage(&self, part: StagedPart) -> Result<Option<Arc<Restore>>, WriteError> {
        let deadline = Instant::now() + STAGE_WITHIN;
        let part = Arc::new(part);
        loop {
            let error = match self.write(None, Operation::StageRestore(Arc::clone(&part))).await {
                Ok(written) => return Ok(restored(written)),
                Err(error) => error,
            };
            if !(error.is_open() || error.can_be_tried_again()) || Instant::now() >= deadline {
                return Err(error);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Drops what was laid by for a restore. The restore is returned if it has been carried out already.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn cancel_restore(&self, restore: &RestoreId) -> Result<Option<Arc<Restore>>, WriteError> {
        let written = self.write(None, Operation::CancelRestore { restore: restore.clone() }).await?;
        Ok(restored(written))
    }

    /// Goes back to the snapshot that was laid by, on every node; waits up to `wait` for all leases to be
    /// over, and lets no new ones begin meanwhile. Asked again, with the same id, it says what came of it.
    ///
    /// # Errors
    /// When it is refused, could not be proposed, or its outcome is unknown.
    pub async fn restore(
        &self,
        restore: RestoreId,
        force: bool,
        requested_by: Option<String>,
        wait: Duration,
    ) -> Result<Arc<Restore>, WriteError> {
        let cluster = self.0.cluster.borrow().ok_or(WriteError::NoLeader)?;
        let back = RollBack { restore, cluster, force, requested_by };
        let call = LeaderCall::Restore { back, wait, node: self.node_id().clone() };
        let LeaderReply::Written(written) = self.0.at_leader(call).await? else {
            return Err(WriteError::OutcomeUnknown);
        };
        let index = written.index;
        let restore = restored(written).ok_or(WriteError::OutcomeUnknown)?;
        // Who was told of it reads here what came after it.
        let _ = self.wait_applied(index, STEP_WITHIN).await;
        Ok(restore)
    }

    /// What the cluster went back to, oldest first.
    ///
    /// # Errors
    /// When the node goes down.
    pub async fn restores(&self) -> Result<Vec<Arc<Restore>>, ReadError> {
        Ok(self.0.machine.look(|memory| memory.state.restores().to_vec()).await?)
    }
}

fn restored(written: Written) -> Option<Arc<Restore>> {
    match written.reply {
        Reply::Restored(restore) => Some(restore),
        _ => None,
    }
}

impl Inner {
    /// Takes the last step of a restore, as the leader.
    pub(crate) async fn lead_restore(
        &self,
        back: RollBack,
        wait: Duration,
        node: NodeId,
    ) -> Result<Written, LeaderError> {
        let deadline = Instant::now() + wait;
        let result = self.try_to_restore(&back, deadline, !wait.is_zero(), node).await;
        let goes_on =
            matches!(&result, Err(LeaderError::Write(WriteError::Refused(Refusal::JobsLeased { .. }))));
        if !wait.is_zero() && !goes_on {
            self.machine.look(|memory| memory.hold_claims(None)).await?;
        }
        result
    }

    async fn try_to_restore(
        &self,
        back: &RollBack,
        deadline: Instant,
        may_hold: bool,
        node: NodeId,
    ) -> Result<Written, LeaderError> {
        let mut applied = self.machine.watch_applied();
        loop {
            if !*self.leading.borrow() {
                return Err(LeaderError::NotLeader);
            }
            applied.mark_unchanged();
            let sought = back.clone();
            let verdict = self.machine.look(move |memory| {
                if may_hold {
                    memory.hold_claims(Some(std::time::Instant::now() + HOLD));
                }
                memory.state.judge(&sought)
            });
            let refusal = match verdict.await? {
                Verdict::Done(restore) => {
                    let index = self.machine.applied();
                    return Ok(Written { reply: Reply::Restored(restore), index });
                }
                Verdict::Go => match self.take_last_step(back, node.clone()).await {
                    Err(LeaderError::Write(WriteError::Refused(refusal))) => refusal,
                    other => return other,
                },
                Verdict::Refused(refusal) => refusal,
            };
            if !matches!(refusal, Refusal::JobsLeased { .. }) || Instant::now() >= deadline {
                return Err(LeaderError::Write(refusal.into()));
            }
            let _ = tokio::time::timeout(LOOK_EVERY, applied.changed()).await;
        }
    }

    async fn take_last_step(&self, back: &RollBack, node: NodeId) -> Result<Written, LeaderError> {
        let mut command = self.stamper.stamp(None, Operation::RollBack(back.clone()));
        command.node = node;
        self.machine.settle().await?;
        let (store, restore) = (self.machine.store().clone(), back.restore.clone());
        let runtime = tokio::runtime::Handle::current();
        let looked = tokio::task::spawn_blocking(move || {
            runtime.block_on(async move { store.assemble(&restore).await.map(|all| all.snapshot.clone()) })
        });
        let looked = looked.await.map_err(|error| WriteError::Storage(error.to_string()))?;
        let header = match looked {
            Ok(header) => header,
            Err(RollBackError::Refused(why)) => return Err(self.unusable(back, refusal(why)).await),
            Err(RollBackError::Copy(error)) => {
                let refusal = Refusal::SnapshotUnusable(with_causes(&error));
                return Err(self.unusable(back, refusal).await);
            }
            Err(error) => return Err(WriteError::Storage(with_causes(&error)).into()),
        };
        Restore::of(&command, back, snapshot_of(&header), None).map_err(WriteError::Refused)?;
        let (answer, index) = self.proposer.propose_alone(command, STEP_WITHIN).await?;
        Ok(Written { reply: answer.map_err(WriteError::Refused)?, index })
    }

    /// What can never be gone back to need not be kept.
    async fn unusable(&self, back: &RollBack, refusal: Refusal) -> LeaderError {
        if matches!(refusal, Refusal::SnapshotUnusable(_)) {
            let cancel = Operation::CancelRestore { restore: back.restore.clone() };
            if let Err(error) = self.proposer.propose(self.stamper.stamp(None, cancel)).await {
                tracing::warn!(%error, restore = %back.restore, "what was staged is not dropped yet");
            }
        }
        LeaderError::Write(refusal.into())
    }
}
