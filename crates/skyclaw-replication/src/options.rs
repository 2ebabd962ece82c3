//! What a node is started with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skyclaw_core::{Command, IdempotencyKey, Operation};
use skyclaw_proto::{NodeId, Timestamp};
use skyclaw_store::Retention;
use uuid::Uuid;

use crate::discovery::Discovery;
use crate::peer::Wire;
use crate::retention::JobRetention;

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// What people call it. Without a name, one is made at the first start and kept.
    pub node_id: Option<NodeId>,
    /// The database. What else is needed lies beside it, in files whose names begin with its.
    pub db_path: PathBuf,
    /// How long a lease lasts.
    pub lease: Duration,
    /// What all coordinators of a cluster and their hosts share.
    pub token: String,
    /// Where other coordinators reach this one: a base URL without a trailing slash. A node without one
    /// is alone.
    pub url: Option<String>,
    /// The base URLs of other coordinators.
    pub peer_urls: Vec<String>,
    /// How many blank nodes must see each other before one founds a cluster; at least 1.
    pub bootstrap_expect: usize,
    /// How many members vote at most; the rest only follow.
    pub max_voters: usize,
    /// How to find coordinators that nobody listed; `None` keeps to those that were.
    pub discovery: Option<Discovery>,
    /// The way to other coordinators.
    pub wire: Arc<dyn Wire>,
    /// How long what is told of changes is kept.
    pub events: Retention,
    /// How long jobs are kept that have ended.
    pub jobs: JobRetention,
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

    /// Where copies of the database lie for a while.
    #[must_use]
    pub fn copies_dir(&self) -> PathBuf {
        beside(&self.db_path, ".copies")
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
        Command { at: self.now(), node: self.node.clone(), idempotency, by: None, operation }
    }
}
