//! Who else is there: coordinators find each other by gossip.
//!
//! Every coordinator tells what it is ([`Announcement`]) to a few others each interval, and passes on
//! what it was told, so that all know of all although each was given the addresses of a few. The
//! protocol is that of the chitchat library: Scuttlebutt reconciliation, a phi-accrual failure detector.
//!
//! ```text
//!  seek: names of seeds ─► addresses ─┐
//!  announce ──────────────────────────┼─► task ◄─► chitchat ◄─► sealed socket ◄─► UDP
//!  others ◄── what has changed ───────┘
//! ```
//!
//! What always holds:
//! - Gossip is advisory. Nothing that must be right may rest on it: it may be late, and a datagram that
//!   was recorded before this process began can be played to it once.
//! - Only who holds the cluster's token is heard (see [`crate::peer::seal`]). What is said is not secret.
//! - A member of another cluster is not listed. Which cluster a node belongs to travels as data, so that
//!   nodes that belong to none can find those that do.
//! - No failure of the network or of the library ends it; only [`Gossip::stop`] and dropping the last
//!   handle do.
//! - No type of chitchat leaves this module.

mod announcement;
mod seek;
mod socket;
mod task;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use skyclaw_proto::limits::MAX_PEERS;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::announcement::{Announcement, Seen};
pub use self::socket::Counters;
use self::socket::Sealed;
use self::task::Task;
use crate::peer::Heard;
use crate::peer::seal::Key;

/// Shortest interval between rounds.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// Most addresses of seeds that wait to be greeted.
const MAX_FOUND: usize = 32;

/// What gossip is started with.
pub struct Options<'a> {
    /// Where to listen, on UDP.
    pub listen: SocketAddr,
    /// Where others send to. Port 0 stands for the port that is listened on.
    pub advertise: SocketAddr,
    /// Where to look for others first, as `host:port`. May name this node as well.
    pub seeds: Vec<String>,
    /// How often to gossip; at least 10 ms. A node that is silent for about 8 intervals counts as dead,
    /// and leaves the list 40 intervals later.
    pub interval: Duration,
    /// The cluster's token.
    pub token: &'a str,
    /// A random number of this process.
    pub boot: u64,
    /// Greater than at any earlier start of this node.
    pub generation: u64,
    /// What to tell of this node at first.
    pub me: Announcement,
    /// Where it is noted who was heard of.
    pub(crate) heard: Heard,
}

/// Why gossip cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not ours, or taken.
    #[error("cannot listen for gossip on {addr}/udp")]
    Listen {
        /// Where we wanted to listen.
        addr: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Others cannot send to this.
    #[error("{0} is no address that others can send gossip to")]
    Advertise(SocketAddr),
}

/// The handle of the gossip; cheap to clone.
#[derive(Debug, Clone)]
pub struct Gossip {
    addr: SocketAddr,
    announcement: watch::Sender<Announcement>,
    seeds: watch::Sender<Vec<String>>,
    others: watch::Receiver<Vec<Seen>>,
    wire: Arc<Sealed>,
    stop: CancellationToken,
    stopped: CancellationToken,
}

impl Gossip {
    /// Begins to listen and to look for others.
    ///
    /// # Errors
    /// When the address cannot be listened on, or the advertised one is not one to send to.
    pub async fn start(options: Options<'_>, tracker: &TaskTracker) -> Result<Self, Error> {
        let Options { listen, mut advertise, seeds, interval, token, boot, generation, me, heard } = options;
        let failed = |source| Error::Listen { addr: listen, source };
        let socket = UdpSocket::bind(listen).await.map_err(failed)?;
        let addr = socket.local_addr().map_err(failed)?;
        if advertise.port() == 0 {
            advertise.set_port(addr.port());
        }
        if advertise.ip().is_unspecified() || advertise.ip().is_multicast() {
            return Err(Error::Advertise(advertise));
        }
        let interval = interval.max(MIN_INTERVAL);
        let (announcement, announced) = watch::channel(me);
        let (seeds, sought) = watch::channel(bounded(seeds));
        let (seen, others) = watch::channel(Vec::new());
        let (finds, found) = mpsc::channel(MAX_FOUND);
        let (stop, stopped) = (CancellationToken::new(), CancellationToken::new());
        let wire =
            Arc::new(Sealed::new(socket, addr, Key::for_gossip(token), boot, announced.clone(), heard));

        let seeking = seek::seek(sought, interval, finds);
        let until = stop.clone();
        tracker.spawn(async move { until.run_until_cancelled(seeking).await });
        let task = Task {
            advertise,
            interval,
            generation,
            announcement: announced,
            found,
            seen,
            wire: Arc::clone(&wire),
            stop: stop.clone(),
        };
        let end = stopped.clone().drop_guard();
        tracker.spawn(async move {
            task.run().await;
            drop(end);
        });
        Ok(Self { addr, announcement, seeds, others, wire, stop, stopped })
    }

    /// Where this node listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Tells the others something new of this node. Its name and number stay what they were at the
    /// start, whatever is given here.
    pub fn announce(&self, announcement: Announcement) {
        self.announcement.send_if_modified(|now| {
            let next = Announcement { node_id: now.node_id.clone(), raft_id: now.raft_id, ..announcement };
            let is_new = next != *now;
            *now = next;
            is_new
        });
    }

    /// Replaces the places (`host:port`) where others are looked for; the first 256 count.
    pub fn seek(&self, seeds: Vec<String>) {
        self.seeds.send_replace(bounded(seeds));
    }

    /// The other coordinators, sorted by node id, each once.
    #[must_use]
    pub fn others(&self) -> watch::Receiver<Vec<Seen>> {
        self.others.clone()
    }

    /// What was sent, received and refused so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.wire.counters()
    }

    /// Tells the others that this node leaves, waiting for at most a second, and ends the gossip.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.stopped.cancelled().await;
    }
}

fn bounded(mut seeds: Vec<String>) -> Vec<String> {
    seeds.truncate(MAX_PEERS);
    seeds
}
