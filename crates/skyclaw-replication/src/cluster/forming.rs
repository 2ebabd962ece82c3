//! How a node comes to belong to a cluster, and how it finds out that it does no longer.
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
//! whether it still is a member. It asks again whenever it has not heard of a leader for a while, as a node
//! that is taken out is told nothing any more. And it asks the peers it was configured with which cluster
//! they belong to ([`Standing`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use skyclaw_proto::NodeId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::standing::{Foreign, Standing};
use crate::leader::{Leader, leader};
use crate::node::Inner;
use crate::peer::{Call, CallError, Hello, JoinRefusal, JoinRequest};
use crate::raft::{Identity, Member, RaftId};

/// How often a node that does not belong to a cluster looks around.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How often a member looks whether it still is one.
const CONFIRM_EVERY: Duration = Duration::from_secs(1);
/// Of how many such looks one greets the configured peers again, once they are known to be its own.
const GREET_EVERY: u32 = 10;
/// How long a leader may be silent before a member asks whether it still is one.
const LEADER_SILENT: Duration = Duration::from_secs(2);
/// How long a peer may take to say who it is.
const HELLO_WITHIN: Duration = Duration::from_millis(1000);
/// How long the leader may take to let a node in.
const JOIN_WITHIN: Duration = Duration::from_secs(10);
/// How many looks in a row nobody answers before that is worth a warning: others may just be starting.
const SILENT_LOOKS: u32 = 3;

/// What forming needs to know.
#[derive(Debug)]
pub(crate) struct Forming {
    /// The base URLs of all coordinators that were heard of.
    pub(crate) known: watch::Receiver<BTreeSet<String>>,
    /// The base URLs this node was configured with. With any, a node that sees nobody waits for them.
    pub(crate) configured: Vec<String>,
    /// How many blank nodes must see each other before one founds a cluster.
    pub(crate) expect: usize,
    pub(crate) new_uuid: fn() -> Uuid,
}

/// What is remembered from look to look.
#[derive(Debug, Default)]
struct Looks {
    said: String,
    /// Whether the leader has confirmed this node at the address it has now.
    confirmed: bool,
    count: u32,
    unanswered: u32,
    /// The peer of another cluster that was told of.
    stranger: Option<Foreign>,
}

/// What came of asking to be a member.
enum Asked {
    Confirmed,
    Removed,
    /// It is not settled who leads.
    NoLeader,
    /// It cannot be for a reason that people must see to.
    Refused(String),
}

/// Who answers where.
#[derive(Debug, Default)]
struct Greetings {
    hellos: Vec<Hello>,
    foreign: Option<Foreign>,
    silent: usize,
}

impl Forming {
    /// Runs until this node belongs to a cluster.
    pub(crate) async fn belong(&self, node: &Inner) -> Result<(), String> {
        let mut said = String::new();
        while node.cluster.borrow().is_none() {
            if self.configured.is_empty() {
                return self.found(node).await;
            }
            match self.look_around(node).await {
                Ok(Some(cluster)) => self.take_on(node, cluster).await?,
                Ok(None) => {}
                Err(why) => {
                    say_once(&mut said, &why);
                    node.stand(&Standing::Forming { waiting_for: why });
                }
            }
            if node.cluster.borrow().is_none() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Looks after how a node that belongs to a cluster stands to it, for as long as there is the node.
    pub(crate) async fn watch(self, node: Weak<Inner>, stop: CancellationToken) {
        let mut looks = Looks::default();
        loop {
            let Some(node) = node.upgrade() else { return };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.look(&node, &mut looks) => {}
            }
            drop(node);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CONFIRM_EVERY) => {}
            }
        }
    }

    async fn look(&self, node: &Inner, looks: &mut Looks) {
        let standing = node.standing.borrow().clone();
        let is_settled = standing == Standing::Member;
        let is_due = looks.count.is_multiple_of(GREET_EVERY);
        looks.count = looks.count.wrapping_add(1);
        if !self.configured.is_empty() && (is_due || !is_settled) && standing != Standing::Removed {
            let standing = self.judge(node, standing, looks).await;
            node.stand(&standing);
        }
        let leads = leader(&node.raft) == Leader::Me;
        let is_listed = node.member(node.identity.raft_id).is_some();
        let is_heard = node.signs.silent_for().is_some_and(|silent| silent < LEADER_SILENT);
        let is_led = leads || (is_heard && is_listed);
        if matches!(*node.standing.borrow(), Standing::Foreign(_)) || (looks.confirmed && is_led) {
            return;
        }
        let asked = self.ask_to_join(node).await;
        // Who was taken out is not elected. But nobody may be told so for certain where none leads: there its
        // log may be the one that is needed.
        node.stands.store(!matches!(asked, Asked::Removed), Ordering::Relaxed);
        match asked {
            Asked::Confirmed => {
                (looks.confirmed, looks.unanswered) = (true, 0);
                node.stand(&Standing::Member);
            }
            Asked::Removed => node.stand(&Standing::Removed),
            Asked::NoLeader => {
                looks.unanswered += 1;
                // Whoever can lead alone is about to, and whoever starts with others waits for them.
                if looks.unanswered >= SILENT_LOOKS && !is_sole(node) {
                    say_once(&mut looks.said, "no coordinator of the cluster says who leads it");
                }
            }
            Asked::Refused(why) => say_once(&mut looks.said, &why),
        }
    }

    /// How this node stands, by what its configured peers say. One of another cluster keeps it from serving
    /// while none that is configured belongs to ours and no leader of ours is heard of. If our own cluster is
    /// seen to work, a wrong address among the peers is told, and no more: one mistake must not stop a cluster.
    async fn judge(&self, node: &Inner, now: Standing, looks: &mut Looks) -> Standing {
        let ours = *node.cluster.borrow();
        let greetings = greet_all(node, self.configured.clone()).await;
        let is_ours = greetings.hellos.iter().any(|hello| hello.cluster == ours);
        let is_led = node.signs.silent_for().is_some_and(|silent| silent < LEADER_SILENT);
        let works = is_ours || is_led || (leader(&node.raft) == Leader::Me && !is_sole(node));
        match greetings.foreign {
            Some(foreign) if !works => Standing::Foreign(foreign),
            Some(foreign) => {
                if looks.stranger.as_ref() != Some(&foreign) {
                    tracing::error!("{foreign}; its own cluster is seen to work, so it serves");
                    looks.stranger = Some(foreign);
                }
                Standing::Member
            }
            // That a stranger is silent for a while makes it no friend.
            None if matches!(now, Standing::Foreign(_)) && !works && greetings.silent > 0 => now,
            None => Standing::Member,
        }
    }

    /// Looks for a cluster, or founds one if it is this node's turn. Says which to join.
    async fn look_around(&self, node: &Inner) -> Result<Option<Uuid>, String> {
        let known = self.known.borrow().iter().cloned().collect();
        let hellos = greet_all(node, known).await.hellos;
        let clusters: BTreeSet<Uuid> = hellos.iter().filter_map(|hello| hello.cluster).collect();
        if clusters.len() > 1 {
            let clusters: Vec<String> = clusters.iter().map(Uuid::to_string).collect();
            return Err(format!(
                "the peers belong to several clusters ({}), and a node can join one only: \
                 point SKYCLAW_PEER_URLS at the one it is meant for",
                clusters.join(", ")
            ));
        }
        if let Some(cluster) = clusters.first() {
            return Ok(Some(*cluster));
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
        node.stand(&Standing::Member);
        Ok(())
    }

    /// Has the leader confirm that this node is a member, at the address it has now.
    async fn ask_to_join(&self, node: &Inner) -> Asked {
        let Some(url) = node.url.clone() else { return Asked::Confirmed };
        // Asked of the log itself: right after the start openraft's metrics know nothing yet, and a node that
        // was taken out would be let in again as a blank one.
        let held = node.log.bounds();
        let request = JoinRequest {
            raft_id: node.identity.raft_id,
            node_id: node.identity.node_id.clone(),
            url: url.clone(),
            has_log: held.end > 1,
        };
        if leader(&node.raft) == Leader::Me {
            return asked(node.add_member(request).await);
        }
        let mut outcome = Asked::NoLeader;
        let mut to_ask: Vec<String> = self.known.borrow().iter().cloned().collect();
        to_ask.extend(member_urls(node));
        let mut done = BTreeSet::from([url]);
        while let Some(url) = to_ask.pop() {
            if !done.insert(url.clone()) {
                continue;
            }
            let call = Call::Join(request.clone());
            let joined: Result<Result<RaftId, JoinRefusal>, CallError> =
                node.peers.call(&url, 0, &call, JOIN_WITHIN).await;
            match joined {
                Ok(Err(JoinRefusal::NotLeader { leader_url })) => to_ask.extend(leader_url),
                Ok(joined) => match asked(joined.map(drop)) {
                    Asked::NoLeader => {}
                    settled @ (Asked::Confirmed | Asked::Removed) => return settled,
                    refused @ Asked::Refused(_) => outcome = refused,
                },
                // Which cluster the configured ones belong to was looked at before.
                Err(CallError::Foreign { .. }) => {}
                Err(error) => tracing::debug!(%url, %error, "no answer to the question who is a member"),
            }
        }
        outcome
    }
}

fn asked(joined: Result<(), JoinRefusal>) -> Asked {
    match joined {
        Ok(()) => Asked::Confirmed,
        Err(JoinRefusal::Removed) => Asked::Removed,
        Err(JoinRefusal::NotLeader { .. } | JoinRefusal::Busy) => Asked::NoLeader,
        Err(refusal @ JoinRefusal::NameTaken { .. }) => Asked::Refused(refusal.to_string()),
    }
}

/// Whether this node needs nobody's vote.
pub(crate) fn is_sole(node: &Inner) -> bool {
    let metrics = node.raft.metrics();
    let metrics = metrics.borrow();
    let me = node.identity.raft_id;
    metrics.membership_config.membership().voter_ids().all(|voter| voter == me)
}

fn member_urls(node: &Inner) -> Vec<String> {
    let metrics = node.raft.metrics();
    let metrics = metrics.borrow();
    metrics.membership_config.membership().nodes().filter_map(|(_, member)| member.url.clone()).collect()
}

/// Asks everyone who they are; who does not answer, or has another token, is passed over.
async fn greet_all(node: &Inner, urls: Vec<String>) -> Greetings {
    let mut greetings = tokio::task::JoinSet::new();
    for url in urls.into_iter().filter(|url| node.url.as_ref() != Some(url)) {
        let peers = Arc::clone(&node.peers);
        // The set is joined below; dropping it ends what is left.
        greetings.spawn(async move {
            let hello = peers.call::<Hello>(&url, 0, &Call::Hello, HELLO_WITHIN).await;
            (url, hello)
        });
    }
    let mut all = Greetings::default();
    while let Some(Ok((url, hello))) = greetings.join_next().await {
        match hello {
            Ok(hello) if hello.raft_id != node.identity.raft_id => all.hellos.push(hello),
            Ok(_) => {}
            Err(CallError::Foreign { url, ours, theirs }) => {
                all.foreign = Some(Foreign { url, ours, theirs });
            }
            Err(error) => {
                all.silent += 1;
                tracing::debug!(%url, %error, "no greeting");
            }
        }
    }
    all
}

/// Says why a node does not get on, when that has changed.
fn say_once(said: &mut String, why: &str) {
    if said != why {
        tracing::warn!("{why}");
        why.clone_into(said);
    }
}
