//! The daemons a shim is connected to: the one that started it, and those that found it later.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{geteuid, getpid};

use crate::protocol::{self, Inbox, Order, Said};
use crate::tree;

/// How many there may be at once.
const MAX: usize = 4;

/// A connection to a daemon.
#[derive(Debug)]
struct Peer {
    stream: UnixStream,
    inbox: Inbox,
}

/// All connections, and where new ones come from.
#[derive(Debug)]
pub(super) struct Peers {
    listener: UnixListener,
    peers: Vec<Peer>,
}

impl Peers {
    pub(super) fn new(listener: UnixListener, first: UnixStream) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        first.set_nonblocking(true)?;
        Ok(Self { listener, peers: vec![Peer { stream: first, inbox: Inbox::new(protocol::MAX_ORDER) }] })
    }

    /// What to look at: the listener, then each connection.
    pub(super) fn files(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.listener.as_fd()).chain(self.peers.iter().map(|peer| peer.stream.as_fd()))
    }

    /// Takes those that wait, and greets them. Says which they are by now.
    pub(super) fn accept(&mut self, greeting: Option<&Said>) -> Range<usize> {
        let before = self.peers.len();
        while let Ok((stream, _)) = self.listener.accept() {
            if self.peers.len() < MAX && may_order(&stream) && stream.set_nonblocking(true).is_ok() {
                self.peers.push(Peer { stream, inbox: Inbox::new(protocol::MAX_ORDER) });
                if let Some(greeting) = greeting {
                    let last = self.peers.len() - 1;
                    self.say(Some(last), greeting);
                }
            }
        }
        before..self.peers.len()
    }

    /// Waits until somebody connects, for so long at most.
    pub(super) fn wait(&self, time: Duration) {
        let _ = poll(&mut [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)], timeout(Some(time)));
    }

    /// Forgets all whose connection has ended, whatever they had to say.
    pub(super) fn prune_ended(&mut self) {
        for peer in &mut self.peers {
            let _ = peer.stream.set_nonblocking(true);
            peer.inbox = Inbox::new(protocol::MAX_ORDER);
            if peer.read().is_err() {
                peer.gone();
            }
        }
        self.prune();
    }

    /// What the connections in `ready` (by their place) have to say. Those that ended, or say what is no
    /// order, are gone after; so places hold only until the next call.
    pub(super) fn orders(&mut self, ready: &[usize]) -> Vec<(usize, Order)> {
        let mut orders = Vec::new();
        for &place in ready {
            let Some(peer) = self.peers.get_mut(place) else { continue };
            if peer.read().is_err() {
                peer.gone();
            }
            loop {
                match peer.inbox.next() {
                    Ok(Some(order)) => orders.push((place, order)),
                    Ok(None) => break,
                    Err(_) => {
                        peer.gone();
                        break;
                    }
                }
            }
        }
        orders
    }

    /// Forgets connections that ended.
    pub(super) fn prune(&mut self) {
        self.peers.retain(|peer| !peer.inbox.is_closed());
    }

    /// Says something to one, or to all. Who does not take it is gone.
    pub(super) fn say(&mut self, place: Option<usize>, what: &Said) {
        let Ok(frame) = protocol::frame(what) else { return };
        for (at, peer) in self.peers.iter_mut().enumerate() {
            if place.is_none_or(|place| place == at) && peer.stream.write_all(&frame).is_err() {
                peer.gone();
            }
        }
    }

    /// Gives those that do not read time to do so, for a last word.
    pub(super) fn be_patient(&self, patience: Duration) {
        for peer in &self.peers {
            let _ = peer.stream.set_nonblocking(false);
            let _ = peer.stream.set_write_timeout(Some(patience));
        }
    }
}

impl Peer {
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.inbox.push(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.inbox.is_full() {
                return Ok(());
            }
        }
    }

    fn gone(&mut self) {
        self.inbox.close();
    }
}

/// Whether who connected may give orders: the shim's own user or root, and none that the shim keeps, which
/// may have the same user and must not lengthen its own life.
fn may_order(stream: &UnixStream) -> bool {
    let Ok(peer) = getsockopt(stream, PeerCredentials) else { return false };
    let (uid, own) = (peer.uid(), geteuid().as_raw());
    (uid == own || uid == 0) && !tree::is_below(peer.pid(), getpid().as_raw())
}

/// As `poll` wants it: rounded up, so that the moment has come when it returns.
pub(super) fn timeout(time: Option<Duration>) -> PollTimeout {
    let Some(time) = time else { return PollTimeout::NONE };
    let millis = time.as_micros().div_ceil(1000).min(60_000);
    PollTimeout::try_from(u32::try_from(millis).unwrap_or(60_000)).unwrap_or(PollTimeout::MAX)
}
