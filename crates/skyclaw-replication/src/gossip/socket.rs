//! Datagrams that only holders of the token can make: what chitchat wants sent is sealed, and what is
//! not sealed, was taken before, or comes from a member of another cluster never reaches it.
//!
//! Nothing that happens here is an error to chitchat, which would end at one: a datagram that cannot be
//! sent is lost like any other.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Deserializable, Serializable};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use uuid::Uuid;

use super::Announcement;
use crate::peer::Heard;
use crate::peer::seal::{Header, Key, Taken};

/// What datagrams are sealed for.
pub(super) const PATH: &str = "gossip";
/// Longest datagram of UDP over IPv4, rounded up. chitchat fills what fits without our seal; one that
/// has become too long is not sent and counted. With compression, that takes a thousand coordinators.
const MAX_DATAGRAM_BYTES: usize = 65_536;
/// How long to wait after the socket failed: it may fail at once again.
const PAUSE: Duration = Duration::from_millis(100);

/// What was sent, received and refused.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that were sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Datagrams that the system would not send.
    pub unsent: u64,
    /// Datagrams that were taken.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Datagrams not sealed with our token.
    pub forged: u64,
    /// Datagrams that were taken before, or are too old to tell.
    pub replayed: u64,
    /// Datagrams of members of another cluster.
    pub foreign: u64,
    /// Sealed datagrams that make no sense; perhaps those of another version.
    pub unreadable: u64,
    /// How often the library failed and was started again.
    pub failures: u64,
}

#[derive(Debug, Default)]
struct Meter {
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    unsent: AtomicU64,
    received: AtomicU64,
    received_bytes: AtomicU64,
    forged: AtomicU64,
    replayed: AtomicU64,
    foreign: AtomicU64,
    unreadable: AtomicU64,
    failures: AtomicU64,
}

/// The socket and what it takes to seal; outlives any one run of chitchat.
pub(super) struct Sealed {
    socket: UdpSocket,
    is_ipv6: bool,
    key: Key,
    boot: u64,
    counter: AtomicU64,
    me: watch::Receiver<Announcement>,
    heard: Heard,
    taken: Mutex<Taken>,
    meter: Meter,
    /// How often another node was sent what it had not known of us.
    updates: watch::Sender<u64>,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("meter", &self.meter).finish_non_exhaustive()
    }
}

impl Sealed {
    pub(super) fn new(
        socket: UdpSocket,
        addr: SocketAddr,
        key: Key,
        boot: u64,
        me: watch::Receiver<Announcement>,
        heard: Heard,
    ) -> Self {
        Self {
            socket,
            is_ipv6: addr.is_ipv6(),
            key,
            boot,
            counter: AtomicU64::new(0),
            me,
            heard,
            taken: Mutex::default(),
            meter: Meter::default(),
            updates: watch::Sender::default(),
        }
    }

    pub(super) fn updates(&self) -> watch::Receiver<u64> {
        self.updates.subscribe()
    }

    pub(super) fn count_failure(&self) {
        self.meter.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counters(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Meter { sent, sent_bytes, unsent, received, received_bytes, .. } = &self.meter;
        let Meter { forged, replayed, foreign, unreadable, failures, .. } = &self.meter;
        Counters {
            sent: read(sent),
            sent_bytes: read(sent_bytes),
            unsent: read(unsent),
            received: read(received),
            received_bytes: read(received_bytes),
            forged: read(forged),
            replayed: read(replayed),
            foreign: read(foreign),
            unreadable: read(unreadable),
            failures: read(failures),
        }
    }

    fn seal(&self, message: &ChitchatMessage) -> Vec<u8> {
        let (from, cluster) = {
            let me = self.me.borrow();
            (me.raft_id, me.cluster.unwrap_or_default())
        };
        let counter = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        let header = Header { from, to: 0, from_boot: self.boot, to_boot: 0, counter, cluster };
        self.key.seal(PATH, &header, &message.serialize_to_vec()).0
    }

    /// The message in a datagram, if it is one for us.
    fn open(&self, datagram: &[u8], from: SocketAddr) -> Option<ChitchatMessage> {
        let Ok((header, mut body, _)) = self.key.open(PATH, datagram) else {
            return refuse(&self.meter.forged, from, "it is not sealed with this cluster's token");
        };
        // A seed may name ourselves.
        if header.from_boot == self.boot {
            return None;
        }
        // What is guarded is whole between any two statements, also after a panic.
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = taken.take(header.from_boot, header.counter);
        drop(taken);
        if !is_new {
            return refuse(&self.meter.replayed, from, "it was heard before");
        }
        let theirs = Some(header.cluster).filter(|cluster: &Uuid| !cluster.is_nil());
        if self.me.borrow().is_foreign(theirs) {
            return refuse(&self.meter.foreign, from, "the sender belongs to another cluster");
        }
        let Ok(message) = ChitchatMessage::deserialize(&mut body) else {
            return refuse(&self.meter.unreadable, from, "it makes no sense; it may be another version");
        };
        self.heard.note(header.from);
        self.meter.received.fetch_add(1, Ordering::Relaxed);
        self.meter.received_bytes.fetch_add(datagram.len() as u64, Ordering::Relaxed);
        Some(message)
    }

    /// The address in the family of the socket.
    fn reach(&self, to: SocketAddr) -> SocketAddr {
        match to {
            SocketAddr::V4(v4) if self.is_ipv6 => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            SocketAddr::V4(_) | SocketAddr::V6(_) => to,
        }
    }
}

/// Counts, and says so ever more rarely: anyone can send any number of datagrams.
fn refuse<T>(counter: &AtomicU64, from: SocketAddr, why: &str) -> Option<T> {
    let count = counter.fetch_add(1, Ordering::Relaxed) + 1;
    if count.is_power_of_two() {
        tracing::warn!(%from, count, "gossip is refused: {why}");
    }
    None
}

/// Opens the one socket there is, again for each run of chitchat.
pub(super) struct Opener(pub(super) Arc<Sealed>);

#[async_trait::async_trait]
impl Transport for Opener {
    async fn open(&self, _listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let buffer = vec![0; MAX_DATAGRAM_BYTES].into_boxed_slice();
        Ok(Box::new(Opened { sealed: Arc::clone(&self.0), buffer }))
    }
}

struct Opened {
    sealed: Arc<Sealed>,
    buffer: Box<[u8]>,
}

#[async_trait::async_trait]
impl Socket for Opened {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let sealed = &self.sealed;
        let datagram = sealed.seal(&message);
        match sealed.socket.send_to(&datagram, sealed.reach(to)).await {
            Ok(bytes) => {
                sealed.meter.sent.fetch_add(1, Ordering::Relaxed);
                sealed.meter.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Err(error) => {
                sealed.meter.unsent.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%to, %error, bytes = datagram.len(), "gossip cannot be sent");
            }
        }
        if matches!(message, ChitchatMessage::Ack { .. }) {
            sealed.updates.send_modify(|updates| *updates += 1);
        }
        Ok(())
    }

    /// Cancel-safe: a datagram that was received is returned before anything else is waited for.
    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            match self.sealed.socket.recv_from(&mut self.buffer).await {
                Ok((length, from)) => {
                    if let Some(message) = self.sealed.open(&self.buffer[..length], from) {
                        return Ok((from, message));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "gossip cannot be received");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}
