//! What an entry of the log carries.
//!
//! The commands of an entry are encoded once, where it is proposed, and decoded once on each other node:
//! from then on their bytes go along with them, into the log and on to other nodes.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::de::{self, Deserializer, Visitor};
use serde::ser::{self, Serializer};
use serde::{Deserialize, Serialize};
use skyclaw_core::Command;

/// About what a small command has: a buffer that grows while it is written is copied each time.
const TYPICAL_BYTES: usize = 384;

/// The commands that were waiting when the entry was made. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Proposal {
    commands: Arc<Vec<Command>>,
    encoded: Arc<OnceLock<Bytes>>,
}

impl Proposal {
    pub(crate) fn new(commands: Vec<Command>) -> Self {
        Self { commands: Arc::new(commands), encoded: Arc::default() }
    }

    /// Whether it may lie in a log: it is encoded when it is put into one, and not before.
    pub(crate) fn may_be_appended(&self) -> bool {
        self.encoded.get().is_some()
    }

    pub(crate) fn commands(&self) -> &Arc<Vec<Command>> {
        &self.commands
    }

    fn decode(bytes: Bytes) -> Result<Self, rmp_serde::decode::Error> {
        let commands = rmp_serde::from_slice(&bytes)?;
        Ok(Self { commands: Arc::new(commands), encoded: Arc::new(OnceLock::from(bytes)) })
    }

    fn encoded(&self) -> Result<&Bytes, rmp_serde::encode::Error> {
        if let Some(bytes) = self.encoded.get() {
            return Ok(bytes);
        }
        let mut bytes = Vec::with_capacity(self.commands.len() * TYPICAL_BYTES);
        rmp_serde::encode::write_named(&mut bytes, &*self.commands)?;
        Ok(self.encoded.get_or_init(|| bytes.into()))
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands", self.commands.len())
    }
}

impl PartialEq for Proposal {
    fn eq(&self, other: &Self) -> bool {
        self.commands == other.commands
    }
}

impl Eq for Proposal {}

impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.encoded().map_err(ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Encoded;

        impl Visitor<'_> for Encoded {
            type Value = Proposal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("encoded commands")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Proposal, E> {
                Proposal::decode(Bytes::copy_from_slice(bytes)).map_err(E::custom)
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Proposal, E> {
                Proposal::decode(bytes.into()).map_err(E::custom)
            }
        }

        deserializer.deserialize_bytes(Encoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skyclaw_core::Operation;
    use skyclaw_proto::{JobId, NodeId, Timestamp};

    fn command(id: &str) -> Command {
        Command {
            at: Timestamp::from_millis(1),
            node: NodeId::parse("n").expect("an id"),
            idempotency: None,
            by: None,
            operation: Operation::Cancel { id: JobId::parse(id).expect("an id") },
        }
    }

    #[test]
    fn what_is_read_back_is_what_was_proposed_and_is_encoded_to_the_same_bytes() {
        let proposal = Proposal::new(vec![command("a"), command("b")]);
        let bytes = rmp_serde::to_vec_named(&proposal).expect("encoded");
        let read: Proposal = rmp_serde::from_slice(&bytes).expect("decoded");
        assert_eq!((&read, read.encoded.get()), (&proposal, proposal.encoded.get()));
        assert_eq!(rmp_serde::to_vec_named(&read).expect("encoded again"), bytes);
    }

    #[test]
    fn a_proposal_may_be_appended_once_it_was_encoded_whichever_copy_was() {
        let proposal = Proposal::new(vec![command("a")]);
        let sent = proposal.clone();
        assert!(!proposal.may_be_appended());
        rmp_serde::to_vec_named(&sent).expect("encoded");
        assert!(proposal.may_be_appended());
    }

    #[test]
    fn bytes_that_are_no_commands_are_refused() {
        let bytes = rmp_serde::to_vec_named(serde_bytes::Bytes::new(&[0xc1, 7])).expect("encoded");
        assert!(rmp_serde::from_slice::<Proposal>(&bytes).is_err());
    }
}
