//! What can be asked of another coordinator. Variants and fields that were ever released keep their
//! names and meaning, as versions run side by side while a cluster is upgraded.

use std::time::Duration;

use openraft::raft::{AppendEntriesRequest, VoteRequest};
use serde::{Deserialize, Serialize};
use skyclaw_core::{IdempotencyKey, RollBack};
use skyclaw_proto::logs::{LogWant, PushLogs};
use skyclaw_proto::request::RunningJob;
use skyclaw_proto::{HostId, JobId, NodeId, ServiceId};
use uuid::Uuid;

use crate::error::WriteError;
use crate::machine::logs::ReadLogs;
use crate::raft::{Packed, RaftId, SnapshotMeta, TypeConfig, Vote};

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    /// Who are you? Answered with [`Hello`].
    Hello,
    /// Raft: entries of the leader, or its sign of life.
    Append(AppendEntriesRequest<TypeConfig>),
    /// Raft: a vote is asked for.
    Vote(VoteRequest<RaftId>),
    /// A part of a snapshot.
    Snapshot(SnapshotPart),
    /// The leader is to give this node its log. Answered with `Result<RaftId, JoinRefusal>`.
    Join(JoinRequest),
    /// The leader steps down: this vote, for its heir, is to be granted now. Answered with whether it is.
    Grant(Vote),
    /// The leader steps down in favour of the receiver: it is to be elected now.
    Elect,
    /// Something only the leader can do.
    Leader(LeaderCall),
    /// The leader is to take a member out: its predecessor, which cannot do that itself. Answered with
    /// `Result<(), RemoveRefusal>`.
    Remove(RaftId),
}

/// Who a coordinator is and how it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) raft_id: RaftId,
    pub(crate) node_id: NodeId,
    /// Its own base URL, if it was told.
    pub(crate) url: Option<String>,
    /// `None` while it belongs to no cluster.
    pub(crate) cluster: Option<Uuid>,
    /// Where it believes the leader to be.
    pub(crate) leader_url: Option<String>,
}

/// A node that asks for the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinRequest {
    pub(crate) raft_id: RaftId,
    pub(crate) node_id: NodeId,
    pub(crate) url: String,
    /// Whether its log holds anything: then it was a member once.
    pub(crate) has_log: bool,
}

/// Why a node is not given the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum JoinRefusal {
    #[error("there is no leader at the moment")]
    NotLeader { leader_url: Option<String> },
    #[error(
        "a node named {node_id} is a member already and answers at {url}; \
         give this node another SKYCLAW_COORDINATOR_NODE_ID, or stop that one"
    )]
    NameTaken { node_id: NodeId, url: String },
    #[error(
        "this node was removed from the cluster; to let it join again, move its database and log away and restart it"
    )]
    Removed,
    #[error("another change of the members is under way")]
    Busy,
}

/// Why a member is not taken out. Asking again is harmless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum RemoveRefusal {
    #[error("the node that was asked does not lead")]
    NotLeader,
    #[error("another change of the members is under way")]
    Busy,
    #[error("{0}")]
    Failed(String),
}

/// A piece of a snapshot on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotPart {
    /// The vote of the leader that sends it.
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    /// Where the bytes belong.
    pub(crate) offset: u64,
    /// How long the whole is.
    pub(crate) total: u64,
    /// The BLAKE3 hash of the whole, with the last part.
    pub(crate) hash: Option<[u8; 32]>,
    #[serde(with = "serde_bytes")]
    pub(crate) bytes: Vec<u8>,
}

/// Something only the leader can do. Answered with `Result<…, LeaderError>`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum LeaderCall {
    /// Carry out commands that another node took in.
    Write(Vec<Packed>),
    /// See [`crate::Node::claim`].
    Claim { host: HostId, max: u32, wait: Duration, idempotency: Option<IdempotencyKey>, node: NodeId },
    /// See [`crate::Node::heartbeat`].
    Heartbeat {
        host: HostId,
        running: Vec<RunningJob>,
        wait: Duration,
        /// Absent from coordinators of before, and from hosts that bring no output.
        #[serde(default)]
        logs: Option<Vec<LogWant>>,
    },
    /// See [`crate::Node::claim_service`].
    ClaimService {
        host: HostId,
        running: Option<Vec<ServiceId>>,
        idempotency: Option<IdempotencyKey>,
        node: NodeId,
    },
    /// The index up to which a read must see everything.
    ReadIndex,
    /// All hosts, with what only the leader knows of them.
    Hosts,
    /// See [`crate::Node::restore`].
    Restore { back: RollBack, wait: Duration, node: NodeId },
    /// What the autopilot has found.
    Autopilot,
    /// See [`crate::Node::logs`].
    ReadLogs(ReadLogs),
    /// See [`crate::Node::push_logs`].
    PushLogs(Box<PushLogs>),
    /// See [`crate::Node::explain`]. A leader of before does not understand it.
    Explain(JobId),
}

/// Why the leader did not do it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LeaderError {
    /// The receiver does not lead; nothing was done.
    NotLeader,
    /// The write was refused, or its outcome is unknown.
    Write(WriteError),
}
