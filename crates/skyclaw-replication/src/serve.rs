//! Answering what other coordinators ask.

use openraft::raft::AppendEntriesResponse;

use crate::cluster::ChangeError;
use crate::leader::{Leader, LeaderReply, leader};
use crate::node::{Inner, Node};
use crate::peer::{Call, Hello, JoinRefusal, JoinRequest, LeaderError, RemoveRefusal, Request};
use crate::raft::RaftId;

impl Node {
    /// Answers the sealed request of another coordinator. `None` when whoever sent it does not hold the
    /// cluster's token.
    pub async fn peer(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self.0.peers.hear(message) {
            Ok(heard) => Some(self.0.respond(heard).await),
            Err(verdict) => verdict,
        }
    }
}

impl Inner {
    async fn respond(&self, mut heard: Request) -> Vec<u8> {
        // Taken out, so that the rest of what was heard can seal the answer.
        let call = std::mem::replace(&mut heard.call, Call::Hello);
        let aside = std::mem::take(&mut heard.aside);
        let is_member = self.cluster.borrow().is_some() && !heard.cluster.is_nil();
        match call {
            Call::Hello => self.peers.answer(&heard, &self.hello()),
            // Before this node has agreed to join, no leader is its own.
            Call::Append(_)
            | Call::Vote(_)
            | Call::Snapshot(_)
            | Call::Grant(_)
            | Call::Elect
            | Call::Remove(_)
                if !is_member =>
            {
                Vec::new()
            }
            Call::Append(rpc) => {
                let committed = rpc.leader_commit.map_or(0, |id| id.index);
                let answer = self.raft.append_entries(rpc).await;
                if answer.as_ref().is_ok_and(|answer| !matches!(answer, AppendEntriesResponse::HigherVote(_)))
                {
                    self.signs.heard(committed);
                }
                self.peers.answer(&heard, &answer)
            }
            Call::Vote(rpc) => self.peers.answer(&heard, &self.raft.vote(rpc).await),
            Call::Snapshot(part) => {
                let committed = part.meta.last_log_id.map_or(0, |id| id.index);
                let result = self.incoming.take(part, &self.raft).await;
                if result.is_ok() {
                    self.signs.heard(committed);
                }
                self.peers.answer(&heard, &result)
            }
            Call::Join(request) => {
                let result = self.admit(request).await;
                self.peers.answer(&heard, &result)
            }
            Call::Grant(vote) => self.peers.answer(&heard, &self.grant(vote).await),
            Call::Elect => {
                let result = self.raft.trigger().elect().await.map_err(|error| error.to_string());
                self.peers.answer(&heard, &result)
            }
            Call::Remove(id) => {
                let result = self.dismiss(id).await;
                self.peers.answer(&heard, &result)
            }
            Call::Leader(call) => {
                let result: Result<LeaderReply, LeaderError> = self.lead_for(call, &aside).await;
                self.peers.answer(&heard, &result)
            }
        }
    }

    /// Who this node is.
    pub(crate) fn hello(&self) -> Hello {
        let leader_url = match leader(&self.raft) {
            Leader::Me => self.url.clone(),
            Leader::Other { url, .. } => Some(url),
            Leader::Nobody => None,
        };
        Hello {
            raft_id: self.identity.raft_id,
            node_id: self.identity.node_id.clone(),
            url: self.url.clone(),
            cluster: *self.cluster.borrow(),
            leader_url,
        }
    }

    /// Takes out the node that led before this one did.
    async fn dismiss(&self, id: RaftId) -> Result<(), RemoveRefusal> {
        if leader(&self.raft) != Leader::Me {
            return Err(RemoveRefusal::NotLeader);
        }
        self.remove(id).await.map_err(|error| match error {
            ChangeError::NotLeader => RemoveRefusal::NotLeader,
            ChangeError::Busy => RemoveRefusal::Busy,
            other => RemoveRefusal::Failed(other.to_string()),
        })
    }

    async fn admit(&self, request: JoinRequest) -> Result<RaftId, JoinRefusal> {
        match leader(&self.raft) {
            Leader::Me => self.add_member(request).await.map(|()| self.identity.raft_id),
            Leader::Other { url, .. } => Err(JoinRefusal::NotLeader { leader_url: Some(url) }),
            Leader::Nobody => Err(JoinRefusal::NotLeader { leader_url: None }),
        }
    }
}
