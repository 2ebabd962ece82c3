//! The members of the cluster, as they are and as operators change them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use skyclaw_proto::NodeId;
use skyclaw_proto::response::{Autopilot, Cluster, ClusterMember, Role};
use tokio::time::Instant;
use uuid::Uuid;

use super::forming::is_sole;
use super::standing::Standing;
use crate::error::WriteError;
use crate::leader::{Leader, LeaderReply, leader};
use crate::node::{Inner, Node};
use crate::peer::{Call, CallError, Hello, JoinRefusal, JoinRequest, LeaderCall, RemoveRefusal};
use crate::raft::{Member, RaftId};

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
/// How long a leader's successor may take to take it out, in all and each time it is asked.
const LEAVE_WITHIN: Duration = Duration::from_secs(8);
const DISMISS_WITHIN: Duration = Duration::from_secs(3);
/// How long to wait before it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

impl Node {
    /// The members as this node sees them, voters first.
    #[must_use]
    pub fn members(&self) -> Vec<ClusterMember> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<RaftId> = membership.voter_ids().collect();
        let last = metrics.last_log_index.unwrap_or(0);
        let matched = |id: &RaftId| {
            let replication = metrics.replication.as_ref()?;
            Some(last.saturating_sub(replication.get(id)?.map_or(0, |log_id| log_id.index)))
        };
        let mut all: Vec<ClusterMember> = membership
            .nodes()
            .map(|(id, member)| ClusterMember {
                raft_id: id.to_string(),
                node_id: member.node_id.clone(),
                url: member.url.clone(),
                role: match () {
                    () if metrics.current_leader == Some(*id) => Role::Leader,
                    () if voters.contains(id) => Role::Follower,
                    () => Role::Learner,
                },
                lag: matched(id),
                silent_ms: self
                    .0
                    .peers
                    .heard()
                    .silent_for(*id)
                    .map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            })
            .collect();
        all.sort_by_key(|member| (member.role == Role::Learner, member.node_id.clone()));
        all
    }

    /// Takes a member out of the cluster, named by its node id or its number. A leader that is to take out
    /// itself hands the leadership over first, and its successor takes it out.
    ///
    /// # Errors
    /// When this node does not lead, there is no such member, it is the last voter, or there is no successor.
    pub async fn remove_member(&self, name: &str) -> Result<ClusterMember, ChangeError> {
        let (found, id) = self.find_member(name)?;
        if id == self.0.identity.raft_id && leader(&self.0.raft) == Leader::Me && !is_sole(&self.0) {
            self.leave().await?;
        } else {
            self.0.remove(id).await?;
        }
        Ok(found)
    }

    async fn leave(&self) -> Result<(), ChangeError> {
        let call = Call::Remove(self.0.identity.raft_id);
        let deadline = Instant::now() + LEAVE_WITHIN;
        let mut why = "there is no leader".to_owned();
        while Instant::now() < deadline {
            match leader(&self.0.raft) {
                Leader::Me => {
                    if !self.hand_over(None).await {
                        why = "no other voter that is up to date and answers has taken the leadership"
                            .to_owned();
                    }
                }
                Leader::Nobody => {}
                Leader::Other { id, url } => {
                    let asked: Result<Result<(), RemoveRefusal>, CallError> =
                        self.0.peers.call(&url, id, &call, DISMISS_WITHIN).await;
                    match asked {
                        Ok(Ok(())) => {
                            self.0.stand(&Standing::Removed);
                            return Ok(());
                        }
                        Ok(Err(RemoveRefusal::Failed(why))) => return Err(ChangeError::Failed(why)),
                        Ok(Err(refusal)) => why = refusal.to_string(),
                        // It may have been done all the same; asking again tells.
                        Err(error) => why = error.to_string(),
                    }
                }
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        let why = format!("who leads takes itself out by way of a successor, and {why}; ask again");
        Err(ChangeError::Failed(why))
    }

    /// What the autopilot of the leader has found, wherever that is.
    ///
    /// # Errors
    /// When there is no leader.
    pub async fn autopilot(&self) -> Result<Autopilot, WriteError> {
        match self.0.at_leader(LeaderCall::Autopilot).await? {
            LeaderReply::Autopilot(found) => Ok(found),
            // Another version of the leader.
            _ => Err(WriteError::NoLeader),
        }
    }

    /// Hands the leadership to a member, named by its node id or its number, or to the one that is most
    /// up to date.
    ///
    /// # Errors
    /// When this node does not lead, there is no such member, or nobody took the leadership.
    pub async fn transfer_leadership(&self, to: Option<&str>) -> Result<(), ChangeError> {
        if leader(&self.0.raft) != Leader::Me {
            return Err(ChangeError::NotLeader);
        }
        let to = to.map(|name| self.find_member(name)).transpose()?;
        match self.hand_over(to.map(|(_, id)| id)).await {
            true => Ok(()),
            false => Err(ChangeError::Failed("no other voter is up to date and answers".to_owned())),
        }
    }

    /// The cluster as this node sees it.
    #[must_use]
    pub fn cluster(&self) -> Cluster {
        let term = self.0.raft.metrics().borrow().current_term;
        Cluster {
            node_id: self.node_id().clone(),
            cluster_id: self.0.cluster.borrow().map(|id| id.to_string()),
            term,
            applied: self.applied(),
            members: self.members(),
        }
    }

    /// The cluster this node belongs to; `None` until it has formed or joined one.
    #[must_use]
    pub fn cluster_id(&self) -> Option<Uuid> {
        *self.0.cluster.borrow()
    }

    /// Where the leader is reached, if this node knows.
    #[must_use]
    pub fn leader_url(&self) -> Option<String> {
        self.0.hello().leader_url
    }

    fn find_member(&self, name: &str) -> Result<(ClusterMember, RaftId), ChangeError> {
        let is_named =
            |m: &ClusterMember| m.raft_id == name || m.node_id.as_ref().is_some_and(|id| id.as_str() == name);
        let found = self.members().into_iter().find(is_named);
        let found = found.and_then(|member| member.raft_id.parse().ok().map(|id| (member, id)));
        found.ok_or_else(|| ChangeError::Unknown(name.to_owned()))
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
                // It would have to lead without being a member. See `Node::remove_member`.
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
            // One that was a leader once may not know the members that were added since.
            let leads = self.read_index.get().await.is_ok();
            return Err(if leads {
                JoinRefusal::Removed
            } else {
                JoinRefusal::NotLeader { leader_url: None }
            });
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
