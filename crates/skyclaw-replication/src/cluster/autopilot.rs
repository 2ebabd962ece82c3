//! Makes voters of learners that have caught up and stayed healthy, up to a number.

use std::collections::{BTreeSet, HashMap};
use std::sync::Weak;
use std::time::{Duration, Instant};

use openraft::ChangeMembers;
use tokio_util::sync::CancellationToken;

use super::members::ChangeError;
use crate::leader::{Leader, leader};
use crate::node::{Inner, Node};
use skyclaw_proto::response::Role;

/// How often the learners are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a learner must have been healthy.
const HEALTHY_FOR: Duration = Duration::from_millis(1500);
/// How many entries behind still counts as caught up.
const CAUGHT_UP: u64 = 64;
/// A learner that has not answered for so long is not healthy.
const ANSWERS_WITHIN: Duration = Duration::from_millis(1000);

/// Promotes learners while this node leads.
#[derive(Debug)]
pub(crate) struct Autopilot {
    pub(crate) max_voters: usize,
    pub(crate) stop: CancellationToken,
}

impl Autopilot {
    pub(crate) async fn run(self, node: Weak<Inner>) {
        let mut healthy_since: HashMap<u64, Instant> = HashMap::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = look.tick() => {}
            }
            let Some(node) = node.upgrade().map(Node) else { return };
            if leader(&node.0.raft) == Leader::Me {
                self.look(&node, &mut healthy_since).await;
            } else {
                healthy_since.clear();
            }
        }
    }

    async fn look(&self, node: &Node, healthy_since: &mut HashMap<u64, Instant>) {
        let members = node.members();
        let voters = members.iter().filter(|member| member.role != Role::Learner).count();
        let healthy: BTreeSet<u64> = members
            .iter()
            .filter(|member| member.role == Role::Learner)
            .filter(|member| member.lag.is_some_and(|lag| lag <= CAUGHT_UP))
            .filter_map(|member| member.raft_id.parse().ok())
            .filter(|id| node.0.peers.silent_for(*id).is_some_and(|silent| silent < ANSWERS_WITHIN))
            .collect();
        healthy_since.retain(|id, _| healthy.contains(id));
        let now = Instant::now();
        for id in &healthy {
            healthy_since.entry(*id).or_insert(now);
        }
        let ready = |id: &&u64| healthy_since.get(*id).is_some_and(|since| now - *since >= HEALTHY_FOR);
        let ready: BTreeSet<u64> =
            healthy.iter().filter(ready).copied().take(self.max_voters.saturating_sub(voters)).collect();
        if ready.is_empty() {
            return;
        }
        match node.0.change(ChangeMembers::AddVoterIds(ready.clone())).await {
            Ok(()) => tracing::info!(nodes = ?ready, "learners have become voters"),
            Err(ChangeError::Busy | ChangeError::NotLeader) => {}
            Err(error) => tracing::warn!(%error, "learners could not be made voters"),
        }
    }
}
