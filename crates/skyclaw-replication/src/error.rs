//! What can go wrong, as those who use a node see it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skyclaw_core::Refusal;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] skyclaw_store::OpenError),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] crate::log::OpenError),
    /// A record in the database is not what was written.
    #[error(
        "{} is damaged: {detail}; restore it and the log beside it from a backup, or, if the node is one of a \
         cluster, move both away and let it rejoin",
        db.display()
    )]
    Damaged {
        /// The database.
        db: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Log and database do not belong together.
    #[error(
        "{} and {} do not belong together: {detail}; restore both from the same backup, \
         or move both away to start empty",
        db.display(),
        log.display()
    )]
    Mismatch {
        /// The database.
        db: PathBuf,
        /// The directory of the log.
        log: PathBuf,
        /// How they differ.
        detail: String,
    },
    /// The replicated log did not start.
    #[error("the replicated log in {} did not start: {detail}", log.display())]
    Raft {
        /// The directory of the log.
        log: PathBuf,
        /// Why.
        detail: String,
    },
}

/// Why a write was not done, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The state does not allow it; nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too few peers are known; nothing was written.
    #[error("insufficient peers: requires at least {needed} known peers, got {known}")]
    InsufficientPeers {
        /// How many the replication target asks for.
        needed: u32,
        /// How many are known.
        known: u32,
    },
    /// Too few peers can be reached; nothing was written.
    #[error("replication target not met: required {needed} peer acks, got {reached}")]
    PeersUnreachable {
        /// How many the replication target asks for.
        needed: u32,
        /// How many can be reached.
        reached: u32,
    },
    /// It was proposed, and too few peers have confirmed it in time: it may or may not stay.
    #[error("replication target not met: required {needed} peer acks, got {reached}")]
    TargetNotMet {
        /// How many the replication target asks for.
        needed: u32,
        /// How many have confirmed it.
        reached: u32,
    },
    /// It may or may not have happened.
    #[error("the outcome of the write is unknown; retry it with the same idempotency key to learn the truth")]
    OutcomeUnknown,
    /// There is no leader at the moment; nothing was written.
    #[error("there is no leader at the moment; try again")]
    NoLeader,
    /// Too many writes are waiting; nothing was written.
    #[error("too many writes are waiting; try again later")]
    Overloaded,
    /// The disk is full or broken; nothing was written.
    #[error("the disk cannot be written at the moment: {0}")]
    Storage(String),
    /// The node is going down; nothing was written.
    #[error("the coordinator is going down")]
    ShuttingDown,
    /// The node takes no work, as it does not belong to the cluster that is meant, or to none any more;
    /// nothing was written.
    #[error("this coordinator takes no work: {0}")]
    NotServing(String),
}

/// Why a read was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] skyclaw_store::ReadError),
    /// The node is going down.
    #[error("the coordinator is going down")]
    ShuttingDown,
}

impl WriteError {
    /// Whether it is sure that nothing was written, and trying again may help.
    pub(crate) fn can_be_tried_again(&self) -> bool {
        matches!(self, Self::NoLeader)
    }

    /// Whether it may have been written or not.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::OutcomeUnknown | Self::TargetNotMet { .. })
    }
}

/// Says of a database that could not be read as a whole which one it is and why.
pub(crate) fn damaged(db: &Path, error: &skyclaw_store::ReadError) -> StartError {
    let source = std::error::Error::source(error).map(|source| format!(" ({source})")).unwrap_or_default();
    StartError::Damaged { db: db.to_owned(), detail: format!("{error}{source}") }
}

impl From<crate::machine::Gone> for WriteError {
    fn from(_: crate::machine::Gone) -> Self {
        Self::ShuttingDown
    }
}

impl From<crate::machine::Gone> for ReadError {
    fn from(_: crate::machine::Gone) -> Self {
        Self::ShuttingDown
    }
}
