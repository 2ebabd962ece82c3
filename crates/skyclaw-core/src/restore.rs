//! Going back to a snapshot, as the state machine sees it.
//!
//! ```text
//!   StageRestore 0, 1, 2 … ──► laid by on every node ──► RollBack ──► everything is as in the snapshot,
//!        └── CancelRestore: dropped                                   numbers go on, the record is kept
//! ```
//!
//! The records of what a cluster went back to are no part of what it goes back: they tell, afterwards, what
//! was done, when and on whose behalf.

use serde::{Deserialize, Serialize};
use skyclaw_proto::{NodeId, RestoreId, Timestamp};
use uuid::Uuid;

/// How many records of the kind are kept: the newest.
pub const KEPT_RESTORES: usize = 64;

/// What a cluster went back to, when, and on whose behalf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// Its place among all there were: 1, 2, 3 and so on.
    pub number: u64,
    /// Its id.
    pub id: RestoreId,
    /// When it was asked for.
    pub at: Timestamp,
    /// The coordinator that took it in.
    pub node: NodeId,
    /// Who asked for it, as they say themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// What it went back to.
    pub snapshot: SnapshotOf,
    /// Whether the snapshot was taken of another cluster.
    #[serde(default)]
    pub foreign: bool,
    /// Whether nothing is claimed yet: runs that this cluster knows nothing of may not be over.
    #[serde(default)]
    pub claims_held: bool,
}

/// Where a snapshot comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotOf {
    /// The cluster it was taken of.
    pub cluster: Uuid,
    /// When.
    pub created_at: Timestamp,
    /// How far in that cluster's log it goes.
    pub index: u64,
}

/// The last step of a restore: everything becomes as it is in the snapshot that was staged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollBack {
    /// The restore.
    pub restore: RestoreId,
    /// This cluster.
    pub cluster: Uuid,
    /// Whether the snapshot may be one of another cluster.
    #[serde(default)]
    pub force: bool,
    /// Who asked for it, as they say themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
}
