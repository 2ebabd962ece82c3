//! What a node knows of other coordinators' addresses, and gossip that tells it more.
//!
//! Addresses come from the settings, from coordinators that announce themselves, and from gossip. They
//! are hints: whom they belong to is found out by asking.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use skyclaw_proto::limits::MAX_PEERS;
use skyclaw_proto::response::Role;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::gossip::{Announcement, Gossip, Options as GossipOptions, Seen};
use crate::leader::{Leader, leader};
use crate::node::{Inner, Node};

/// How a node gossips.
#[derive(Debug, Clone, Copy)]
pub struct Discovery {
    /// Where to listen, on UDP: the address of the coordinator.
    pub listen: SocketAddr,
    /// How often to gossip.
    pub interval: Duration,
    /// Greater than at any earlier start of this node.
    pub generation: u64,
}

impl Node {
    /// The base URLs of the other coordinators that were heard of.
    #[must_use]
    pub fn known_urls(&self) -> Vec<String> {
        self.0.known.borrow().iter().filter(|url| self.0.url.as_ref() != Some(url)).cloned().collect()
    }

    /// Remembers the address of another coordinator. False when too many are remembered already.
    pub fn learn(&self, url: &str) -> bool {
        let learned = self.0.learn([url.to_owned()]);
        if learned && let Some(gossip) = self.0.gossip.get() {
            gossip.seek(seeds(&self.0.known.borrow()));
        }
        learned
    }

    /// What gossip has sent, received and refused; `None` when there is none.
    #[must_use]
    pub fn gossip_counters(&self) -> Option<crate::gossip::Counters> {
        self.0.gossip.get().map(Gossip::counters)
    }

    /// Starts to gossip. That it cannot is no reason not to serve: the configured peers are enough.
    pub(crate) async fn gossip(&self, discovery: Discovery, token: &str, boot: u64, tracker: &TaskTracker) {
        let Some(url) = self.0.url.clone() else { return };
        let Some(advertise) = address(&url).await else {
            tracing::warn!(%url, "the address of this coordinator cannot be looked up; it does not gossip");
            return;
        };
        let options = GossipOptions {
            listen: discovery.listen,
            advertise,
            seeds: seeds(&self.0.known.borrow()),
            interval: discovery.interval,
            token,
            boot,
            generation: discovery.generation,
            me: self.0.announcement(&url),
            heard: self.0.peers.heard().clone(),
        };
        match Gossip::start(options, tracker).await {
            Ok(gossip) => {
                let others = gossip.others();
                let follow = follow(Arc::downgrade(&self.0), url, others, discovery.interval);
                let stop = self.0.stop.clone();
                tracker.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = follow => {}
                    }
                });
                // Set once: a node starts to gossip once.
                let _ = self.0.gossip.set(gossip);
            }
            Err(error) => tracing::warn!(%error, "no gossip; only the configured peers are known"),
        }
    }
}

impl Inner {
    /// Remembers addresses. False when there was no room for all.
    fn learn(&self, urls: impl IntoIterator<Item = String>) -> bool {
        let mut room = true;
        self.known.send_if_modified(|known| {
            let before = known.len();
            for url in urls {
                if known.len() < MAX_PEERS || known.contains(&url) {
                    known.insert(url);
                } else {
                    room = false;
                }
            }
            known.len() != before
        });
        let others = self.known.borrow().iter().filter(|url| self.url.as_ref() != Some(url)).count();
        self.target
            .heard_of
            .store(u32::try_from(others).unwrap_or(u32::MAX), std::sync::atomic::Ordering::Relaxed);
        room
    }

    /// What this node tells of itself.
    fn announcement(&self, url: &str) -> Announcement {
        let id = self.identity.raft_id;
        let role = match leader(&self.raft) {
            Leader::Me => Some(Role::Leader),
            _ if self.is_voter(id) => Some(Role::Follower),
            _ => self.member(id).map(|_| Role::Learner),
        };
        Announcement {
            node_id: self.identity.node_id.clone(),
            raft_id: id,
            url: url.to_owned(),
            cluster: *self.cluster.borrow(),
            role,
            load: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Takes in what gossip tells and keeps it told.
async fn follow(node: Weak<Inner>, url: String, mut others: watch::Receiver<Vec<Seen>>, interval: Duration) {
    let mut tell = tokio::time::interval(interval);
    loop {
        tokio::select! {
            changed = others.changed() => if changed.is_err() { return },
            _ = tell.tick() => {}
        }
        let Some(node) = node.upgrade() else { return };
        let alive = others
            .borrow_and_update()
            .iter()
            .filter(|seen| seen.alive)
            .map(|seen| seen.announcement.url.clone())
            .collect::<Vec<_>>();
        node.learn(alive);
        let queued = node.machine.look(|memory| memory.state.queued()).await.unwrap_or(0);
        if let Some(gossip) = node.gossip.get() {
            let load = u32::try_from(queued).unwrap_or(u32::MAX);
            gossip.announce(Announcement { load, ..node.announcement(&url) });
        }
    }
}

/// Where gossip looks for others: the hosts and ports of their base URLs.
fn seeds(urls: &BTreeSet<String>) -> Vec<String> {
    urls.iter().filter_map(|url| host_and_port(url)).collect()
}

fn host_and_port(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

async fn address(url: &str) -> Option<SocketAddr> {
    tokio::net::lookup_host(host_and_port(url)?).await.ok()?.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_the_host_and_port_of_a_base_url() {
        let of = |url: &str| host_and_port(url);
        assert_eq!(of("http://127.0.0.1:8787").as_deref(), Some("127.0.0.1:8787"));
        assert_eq!(of("https://a.example/mesh").as_deref(), Some("a.example:443"));
        assert_eq!(of("http://[::1]:9").as_deref(), Some("[::1]:9"));
        assert_eq!(of("nonsense"), None);
    }
}
