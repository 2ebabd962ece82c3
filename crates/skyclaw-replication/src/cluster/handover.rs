//! Handing the leadership over, so that a clean stop costs no election timeout.
//!
//! The leader lets nothing more in, waits until its heir holds the whole log, and releases the other
//! voters: it sends them a vote for the heir in the next term. Such a vote is what each of them would
//! grant if it were asked, and only the leader, whose silence they would wait out otherwise, can know
//! that there is nothing to wait for. Then it tells the heir to be elected.
//!
//! Nothing of this weakens the log: the heir still needs the votes of a quorum that finds its log no
//! shorter than its own.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::leader::{Leader, leader};
use crate::node::{Inner, Node};
use crate::peer::{Call, CallError};
use crate::raft::{RaftId, SnapshotData, SnapshotMeta, Vote};
use skyclaw_proto::response::Role;

/// How long the write that is under way may take.
const HOLD_WITHIN: Duration = Duration::from_secs(2);
/// How long the heir may take to have the whole log.
const CATCH_UP_WITHIN: Duration = Duration::from_millis(500);
/// A voter that has not answered for so long is no heir.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// How long it may take until the heir is heard to lead. Long: it was told to, and what would be proposed
/// here meanwhile could be cut off.
const ELECTED_WITHIN: Duration = Duration::from_secs(1);
/// How long each step may take.
const STEP_WITHIN: Duration = Duration::from_millis(300);

impl Node {
    /// Hands the leadership to the voter that is most up to date, or to the one named, if this node
    /// leads. Says whether somebody else leads now.
    pub async fn hand_over(&self, to: Option<u64>) -> bool {
        if leader(&self.0.raft) != Leader::Me {
            return true;
        }
        let Some((heir, url)) = self.heir(to) else { return false };
        // What is proposed from here on could be cut off half-way, and its client would not know what came of
        // it. So it waits, and goes to the heir, or on here if there is no handover.
        let held = tokio::time::timeout(HOLD_WITHIN, self.0.proposer.hold()).await;
        let Ok(_held) = held else {
            tracing::warn!("a write does not end; the leadership is not handed over");
            return false;
        };
        if !self.has_all(heir).await {
            tracing::warn!(heir, "the heir does not catch up; the leadership stays");
            return false;
        }
        let metrics = self.0.raft.metrics().borrow().clone();
        let vote = Vote::new(metrics.current_term + 1, heir);
        let mut released = tokio::task::JoinSet::new();
        for other in self.members().into_iter().filter(|member| member.role != Role::Learner) {
            let Some(id) = other.raft_id.parse().ok().filter(|id| *id != heir) else { continue };
            let (node, url) = (self.clone(), other.url);
            released.spawn(async move { node.release(id, url, vote).await });
        }
        // A quorum is enough, and the heir is one of them; who is slow must not hold it up.
        let needed = metrics.membership_config.membership().voter_ids().count() / 2;
        let mut ready = 0;
        while ready < needed {
            match released.join_next().await {
                Some(Ok(true)) => ready += 1,
                Some(_) => {}
                None => {
                    tracing::warn!("too few voters let go of this leader; the leadership is not handed over");
                    return false;
                }
            }
        }
        let elected: Result<Result<(), String>, CallError> =
            self.0.peers.call(&url, heir, &Call::Elect, STEP_WITHIN).await;
        if let Err(error) = elected {
            tracing::warn!(%error, "the heir does not answer");
            return false;
        }
        let mut metrics = self.0.raft.metrics();
        let new_leader = metrics.wait_for(|metrics| metrics.current_leader.is_some_and(|id| id == heir));
        matches!(tokio::time::timeout(ELECTED_WITHIN, new_leader).await, Ok(Ok(_)))
    }

    fn heir(&self, to: Option<u64>) -> Option<(RaftId, String)> {
        let voters = self.members().into_iter().filter(|member| member.role == Role::Follower);
        let wanted = voters.filter(|member| to.is_none_or(|id| member.raft_id == id.to_string()));
        let answering = wanted.filter(|member| {
            let silent = member.raft_id.parse().ok().and_then(|id| self.0.peers.silent_for(id));
            silent.is_some_and(|silent| silent < ANSWERS_WITHIN)
        });
        let best = answering.min_by_key(|member| member.lag.unwrap_or(u64::MAX))?;
        Some((best.raft_id.parse().ok()?, best.url?))
    }

    /// Waits until the heir holds everything this node holds.
    async fn has_all(&self, heir: RaftId) -> bool {
        let deadline = Instant::now() + CATCH_UP_WITHIN;
        let mut metrics = self.0.raft.metrics();
        let all = metrics.wait_for(|metrics| {
            let held = metrics.replication.as_ref().and_then(|all| all.get(&heir).copied().flatten());
            held.map(|log_id| log_id.index) >= metrics.last_log_index
        });
        matches!(tokio::time::timeout_at(deadline, all).await, Ok(Ok(_)))
    }

    /// Has a voter grant the heir its vote, without waiting out the leader's silence.
    async fn release(&self, voter: RaftId, url: Option<String>, vote: Vote) -> bool {
        if voter == self.0.identity.raft_id {
            return self.0.grant(vote).await;
        }
        let Some(url) = url else { return false };
        let granted: Result<bool, CallError> =
            self.0.peers.call(&url, voter, &Call::Grant(vote), STEP_WITHIN).await;
        granted.unwrap_or(false)
    }
}

impl Inner {
    /// Grants a vote that the leader itself asks for on behalf of its heir. Says whether it is granted,
    /// durably.
    ///
    /// openraft takes a vote from another leader's messages. The message with the fewest other effects is
    /// an empty snapshot: it is older than whatever this node has committed, and so nothing is installed.
    pub(crate) async fn grant(&self, vote: Vote) -> bool {
        let nothing = SnapshotData::Received { file: PathBuf::new() };
        let empty = openraft::Snapshot { meta: SnapshotMeta::default(), snapshot: Box::new(nothing) };
        if self.raft.metrics().borrow().last_applied.is_none() {
            return false;
        }
        self.raft.install_full_snapshot(vote, empty).await.is_ok_and(|response| response.vote == vote)
    }
}
