//! How a node comes to belong to a cluster.
//!
//! ```text
//!            no peers configured ───────────────────────────────► founds a cluster of its own
//!  blank ──┤ a peer belongs to a cluster ──► asks it to be let in ► learner, later voter
//!            enough blank nodes see each other:
//!              the one with the smallest name ──────────────────► founds a cluster, the others join it
//! ```
//!
//! A node takes on a cluster's id before it asks to be let in and keeps it for ever: it can never serve
//! two. A member that starts again tells the leader its address, which may have changed, and learns
//! whether it still is a member.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use skyclaw_proto::NodeId;
use tokio::sync::watch;
use uuid::Uuid;

use crate::node::Inner;
use crate::peer::{Call, CallError, Hello, JoinRefusal, JoinRequest};
use crate::raft::{Identity, Member, RaftId};

/// How often a node that does not belong to a cluster looks around.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How often a member that the leader has not confirmed asks again.
const CONFIRM_EVERY: Duration = Duration::from_secs(1);
/// How long a peer may take to say who it is.
const HELLO_WITHIN: Duration = Duration::from_millis(1000);
/// How long the leader may take to let a node in.
const JOIN_WITHIN: Duration = Duration::from_secs(10);

/// What forming needs to know.
#[derive(Debug)]
pub(crate) struct Forming {
    /// The base URLs of all coordinators that were heard of.
    pub(crate) known: watch::Receiver<BTreeSet<String>>,
    /// Whether peers were configured: then a node that sees nobody waits for them.
    pub(crate) expects_peers: bool,
    /// How many blank nodes must see each other before one founds a cluster.
    pub(crate) expect: usize,
    pub(crate) new_uuid: fn() -> Uuid,
}

impl Forming {
    /// Runs until this node belongs to a cluster and the leader knows where it is.
    pub(crate) async fn run(self, node: &Inner) -> Result<(), String> {
        let mut said = String::new();
        while node.cluster.borrow().is_none() {
            if !self.expects_peers {
                return self.found(node).await;
            }
            match self.look_around(node).await {
                Ok(Some(cluster)) => self.take_on(node, cluster).await?,
                Ok(None) => {}
                Err(why) => say_once(&mut said, &why),
            }
            if node.cluster.borrow().is_none() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        self.confirm(node, &mut said).await
    }

    /// Looks for a cluster, or founds one if it is this node's turn. Says which to join.
    async fn look_around(&self, node: &Inner) -> Result<Option<Uuid>, String> {
        let hellos = self.greet_all(node).await;
        if let Some(member) = hellos.iter().find(|hello| hello.cluster.is_some()) {
            return Ok(member.cluster);
        }
        let mut blank: BTreeMap<NodeId, RaftId> = BTreeMap::new();
        blank.insert(node.identity.node_id.clone(), node.identity.raft_id);
        for hello in hellos {
            if let Some(other) = blank.insert(hello.node_id.clone(), hello.raft_id)
                && other != hello.raft_id
            {
                return Err(format!(
                    "two nodes are named {}; give each its own SKYCLAW_COORDINATOR_NODE_ID",
                    hello.node_id
                ));
            }
        }
        if blank.len() < self.expect {
            let seen: Vec<_> = blank.keys().map(NodeId::as_str).collect();
            return Err(format!(
                "waiting for {} blank nodes to see each other before a cluster is founded; seen so far: {}",
                self.expect,
                seen.join(", ")
            ));
        }
        if blank.keys().next() == Some(&node.identity.node_id) {
            self.found(node).await?;
        }
        Ok(None)
    }

    /// Asks everyone who they are; who does not answer, or has another token, is passed over.
    async fn greet_all(&self, node: &Inner) -> Vec<Hello> {
        let urls: Vec<String> =
            self.known.borrow().iter().filter(|url| node.url.as_ref() != Some(url)).cloned().collect();
        let mut greetings = tokio::task::JoinSet::new();
        for url in urls {
            let peers = Arc::clone(&node.peers);
            // The set is joined below; dropping it ends what is left.
            greetings.spawn(async move {
                let hello = peers.call::<Hello>(&url, 0, &Call::Hello, HELLO_WITHIN).await;
                (url, hello)
            });
        }
        let mut all = Vec::new();
        while let Some(Ok((url, hello))) = greetings.join_next().await {
            match hello {
                Ok(hello) if hello.raft_id != node.identity.raft_id => all.push(hello),
                Ok(_) => {}
                Err(error) => tracing::debug!(%url, %error, "no greeting"),
            }
        }
        all
    }

    /// Founds a cluster with this node as its only voter.
    async fn found(&self, node: &Inner) -> Result<(), String> {
        let cluster = (self.new_uuid)();
        self.take_on(node, cluster).await?;
        let me = Member { node_id: Some(node.identity.node_id.clone()), url: node.url.clone() };
        let members = BTreeMap::from([(node.identity.raft_id, me)]);
        node.raft.initialize(members).await.map_err(|error| error.to_string())?;
        tracing::info!(%cluster, "founded a cluster");
        Ok(())
    }

    /// From here on this node belongs to that cluster and no other.
    async fn take_on(&self, node: &Inner, cluster: Uuid) -> Result<(), String> {
        let identity = Identity { cluster: Some(cluster), ..node.identity.clone() };
        node.memo.set_identity(identity).await.map_err(|error| error.to_string())?;
        node.cluster.send_replace(Some(cluster));
        Ok(())
    }

    /// Has the leader confirm that this node is a member, at the address it has now.
    async fn confirm(&self, node: &Inner, said: &mut String) -> Result<(), String> {
        let Some(url) = node.url.clone() else { return Ok(()) };
        loop {
            let metrics = node.raft.metrics().borrow().clone();
            let request = JoinRequest {
                raft_id: node.identity.raft_id,
                node_id: node.identity.node_id.clone(),
                url: url.clone(),
                has_log: metrics.last_log_index.is_some_and(|index| index > 0),
            };
            match self.ask_to_join(node, &request).await {
                Ok(()) => return Ok(()),
                Err(why) => say_once(said, &why),
            }
            tokio::time::sleep(CONFIRM_EVERY).await;
        }
    }

    async fn ask_to_join(&self, node: &Inner, request: &JoinRequest) -> Result<(), String> {
        use crate::leader::{Leader, leader};
        if leader(&node.raft) == Leader::Me {
            return node.add_member(request.clone()).await.map_err(|refusal| refusal.to_string());
        }
        let mut why = "no coordinator of the cluster answers".to_owned();
        let mut to_ask: Vec<String> = self.known.borrow().iter().cloned().collect();
        let mut asked = BTreeSet::new();
        while let Some(url) = to_ask.pop() {
            if Some(&url) == node.url.as_ref() || !asked.insert(url.clone()) {
                continue;
            }
            let call = Call::Join(request.clone());
            let joined: Result<Result<RaftId, JoinRefusal>, CallError> =
                node.peers.call(&url, 0, &call, JOIN_WITHIN).await;
            match joined {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(JoinRefusal::NotLeader { leader_url })) => to_ask.extend(leader_url),
                Ok(Err(refusal)) => why = refusal.to_string(),
                Err(error @ CallError::Foreign { .. }) => {
                    why = format!(
                        "{error}; two clusters never merge: point SKYCLAW_PEER_URLS at this node's own cluster, \
                         or move its database and log away to let it join the other"
                    );
                }
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }
}

/// Says why a node does not get on, when that has changed.
fn say_once(said: &mut String, why: &str) {
    if said != why {
        tracing::warn!("{why}");
        why.clone_into(said);
    }
}
