//! The handle of a coordinator's replicated state: what the HTTP layer talks to.
//!
//! Cheap to clone. Writes go through the log; reads are answered from this node's own state; what only
//! the leader knows (who was heard of, who waits for a job) is asked of it.

mod reads;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skyclaw_core::{Command, IdempotencyKey, Operation, Reply};
use skyclaw_proto::request::RunningJob;
use skyclaw_proto::response;
use skyclaw_proto::{Actor, HostId, NodeId, ServiceId};
use skyclaw_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::cluster::{LeaderSigns, Standing, behind};
use crate::error::WriteError;
use crate::forward::Forwarder;
use crate::gossip::Gossip;
use crate::leader::{Leader, LeaderReply, leader};
use crate::log::Log;
use crate::machine::Machine;
use crate::metrics::Meters;
use crate::options::Stamper;
use crate::peer::{LeaderCall, Peers};
use crate::proposer::{Proposer, RESERVE_BYTES};
use crate::raft::{Identity, Incoming, Memo, Packed, Raft};
use crate::read_index::ReadIndex;
use crate::target::Target;
use crate::trail::{Follow as FollowTrace, Follower};

/// A coordinator's replicated state.
#[derive(Clone)]
pub struct Node(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) raft: Raft,
    pub(crate) log: Log,
    pub(crate) machine: Machine,
    pub(crate) proposer: Proposer,
    pub(crate) stamper: Stamper,
    pub(crate) lease: Duration,
    pub(crate) target: Arc<Target>,
    pub(crate) forwarder: Forwarder,
    pub(crate) read_index: ReadIndex,
    pub(crate) peers: Arc<Peers>,
    pub(crate) memo: Memo,
    pub(crate) identity: Identity,
    /// The cluster this node belongs to; `None` until it has formed or joined one.
    pub(crate) cluster: watch::Sender<Option<Uuid>>,
    /// Where the others reach this node.
    pub(crate) url: Option<String>,
    pub(crate) incoming: Incoming,
    /// The base URLs of all coordinators that were heard of.
    pub(crate) known: watch::Sender<BTreeSet<String>>,
    /// There once this node gossips.
    pub(crate) gossip: OnceLock<Gossip>,
    pub(crate) leading: watch::Receiver<bool>,
    /// How this node stands to its cluster.
    pub(crate) standing: watch::Sender<Standing>,
    /// What was heard of the leader.
    pub(crate) signs: LeaderSigns,
    /// Whether this node stands for election: not while it is known to be taken out.
    pub(crate) stands: Arc<AtomicBool>,
    /// What the autopilot has found, while this node leads.
    pub(crate) autopilot: watch::Receiver<Option<response::Autopilot>>,
    pub(crate) meters: Meters,
    pub(crate) db_path: PathBuf,
    /// Where copies of the database lie for a while.
    pub(crate) copies: PathBuf,
    pub(crate) stop: CancellationToken,
    /// How spans follow traces that come from other nodes; empty where none are exported.
    pub(crate) follow: Follower,
    /// The database, when it was too large to be checked as a whole before the start.
    pub(crate) verify: Option<(PathBuf, Store)>,
}

/// A command that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// What came of it.
    pub reply: Reply,
    /// The place in the log at which it can be seen.
    pub index: u64,
}

/// Whether a node can do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether it takes writes.
    pub ready: bool,
    /// Why not.
    pub reason: Option<String>,
}

impl Node {
    /// What this coordinator is called.
    #[must_use]
    pub fn node_id(&self) -> &NodeId {
        &self.0.stamper.node
    }

    /// From now on what is done for a request of another node is a part of its trace.
    pub fn follow_traces(&self, follow: FollowTrace) {
        // The first one stays.
        let _ = self.0.follow.set(follow);
    }

    /// Whether what is done here may be a part of a trace.
    #[must_use]
    pub fn follows_traces(&self) -> bool {
        self.0.follow.get().is_some()
    }

    /// Carries out an operation, durably and once.
    ///
    /// # Errors
    /// When it is refused, could not be proposed, or its outcome is unknown.
    pub async fn write(
        &self,
        idempotency: Option<IdempotencyKey>,
        operation: Operation,
    ) -> Result<Written, WriteError> {
        self.write_by(None, idempotency, operation).await
    }

    /// The same for somebody of whom it is to be told.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn write_by(
        &self,
        by: Option<Arc<Actor>>,
        idempotency: Option<IdempotencyKey>,
        operation: Operation,
    ) -> Result<Written, WriteError> {
        self.0.serving().await?;
        self.0.target.check_known(&self.0.raft)?;
        let command = Packed::new(Command { by, ..self.0.stamper.stamp(idempotency, operation) })?;
        let leads = *self.0.leading.borrow() && leader(&self.0.raft) == Leader::Me;
        let (answer, index) = match leads {
            true => {
                let bytes = command.bytes();
                match self.0.proposer.propose_packed(command).await {
                    // It led a moment ago, and nothing was proposed: whoever leads now is asked.
                    Err(WriteError::NoLeader) => self.0.forwarder.send(Packed::again(bytes)?).await?,
                    decided => decided?,
                }
            }
            false => self.0.forwarder.send(command).await?,
        };
        Ok(Written { reply: answer?, index })
    }

    /// Takes up to `max` jobs for a host, waiting up to `wait` for the first. What finds nothing writes
    /// nothing.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn claim(
        &self,
        host: &HostId,
        max: u32,
        wait: Duration,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Written, WriteError> {
        self.0.target.check_known(&self.0.raft)?;
        let node = self.node_id().clone();
        let call = LeaderCall::Claim { host: host.clone(), max, wait, idempotency, node };
        self.0.at_leader(call).await.and_then(written)
    }

    /// Takes in a host's sign of life, renews the leases of the runs it names, and says which runs it
    /// must stop; waits up to `wait` for one.
    ///
    /// # Errors
    /// When the host is unknown or the node goes down.
    pub async fn heartbeat(
        &self,
        host: &HostId,
        running: Vec<RunningJob>,
        wait: Duration,
    ) -> Result<response::Heartbeat, WriteError> {
        let call = LeaderCall::Heartbeat { host: host.clone(), running, wait, logs: None };
        match self.0.at_leader(call).await? {
            LeaderReply::Beat(answer) => Ok(*answer),
            _ => Err(WriteError::OutcomeUnknown),
        }
    }

    /// Takes a replica of a service for a host, or names one it has already. What changes nothing
    /// writes nothing.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn claim_service(
        &self,
        host: &HostId,
        running: Option<Vec<ServiceId>>,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Written, WriteError> {
        self.0.target.check_known(&self.0.raft)?;
        let node = self.node_id().clone();
        let call = LeaderCall::ClaimService { host: host.clone(), running, idempotency, node };
        self.0.at_leader(call).await.and_then(written)
    }

    /// Waits until this node has applied everything that was acknowledged anywhere before now.
    ///
    /// # Errors
    /// When there is no leader, or this node does not catch up in time.
    pub async fn catch_up(&self, timeout: Duration) -> Result<(), WriteError> {
        let LeaderReply::Index(index) = self.0.at_leader(LeaderCall::ReadIndex).await? else {
            return Err(WriteError::NoLeader);
        };
        if self.wait_applied(index, timeout).await { Ok(()) } else { Err(WriteError::NoLeader) }
    }

    /// The index of the last entry of the log that is applied here.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.0.machine.applied()
    }

    /// Waits until an index is applied here. False when it is not after `timeout`.
    pub async fn wait_applied(&self, index: u64, timeout: Duration) -> bool {
        let mut applied = self.0.machine.watch_applied();
        let reached = applied.wait_for(|applied| *applied >= index);
        matches!(tokio::time::timeout(timeout, reached).await, Ok(Ok(_)))
    }

    /// Whether the node takes writes, and if not, why.
    #[must_use]
    pub fn health(&self) -> Health {
        let reason = self.obstacle();
        Health { ready: reason.is_none(), reason }
    }

    fn obstacle(&self) -> Option<String> {
        let raft = &self.0.raft;
        if self.0.stop.is_cancelled() {
            return Some("the coordinator is going down".to_owned());
        }
        if let Some(reason) = self.0.standing.borrow().obstacle() {
            return Some(reason);
        }
        if let Some(trouble) = self.0.machine.trouble() {
            return Some(format!("the disk cannot be written: {trouble}"));
        }
        let room = self.0.log.room();
        if room < RESERVE_BYTES && leader(raft) == Leader::Me {
            return Some(format!("the disk is full: the log has room for {room} more bytes only"));
        }
        let target = self.0.target.check_known(raft);
        let target = match leader(raft) {
            Leader::Nobody => Err(WriteError::NoLeader),
            Leader::Me => target.and_then(|()| self.0.target.check_reachable(raft)),
            Leader::Other { .. } => target,
        };
        if let Err(error) = target {
            return Some(error.to_string());
        }
        if leader(raft) == Leader::Me {
            return None;
        }
        behind(self.0.signs.committed(), self.applied())
    }

    /// Waits until every task that a write goes through has answered: the one that owns the state, the log's, and the
    /// one that proposes. Says whether they are all there. One that hangs is waited for without end. A node that waits
    /// for others, or for its disk to have room, answers.
    pub async fn answers(&self) -> bool {
        self.0.machine.answers().await.is_ok()
            && self.0.raft.with_raft_state(|_| ()).await.is_ok()
            && self.0.proposer.answers().await.is_ok()
    }

    /// Resolves, with the reason, when the node can go on no more.
    pub async fn failed(&self) -> String {
        let verify = async {
            if let Some((path, store)) = &self.0.verify
                && let Err(error) = store.verify().await
            {
                return crate::error::damaged(path, &error).to_string();
            }
            std::future::pending().await
        };
        let raft = async {
            // These hardly ever change, and end with the log; the full ones change with every entry.
            let mut roles = self.0.raft.server_metrics();
            while roles.changed().await.is_ok() {}
            match &self.0.raft.metrics().borrow().running_state {
                Err(fatal) => format!("the replicated log has stopped: {fatal}"),
                Ok(()) => "the replicated log has stopped".to_owned(),
            }
        };
        tokio::select! {
            why = verify => why,
            why = raft => why,
        }
    }

    /// Answers everyone who waits, then ends the log and closes all files.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        if let Some(gossip) = self.0.gossip.get() {
            gossip.stop().await;
        }
        let _ = self.0.machine.look(crate::machine::memory::Memory::close).await;
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::warn!(%error, "the replicated log did not end as it should");
        }
        self.0.machine.ended().await;
        if let Err(error) = self.0.machine.store().close().await {
            tracing::warn!(%error, "the database was not closed as it should; the log makes up for it");
        }
        let log = self.0.log.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || log.close()).await {
            tracing::warn!(%error, "the log was not closed as it should");
        }
    }
}

fn written(reply: LeaderReply) -> Result<Written, WriteError> {
    match reply {
        LeaderReply::Written(written) => Ok(written),
        // Another version of the leader; what it has done is not known.
        _ => Err(WriteError::OutcomeUnknown),
    }
}

#[cfg(test)]
pub(crate) mod kit;
#[cfg(test)]
mod tests;
