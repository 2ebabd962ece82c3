//! The replication target: on how many nodes a write must be.
//!
//! A quorum is what the log itself demands. `SKYCLAW_MIN_REPLICATIONS` may demand more: then a write is
//! refused before it is proposed as soon as the leader knows that it cannot get there, and answered only
//! once it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::error::WriteError;
use crate::peer::Peers;
use crate::raft::Raft;

/// A peer that has not answered for so long counts as out of reach.
const REACHABLE_WITHIN: Duration = Duration::from_millis(1500);
/// How long more nodes than a quorum may take to confirm.
const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

/// The replication target of this node.
#[derive(Debug)]
pub(crate) struct Target {
    /// How many peers beside the leader must hold a write.
    pub(crate) needed: u32,
    /// How many other coordinators were heard of outside the membership.
    pub(crate) heard_of: AtomicU32,
    pub(crate) peers: Arc<Peers>,
}

impl Target {
    /// Whether enough other coordinators are known.
    pub(crate) fn check_known(&self, raft: &Raft) -> Result<(), WriteError> {
        let heard_of = self.heard_of.load(Ordering::Relaxed);
        // Asked for each write: the members are counted only where it matters how many they are.
        if heard_of >= self.needed {
            return Ok(());
        }
        let members = u32::try_from(others(raft).len()).unwrap_or(u32::MAX);
        let known = members.max(heard_of);
        if known < self.needed {
            return Err(WriteError::InsufficientPeers { needed: self.needed, known });
        }
        Ok(())
    }

    /// Whether enough of them can be reached from here, the leader.
    pub(crate) fn check_reachable(&self, raft: &Raft) -> Result<(), WriteError> {
        if self.needed == 0 {
            return Ok(());
        }
        let answers = |id: &u64| self.peers.silent_for(*id).is_some_and(|silent| silent < REACHABLE_WITHIN);
        let reached = u32::try_from(others(raft).iter().filter(|id| answers(id)).count()).unwrap_or(u32::MAX);
        if reached < self.needed {
            return Err(WriteError::PeersUnreachable { needed: self.needed, reached });
        }
        Ok(())
    }

    /// Waits until enough peers hold everything up to an index that a quorum holds already.
    pub(crate) async fn wait_for(&self, raft: &Raft, index: u64) -> Result<(), WriteError> {
        let mut metrics = raft.metrics();
        if self.needed <= quorum_peers(&metrics.borrow()) {
            return Ok(());
        }
        let held = |metrics: &Metrics| {
            let replication = metrics.replication.iter().flatten();
            let hold = replication.filter(|(id, matched)| {
                **id != metrics.id && matched.is_some_and(|matched| matched.index >= index)
            });
            u32::try_from(hold.count()).unwrap_or(u32::MAX)
        };
        let enough = metrics.wait_for(|metrics| held(metrics) >= self.needed);
        if matches!(tokio::time::timeout(CONFIRM_WITHIN, enough).await, Ok(Ok(_))) {
            return Ok(());
        }
        let reached = held(&raft.metrics().borrow());
        Err(WriteError::TargetNotMet { needed: self.needed, reached })
    }
}

type Metrics = openraft::RaftMetrics<crate::raft::RaftId, crate::raft::Member>;

/// How many peers of the leader hold what is committed, whatever happens.
fn quorum_peers(metrics: &Metrics) -> u32 {
    let configs = metrics.membership_config.membership().get_joint_config();
    let smallest = configs.iter().map(|voters| voters.len() / 2).min().unwrap_or(0);
    u32::try_from(smallest).unwrap_or(u32::MAX)
}

/// The other members.
fn others(raft: &Raft) -> Vec<u64> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow();
    let nodes = metrics.membership_config.membership().nodes();
    nodes.map(|(id, _)| *id).filter(|id| *id != metrics.id).collect()
}
