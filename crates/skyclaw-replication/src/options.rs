//! What a node is started with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use skyclaw_core::{Command, IdempotencyKey, Operation};
use skyclaw_proto::{NodeId, Timestamp};
use uuid::Uuid;

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// What people call it. Without a name, one is made at the first start and kept.
    pub node_id: Option<NodeId>,
    /// The database. What else is needed lies beside it, in files whose names begin with its.
    pub db_path: PathBuf,
    /// How long a lease lasts.
    pub lease: Duration,
    /// On how many nodes a write must be, this one included; at least 1.
    pub min_replications: u32,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
    /// The source of ids.
    pub new_uuid: fn() -> Uuid,
}

impl Options {
    /// The directory of the log.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        beside(&self.db_path, ".log")
    }
}

/// The path with something behind its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes commands: puts the time and this node's name on operations.
#[derive(Debug, Clone)]
pub(crate) struct Stamper {
    pub(crate) node: NodeId,
    pub(crate) clock: fn() -> Timestamp,
}

impl Stamper {
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(crate) fn stamp(&self, idempotency: Option<IdempotencyKey>, operation: Operation) -> Command {
        Command { at: self.now(), node: self.node.clone(), idempotency, operation }
    }
}
