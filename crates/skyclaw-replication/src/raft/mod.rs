//! What openraft needs of us: types, a log store, a state machine, a network.

mod commits;
mod committed;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod early;
mod log_store;
mod network;
mod proposal;
mod recent;
mod snapshot;
mod state_machine;
mod synced;
mod types;

pub(crate) use self::log_store::{Identity, LogStore, Memo};
pub(crate) use self::network::Network;
pub(crate) use self::proposal::{Packed, Proposal};
pub(crate) use self::snapshot::{Incoming, SnapshotData, make_dir};
pub(crate) use self::state_machine::StateMachine;
pub(crate) use self::types::{Member, Place, Raft, RaftId, SnapshotMeta, TypeConfig, Vote};
