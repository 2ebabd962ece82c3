//! The members of the cluster, as they are and as operators change them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use serde::{Deserialize, Serialize};
use skyclaw_proto::NodeId;

use crate::node::{Inner, Node};
use crate::peer::{Call, Hello, JoinRefusal, JoinRequest};
use crate::raft::{Member, RaftId};

/// What a member does in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Leads.
    Leader,
    /// Votes and follows.
    Follower,
    /// Follows and does not vote.
    Learner,
}

/// A member and how it does, as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Its number in the log.
    pub raft_id: u64,
    /// What people call it.
    pub node_id: Option<NodeId>,
    /// Where it is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What it does.
    pub role: Role,
    /// How many entries it is behind; known to the leader alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// How long ago it last answered this node, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_ms: Option<u64>,
}

/// Why the members were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Only the leader changes them.
    #[error("this coordinator does not lead")]
    NotLeader,
    /// There is no such member.
    #[error("there is no member {0}")]
    Unknown(String),
    /// The last voter cannot go.
    #[error("{0} is the only voter; a cluster without voters is none")]
    LastVoter(String),
    /// Another change is not finished.
    #[error("another change of the members is under way; try again")]
    Busy,
    /// The log did not take it.
    #[error("the change was not made: {0}")]
    Failed(String),
}

/// How long a node whose name is claimed by another may take to show that it lives.
const ALIVE_WITHIN: Duration = Duration::from_millis(800);

impl Node {
    /// The members as this node sees them, voters first.
    #[must_use]
    pub fn members(&self) -> Vec<MemberStatus> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<RaftId> = membership.voter_ids().collect();
        let last = metrics.last_log_index.unwrap_or(0);
        let matched = |id: &RaftId| {
            let replication = metrics.replication.as_ref()?;
            Some(last.saturating_sub(replication.get(id)?.map_or(0, |log_id| log_id.index)))
        };
        let mut all: Vec<MemberStatus> = membership
            .nodes()
            .map(|(id, member)| MemberStatus {
                raft_id: *id,
                node_id: member.node_id.clone(),
                url: member.url.clone(),
                role: match () {
                    () if metrics.current_leader == Some(*id) => Role::Leader,
                    () if voters.contains(id) => Role::Follower,
                    () => Role::Learner,
                },
                lag: matched(id),
                silent_ms: self.0.peers.silent_for(*id).map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            })
            .collect();
        all.sort_by_key(|member| (member.role == Role::Learner, member.node_id.clone()));
        all
    }

    /// Takes a member out of the cluster, named by its node id or its number.
    ///
    /// # Errors
    /// When this node does not lead, there is no such member, or it is the last voter.
    pub async fn remove_member(&self, name: &str) -> Result<MemberStatus, ChangeError> {
        let named = |m: &MemberStatus| m.node_id.as_ref().is_some_and(|id| id.as_str() == name) || m.raft_id.to_string() == name;
        let found = self.members().into_iter().find(named).ok_or_else(|| ChangeError::Unknown(name.to_owned()))?;
        self.0.remove(found.raft_id).await?;
        Ok(found)
    }
}

impl Inner {
    pub(crate) fn is_voter(&self, id: RaftId) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.membership().voter_ids().any(|voter| voter == id)
    }

    pub(crate) fn member(&self, id: RaftId) -> Option<Member> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.membership().get_node(&id).cloned()
    }

    fn named(&self, name: &NodeId) -> Option<(RaftId, Member)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let nodes = metrics.membership_config.membership().nodes();
        let mut named = nodes.filter(|(_, member)| member.node_id.as_ref() == Some(name));
        named.next().map(|(id, member)| (*id, member.clone()))
    }

    /// Changes the members, as the leader.
    pub(crate) async fn change(&self, change: ChangeMembers<RaftId, Member>) -> Result<(), ChangeError> {
        match self.raft.change_membership(change, false).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(ChangeError::NotLeader),
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_),
            ))) => Err(ChangeError::Busy),
            Err(error) => Err(ChangeError::Failed(error.to_string())),
        }
    }

    /// Takes a member out, a voter by way of being a learner.
    pub(crate) async fn remove(&self, id: RaftId) -> Result<(), ChangeError> {
        if self.is_voter(id) {
            if self.raft.metrics().borrow().membership_config.membership().voter_ids().count() == 1 {
                return Err(ChangeError::LastVoter(id.to_string()));
            }
            if id == self.identity.raft_id {
                // Whoever leads next takes this node out.
                return Err(ChangeError::NotLeader);
            }
            self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id]))).await?;
        }
        if self.member(id).is_some() {
            self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await?;
        }
        Ok(())
    }

    /// Lets a node have the log, as a learner; the autopilot makes a voter of it. For a member that has
    /// moved, its new address is taken.
    pub(crate) async fn add_member(&self, request: JoinRequest) -> Result<(), JoinRefusal> {
        let member = Member { node_id: Some(request.node_id.clone()), url: Some(request.url.clone()) };
        if let Some(known) = self.member(request.raft_id) {
            if known == member {
                return Ok(());
            }
            let moved = BTreeMap::from([(request.raft_id, member)]);
            return self.change(ChangeMembers::SetNodes(moved)).await.map_err(refusal);
        }
        if request.has_log {
            return Err(JoinRefusal::Removed);
        }
        if let Some((old, known)) = self.named(&request.node_id) {
            self.make_way(old, &known, &request).await?;
        }
        tracing::info!(node = %request.node_id, url = %request.url, "a node joins");
        let nodes = BTreeMap::from([(request.raft_id, member)]);
        self.change(ChangeMembers::AddNodes(nodes)).await.map_err(refusal)
    }

    /// A node that lost its disk is another node under the same name: the old one can never come back,
    /// and is taken out. One that still answers is a mistake in somebody's settings.
    async fn make_way(&self, old: RaftId, known: &Member, request: &JoinRequest) -> Result<(), JoinRefusal> {
        if let Some(url) = &known.url {
            let hello = self.peers.call::<Hello>(url, 0, &Call::Hello, ALIVE_WITHIN).await;
            if hello.is_ok_and(|hello| hello.raft_id == old) {
                return Err(JoinRefusal::NameTaken { node_id: request.node_id.clone(), url: url.clone() });
            }
        }
        tracing::warn!(node = %request.node_id, "a member has come back without its log; its old self is taken out");
        self.remove(old).await.map_err(refusal)
    }
}

fn refusal(error: ChangeError) -> JoinRefusal {
    match error {
        ChangeError::NotLeader => JoinRefusal::NotLeader { leader_url: None },
        other => {
            tracing::warn!(error = %other, "a node cannot join at the moment");
            JoinRefusal::Busy
        }
    }
}
