//! What coordinators say to each other.
//!
//! One sealed request, one sealed answer, over whatever [`Wire`] there is. [`Peers`] is the side that
//! asks and the ear that is asked: it seals, opens, refuses what is forged, played again or from another
//! cluster, and counts it. What a call means is not known here.

mod call;
mod heard;
pub(crate) mod seal;
mod wire;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) use self::call::{
    Call, Hello, JoinRefusal, JoinRequest, LeaderCall, LeaderError, RemoveRefusal, SnapshotPart,
};
pub(crate) use self::heard::Heard;
use self::seal::{Header, Key, Taken};
pub use self::wire::{Answered, HttpWire, PEER_PATH, Wire, WireError};
use crate::raft::RaftId;
use crate::trail::Aside;

/// Requests that were not taken, by why.
#[derive(Debug, Default)]
pub struct Refused {
    /// Not sealed with this cluster's token.
    pub unsealed: AtomicU64,
    /// Taken before, or meant for an earlier process.
    pub replayed: AtomicU64,
    /// From a member of another cluster.
    pub foreign: AtomicU64,
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("{0} answered with something that is not sealed with this cluster's token")]
    Unsealed(String),
    #[error("{url} belongs to another cluster ({theirs}, not {ours})")]
    Foreign { url: String, ours: Uuid, theirs: Uuid },
    #[error("{0} answered with something that cannot be understood; it may be another version")]
    Unreadable(String),
}

impl CallError {
    /// Whether the other side has surely done nothing.
    pub(crate) fn nothing_was_done(&self) -> bool {
        match self {
            Self::Wire(WireError::Unreachable(_) | WireError::Unauthorized(_)) | Self::Foreign { .. } => true,
            Self::Wire(WireError::Lost(_)) | Self::Unsealed(_) | Self::Unreadable(_) => false,
        }
    }
}

/// How an answer begins.
#[derive(Debug, Serialize, Deserialize)]
enum Verdict {
    /// The result of the call follows.
    Done,
    /// Nothing was done: say again, to this process.
    SayAgain { boot: u64 },
    /// Nothing was done: the receiver is a member of another cluster.
    Foreign { cluster: Uuid },
}

/// A request that was taken.
#[derive(Debug)]
pub(crate) struct Request {
    /// The sender's cluster; nil when it has none.
    pub(crate) cluster: Uuid,
    pub(crate) call: Call,
    /// What was said beside it.
    pub(crate) aside: Aside,
    mac: seal::Mac,
}

/// The mouth and the ear of a coordinator.
#[derive(Debug)]
pub(crate) struct Peers {
    key: Key,
    wire: Arc<dyn Wire>,
    me: RaftId,
    boot: u64,
    counter: AtomicU64,
    cluster: watch::Receiver<Option<Uuid>>,
    /// What is known of others: which process answers at a URL.
    boots: Mutex<HashMap<String, u64>>,
    taken: Mutex<Taken>,
    /// When each node last answered.
    answered: Mutex<HashMap<RaftId, Instant>>,
    heard: Heard,
    pub(crate) refused: Refused,
}

/// Where requests are sealed for.
const PATH: &str = PEER_PATH;

impl Peers {
    pub(crate) fn new(
        token: &str,
        wire: Arc<dyn Wire>,
        me: RaftId,
        boot: u64,
        cluster: watch::Receiver<Option<Uuid>>,
    ) -> Self {
        Self {
            key: Key::of_token(token),
            wire,
            me,
            // Zero means that a process is not known.
            boot: boot.max(1),
            counter: AtomicU64::new(0),
            cluster,
            boots: Mutex::default(),
            taken: Mutex::default(),
            answered: Mutex::default(),
            heard: Heard::default(),
            refused: Refused::default(),
        }
    }

    /// Asks the coordinator at a URL; `to` is its number, or 0 for whoever is there.
    pub(crate) async fn call<R: DeserializeOwned>(
        &self,
        url: &str,
        to: RaftId,
        call: &Call,
        timeout: Duration,
    ) -> Result<R, CallError> {
        self.call_saying(url, to, call, &Aside::default(), timeout).await
    }

    /// The same, with something said beside the call. Who knows of no such thing does not read that far.
    pub(crate) async fn call_saying<R: DeserializeOwned>(
        &self,
        url: &str,
        to: RaftId,
        call: &Call,
        aside: &Aside,
        timeout: Duration,
    ) -> Result<R, CallError> {
        let body = written(call, aside).map_err(|_| CallError::Unreadable(url.to_owned()))?;
        // A process that was restarted since, and again in the same moment, is given up.
        for _ in 0..3 {
            let to_boot = lock(&self.boots).get(url).copied().unwrap_or(0);
            let header = Header {
                from: self.me,
                to,
                from_boot: self.boot,
                to_boot,
                counter: self.counter.fetch_add(1, Ordering::Relaxed) + 1,
                cluster: self.cluster.borrow().unwrap_or_default(),
            };
            let (message, mac) = self.key.seal(PATH, &header, &body);
            let answer = self.wire.post(url, message.into(), timeout).await?;
            let answer =
                self.key.open_answer(&mac, &answer).map_err(|_| CallError::Unsealed(url.to_owned()))?;
            let mut reader = answer;
            let verdict =
                rmp_serde::from_read(&mut reader).map_err(|_| CallError::Unreadable(url.to_owned()))?;
            match verdict {
                Verdict::SayAgain { boot } => {
                    lock(&self.boots).insert(url.to_owned(), boot);
                }
                Verdict::Foreign { cluster } => {
                    let (url, ours) = (url.to_owned(), header.cluster);
                    return Err(CallError::Foreign { url, ours, theirs: cluster });
                }
                Verdict::Done => {
                    if to != 0 {
                        lock(&self.answered).insert(to, Instant::now());
                        self.heard.note(to);
                    }
                    return rmp_serde::from_slice(reader).map_err(|_| CallError::Unreadable(url.to_owned()));
                }
            }
        }
        Err(CallError::Unreadable(url.to_owned()))
    }

    /// How long ago a node last answered; `None` when it never did.
    pub(crate) fn silent_for(&self, node: RaftId) -> Option<Duration> {
        lock(&self.answered).get(&node).map(Instant::elapsed)
    }

    /// When each node was last heard of, in whatever way.
    pub(crate) fn heard(&self) -> &Heard {
        &self.heard
    }

    /// Opens a request. `Err(Some(answer))` is to be sent back, `Err(None)` says that whoever asks does
    /// not hold the token.
    pub(crate) fn hear(&self, message: &[u8]) -> Result<Request, Option<Vec<u8>>> {
        let Ok((header, body, mac)) = self.key.open(PATH, message) else {
            self.refused.unsealed.fetch_add(1, Ordering::Relaxed);
            return Err(None);
        };
        let verdict = |verdict: &Verdict| {
            let body = rmp_serde::to_vec_named(verdict).unwrap_or_default();
            Some(self.key.seal_answer(&mac, body))
        };
        let is_for_me = header.to == 0 || header.to == self.me;
        if header.to_boot != self.boot || !is_for_me {
            if header.to_boot != 0 {
                self.refused.replayed.fetch_add(1, Ordering::Relaxed);
            }
            return Err(verdict(&Verdict::SayAgain { boot: self.boot }));
        }
        if !lock(&self.taken).take(header.from_boot, header.counter) {
            self.refused.replayed.fetch_add(1, Ordering::Relaxed);
            return Err(verdict(&Verdict::SayAgain { boot: self.boot }));
        }
        let ours = *self.cluster.borrow();
        if let Some(ours) = ours.filter(|ours| !header.cluster.is_nil() && header.cluster != *ours) {
            self.refused.foreign.fetch_add(1, Ordering::Relaxed);
            return Err(verdict(&Verdict::Foreign { cluster: ours }));
        }
        self.heard.note(header.from);
        match read(body) {
            Ok((call, aside)) => Ok(Request { cluster: header.cluster, call, aside, mac }),
            // Of another version: whoever asks finds the empty answer unreadable.
            Err(_) => Err(verdict(&Verdict::Done)),
        }
    }

    /// Seals the result of a call.
    pub(crate) fn answer(&self, heard: &Request, result: &impl Serialize) -> Vec<u8> {
        let mut body = rmp_serde::to_vec_named(&Verdict::Done).unwrap_or_default();
        if let Ok(result) = rmp_serde::to_vec_named(result) {
            body.extend(result);
        }
        self.key.seal_answer(&heard.mac, body)
    }
}

/// A call, and behind it what is said beside it.
fn written(call: &Call, aside: &Aside) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut body = rmp_serde::to_vec_named(call)?;
    if !aside.is_empty() {
        body.extend(rmp_serde::to_vec_named(aside)?);
    }
    Ok(body)
}

fn read(body: &[u8]) -> Result<(Call, Aside), rmp_serde::decode::Error> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(body);
    let call = Call::deserialize(&mut reader)?;
    let aside = match &call {
        // An error says that nothing follows, or something of a version to come: neither is in the way of the call.
        Call::Leader(_) => Aside::deserialize(&mut reader).unwrap_or_default(),
        _ => Aside::default(),
    };
    Ok((call, aside))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is guarded is whole between any two statements, also after a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use skyclaw_proto::NodeId;

    use super::*;
    use crate::trail::Trail;

    fn aside() -> Aside {
        let node = NodeId::parse("b").expect("an id");
        Aside::new(&node, vec![Some(Arc::new(Trail::new("r-1", Some(("00-1".into(), None)))))])
    }

    fn shown(call: &Call) -> String {
        format!("{call:?}")
    }

    #[test]
    fn what_is_said_beside_a_call_arrives_with_it() {
        let call = Call::Leader(LeaderCall::ReadIndex);
        let body = written(&call, &aside()).expect("bytes");
        let (read, said) = read(&body).expect("a call");
        assert_eq!((shown(&read), said), (shown(&call), aside()));
    }

    #[test]
    fn a_version_that_says_nothing_beside_is_understood_and_understands() {
        let call = Call::Leader(LeaderCall::Hosts);
        // As it was read before, and as it was written.
        let body = written(&call, &aside()).expect("bytes");
        assert_eq!(shown(&rmp_serde::from_slice(&body).expect("a call")), shown(&call));
        let (read_now, said) = read(&rmp_serde::to_vec_named(&call).expect("bytes")).expect("a call");
        assert_eq!((shown(&read_now), said.is_empty()), (shown(&call), true));
    }

    #[test]
    fn a_call_is_heard_whatever_stands_behind_it() {
        let call = Call::Leader(LeaderCall::Hosts);
        for behind in
            [&b"\xc1"[..], b"\x93\x01\x02\x03", b"\x81\xa3new\x01", b"\xc0", b"\xdd\xff\xff\xff\xff"]
        {
            let body = [&*rmp_serde::to_vec_named(&call).expect("bytes"), behind].concat();
            let (heard, said) = read(&body).expect("a call");
            assert_eq!((shown(&heard), said.is_empty()), (shown(&call), true), "{behind:?}");
        }
    }
}
