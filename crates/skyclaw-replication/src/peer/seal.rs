//! Sealed messages between coordinators.
//!
//! Both sides prove that they hold the cluster token, and neither sends it: every message ends with a
//! keyed BLAKE3 hash of all that is before it, the key being derived from the token. The hash of an
//! answer covers the hash of its request, so an answer fits one request only.
//!
//! A recorded request cannot be played again: it names the process it was sent to by a random number
//! that process drew when it started, and carries a counter of which each value is taken once. No clock
//! is involved, so nodes whose clocks disagree still understand each other. A sender that does not know
//! the receiver's number is told it, sealed, and nothing is done.
//!
//! What is sealed is not secret. Where the network is not trusted to be private, it must be encrypted
//! beneath this.

use std::collections::HashMap;
use std::fmt;

use subtle::ConstantTimeEq;
use uuid::Uuid;

/// Tell the keys of each use apart, and from any other that may be derived from the token.
const CONTEXT: &str = "skyclaw 2026-11 sealed messages between coordinators";
const GOSSIP_CONTEXT: &str = "skyclaw 2026-11 gossip between coordinators";
const MAC_BYTES: usize = 32;
const HEADER_BYTES: usize = 8 + 8 + 8 + 8 + 8 + 16;
/// How far behind the newest a counter may be: requests overtake each other.
const WINDOW: u64 = 4096;
/// Most senders whose counters are remembered; the one heard of longest ago is forgotten first, and
/// has to introduce itself again.
const MAX_SENDERS: usize = 1024;

/// The key that the cluster's token stands for.
#[derive(Clone)]
pub(crate) struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What a message says of itself before its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The number of the node that sends.
    pub(crate) from: u64,
    /// The number of the node it is meant for; 0 for whoever is there.
    pub(crate) to: u64,
    /// Which process sends.
    pub(crate) from_boot: u64,
    /// Which process it is meant for; 0 when the sender does not know.
    pub(crate) to_boot: u64,
    /// Grows with each message of the sending process.
    pub(crate) counter: u64,
    /// The cluster; nil for a node that belongs to none yet.
    pub(crate) cluster: Uuid,
}

/// The hash that ends a message.
pub(crate) type Mac = [u8; MAC_BYTES];

/// The bytes are no message of anyone who holds the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message is not sealed with this cluster's token")]
pub(crate) struct Unsealed;

impl Key {
    /// The key of a token; coordinators without a token share the key of the empty one.
    pub(crate) fn of_token(token: &str) -> Self {
        Self(blake3::derive_key(CONTEXT, token.as_bytes()))
    }

    /// The key of a token for gossip, which the other can neither seal nor open.
    pub(crate) fn for_gossip(token: &str) -> Self {
        Self(blake3::derive_key(GOSSIP_CONTEXT, token.as_bytes()))
    }

    fn hash(&self, parts: &[&[u8]]) -> Mac {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        hasher.finalize().into()
    }

    /// Seals a request for a path.
    pub(crate) fn seal(&self, path: &str, header: &Header, body: &[u8]) -> (Vec<u8>, Mac) {
        let mut message = Vec::with_capacity(HEADER_BYTES + body.len() + MAC_BYTES);
        header.write(&mut message);
        message.extend_from_slice(body);
        let mac = self.hash(&[b"request", path.as_bytes(), &message]);
        message.extend_from_slice(&mac);
        (message, mac)
    }

    /// Opens a request.
    pub(crate) fn open<'m>(
        &self,
        path: &str,
        message: &'m [u8],
    ) -> Result<(Header, &'m [u8], Mac), Unsealed> {
        let (sealed, mac) = message.split_last_chunk::<MAC_BYTES>().ok_or(Unsealed)?;
        let wanted = self.hash(&[b"request", path.as_bytes(), sealed]);
        if !bool::from(wanted.ct_eq(mac)) {
            return Err(Unsealed);
        }
        let (header, body) = sealed.split_first_chunk::<HEADER_BYTES>().ok_or(Unsealed)?;
        Ok((Header::read(header), body, *mac))
    }

    /// Seals the answer to a request.
    pub(crate) fn seal_answer(&self, request: &Mac, mut body: Vec<u8>) -> Vec<u8> {
        let mac = self.hash(&[b"answer", request, &body]);
        body.extend_from_slice(&mac);
        body
    }

    /// Opens the answer to a request.
    pub(crate) fn open_answer<'m>(&self, request: &Mac, message: &'m [u8]) -> Result<&'m [u8], Unsealed> {
        let (body, mac) = message.split_last_chunk::<MAC_BYTES>().ok_or(Unsealed)?;
        let wanted = self.hash(&[b"answer", request, body]);
        if bool::from(wanted.ct_eq(mac)) { Ok(body) } else { Err(Unsealed) }
    }
}

impl Header {
    fn write(&self, out: &mut Vec<u8>) {
        for number in [self.from, self.to, self.from_boot, self.to_boot, self.counter] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(self.cluster.as_bytes());
    }

    fn read(bytes: &[u8; HEADER_BYTES]) -> Self {
        let number = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[at * 8..at * 8 + 8]);
            u64::from_be_bytes(eight)
        };
        let mut cluster = [0; 16];
        cluster.copy_from_slice(&bytes[40..]);
        Self {
            from: number(0),
            to: number(1),
            from_boot: number(2),
            to_boot: number(3),
            counter: number(4),
            cluster: Uuid::from_bytes(cluster),
        }
    }
}

/// Remembers which requests were taken, so that none is taken twice.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    senders: HashMap<u64, Window>,
    uses: u64,
}

#[derive(Debug)]
struct Window {
    newest: u64,
    seen: Box<[u64; (WINDOW / 64) as usize]>,
    last_used: u64,
}

impl Taken {
    /// Takes the request with this counter; false when it was taken before, or is too old to tell.
    pub(crate) fn take(&mut self, sender_boot: u64, counter: u64) -> bool {
        self.uses += 1;
        if !self.senders.contains_key(&sender_boot) && self.senders.len() >= MAX_SENDERS {
            let oldest =
                self.senders.iter().min_by_key(|(_, window)| window.last_used).map(|(boot, _)| *boot);
            oldest.map(|boot| self.senders.remove(&boot));
        }
        let window = self.senders.entry(sender_boot).or_insert_with(Window::new);
        window.last_used = self.uses;
        window.take(counter)
    }
}

impl Window {
    fn new() -> Self {
        Self { newest: 0, seen: Box::new([0; (WINDOW / 64) as usize]), last_used: 0 }
    }

    fn take(&mut self, counter: u64) -> bool {
        if counter > self.newest {
            if counter - self.newest >= WINDOW {
                self.seen.fill(0);
            } else {
                for passed in self.newest + 1..=counter {
                    self.mark(passed, false);
                }
            }
            self.newest = counter;
        } else if self.newest - counter >= WINDOW || self.is_marked(counter) {
            return false;
        }
        self.mark(counter, true);
        true
    }

    fn place(counter: u64) -> (usize, u64) {
        let bit = counter % WINDOW;
        (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
    }

    fn is_marked(&self, counter: u64) -> bool {
        let (word, bit) = Self::place(counter);
        self.seen[word] & bit != 0
    }

    fn mark(&mut self, counter: u64, on: bool) {
        let (word, bit) = Self::place(counter);
        if on {
            self.seen[word] |= bit;
        } else {
            self.seen[word] &= !bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header { from: 1, to: 2, from_boot: 3, to_boot: 4, counter: 5, cluster: Uuid::from_u128(6) }
    }

    #[test]
    fn a_request_is_opened_with_the_token_it_was_sealed_with_and_no_other() {
        let key = Key::of_token("secret");
        let (message, mac) = key.seal("/p", &header(), b"body");
        assert_eq!(key.open("/p", &message), Ok((header(), &b"body"[..], mac)));
        assert_eq!(key.open("/q", &message), Err(Unsealed), "on another path");
        assert_eq!(Key::of_token("other").open("/p", &message), Err(Unsealed));
        assert_eq!(Key::for_gossip("secret").open("/p", &message), Err(Unsealed), "for another use");
    }

    #[test]
    fn an_answer_fits_its_request_only() {
        let key = Key::of_token("secret");
        let answer = key.seal_answer(&[1; 32], b"yes".to_vec());
        assert_eq!(key.open_answer(&[1; 32], &answer), Ok(&b"yes"[..]));
        assert_eq!(key.open_answer(&[2; 32], &answer), Err(Unsealed));
        assert_eq!(key.open_answer(&[1; 32], &[]), Err(Unsealed));
    }

    #[test]
    fn the_token_is_not_in_what_is_sent_or_shown() {
        let key = Key::of_token("secret");
        let (message, _) = key.seal("/p", &header(), b"body");
        assert!(!message.windows(6).any(|w| w == b"secret"));
        assert_eq!(format!("{key:?}"), "Key(…)");
    }

    proptest! {
        #[test]
        fn no_flipped_bit_goes_unnoticed(at in any::<prop::sample::Index>(), bit in 0u8..8, body in any::<Vec<u8>>()) {
            let key = Key::of_token("secret");
            let (mut message, _) = key.seal("/p", &header(), &body);
            let at = at.index(message.len());
            message[at] ^= 1 << bit;
            prop_assert_eq!(key.open("/p", &message), Err(Unsealed));
        }

        #[test]
        fn a_counter_is_taken_once(counters in prop::collection::vec(0u64..10_000, 0..300)) {
            let mut taken = Taken::default();
            let mut accepted = std::collections::HashSet::new();
            for counter in counters {
                if taken.take(7, counter) {
                    prop_assert!(accepted.insert(counter), "{} was taken twice", counter);
                }
            }
        }

        #[test]
        fn requests_that_overtake_each_other_are_all_taken(order in Just((1u64..200).collect::<Vec<_>>()).prop_shuffle()) {
            let mut taken = Taken::default();
            for counter in order {
                prop_assert!(taken.take(7, counter));
            }
        }
    }

    #[test]
    fn senders_do_not_share_counters() {
        let mut taken = Taken::default();
        assert!(taken.take(1, 5) && taken.take(2, 5));
        assert!(!taken.take(1, 5));
    }
}
