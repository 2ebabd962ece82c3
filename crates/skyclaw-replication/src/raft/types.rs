//! The types openraft is told to work with.

use serde::{Deserialize, Serialize};
use skyclaw_proto::NodeId;
use skyclaw_store::Position;

use super::proposal::Proposal;
use crate::machine::Answer;

/// A node's number in the log. Random and kept with the log, so that a node that lost its disk is
/// another node, whatever it is called.
pub(crate) type RaftId = u64;

openraft::declare_raft_types!(
    /// What is replicated, and among whom.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Answers,
        NodeId = RaftId,
        Node = Member,
        SnapshotData = super::snapshot::SnapshotData,
);

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type LogId = openraft::LogId<RaftId>;
pub(crate) type Vote = openraft::Vote<RaftId>;
pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type Membership = openraft::StoredMembership<RaftId, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<RaftId, Member>;
pub(crate) type StorageError = openraft::StorageError<RaftId>;

/// A node of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// What people call it.
    pub(crate) node_id: Option<NodeId>,
    /// Where the others reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
}

/// What came of the commands of one entry, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Answers(pub(crate) Vec<Answer>);

/// A place in the log as the database keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) log_id: Option<LogId>,
    pub(crate) membership: Membership,
}

impl Place {
    /// Reads a place back; nothing was ever applied where there is none.
    pub(crate) fn of(position: Option<&Position>) -> Result<Self, rmp_serde::decode::Error> {
        position.map_or_else(|| Ok(Self::default()), |position| rmp_serde::from_slice(&position.bytes))
    }
}
