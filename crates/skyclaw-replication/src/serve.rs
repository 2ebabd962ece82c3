//! Answering what other coordinators ask.

use crate::leader::{Leader, LeaderReply, leader};
use crate::node::{Inner, Node};
use crate::peer::{Call, Heard, Hello, JoinRefusal, JoinRequest, LeaderError};
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
    async fn respond(&self, mut heard: Heard) -> Vec<u8> {
        // Taken out, so that the rest of what was heard can seal the answer.
        let call = std::mem::replace(&mut heard.call, Call::Hello);
        let is_member = self.cluster.borrow().is_some() && !heard.cluster.is_nil();
        match call {
            Call::Hello => self.peers.answer(&heard, &self.hello()),
            // Before this node has agreed to join, no leader is its own.
            Call::Append(_) | Call::Vote(_) | Call::Snapshot(_) | Call::Grant(_) | Call::Elect
                if !is_member =>
            {
                Vec::new()
            }
            Call::Append(rpc) => self.peers.answer(&heard, &self.raft.append_entries(rpc).await),
            Call::Vote(rpc) => self.peers.answer(&heard, &self.raft.vote(rpc).await),
            Call::Snapshot(part) => {
                let result = self.incoming.take(part, &self.raft).await;
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
            Call::Leader(call) => {
                let result: Result<LeaderReply, LeaderError> = self.lead(call).await;
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

    async fn admit(&self, request: JoinRequest) -> Result<RaftId, JoinRefusal> {
        match leader(&self.raft) {
            Leader::Me => self.add_member(request).await.map(|()| self.identity.raft_id),
            Leader::Other { url, .. } => Err(JoinRefusal::NotLeader { leader_url: Some(url) }),
            Leader::Nobody => Err(JoinRefusal::NotLeader { leader_url: None }),
        }
    }
}
