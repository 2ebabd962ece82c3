//! What an entry of the log carries.
//!
//! A command is encoded once, where it is taken in, and decoded once on each other node: from then on its bytes go along
//! with it, to the leader, into the log and on to other nodes. Whoever puts an entry together, which everybody waits for, only
//! copies.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use skyclaw_core::Command;

use crate::error::WriteError;

/// About what a small command has: a buffer that grows while it is written is copied each time.
const TYPICAL_BYTES: usize = 384;
/// Most bytes that say how many commands follow.
const HEAD_BYTES: usize = 5;

/// A command as it goes into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packed {
    command: Command,
    bytes: Bytes,
}

impl Packed {
    /// # Errors
    /// When it cannot be encoded; nothing was proposed.
    pub(crate) fn new(command: Command) -> Result<Self, WriteError> {
        let mut bytes = Vec::with_capacity(TYPICAL_BYTES);
        rmp_serde::encode::write_named(&mut bytes, &command)
            .map_err(|error| WriteError::Storage(format!("the command cannot be encoded: {error}")))?;
        Ok(Self { command, bytes: bytes.into() })
    }

    /// The same once more, from what [`Self::bytes`] gave: cheaper than to keep a copy that is hardly ever needed.
    ///
    /// # Errors
    /// When these are no bytes of a command.
    pub(crate) fn again(bytes: Bytes) -> Result<Self, WriteError> {
        let command = rmp_serde::from_slice(&bytes)
            .map_err(|error| WriteError::Storage(format!("the command cannot be decoded: {error}")))?;
        Ok(Self { command, bytes })
    }

    pub(crate) fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    pub(crate) fn command(&self) -> &Command {
        &self.command
    }

    /// How much of an entry it takes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// The commands that were waiting when the entry was made. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Proposal {
    commands: Arc<Vec<Command>>,
    encoded: Bytes,
    /// Whether it was put into a log.
    appended: Arc<AtomicBool>,
}

impl Proposal {
    pub(crate) fn new(packed: Vec<Packed>) -> Self {
        let size: usize = packed.iter().map(Packed::size).sum();
        let mut encoded = Vec::with_capacity(HEAD_BYTES + size);
        let mut commands = Vec::with_capacity(packed.len());
        let many = u32::try_from(packed.len()).unwrap_or(u32::MAX);
        // What is written into memory is written.
        rmp::encode::write_array_len(&mut encoded, many).ok();
        for Packed { command, bytes } in packed {
            encoded.extend_from_slice(&bytes);
            commands.push(command);
        }
        Self { commands: Arc::new(commands), encoded: encoded.into(), appended: Arc::default() }
    }

    /// Whether it may lie in a log.
    pub(crate) fn may_be_appended(&self) -> bool {
        self.appended.load(Ordering::Relaxed)
    }

    pub(crate) fn commands(&self) -> &Arc<Vec<Command>> {
        &self.commands
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
        self.appended.store(true, Ordering::Relaxed);
        serializer.serialize_bytes(&self.encoded)
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (commands, encoded) = deserializer.deserialize_bytes(Encoded(std::marker::PhantomData))?;
        Ok(Self { commands: Arc::new(commands), encoded, appended: Arc::new(AtomicBool::new(true)) })
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (command, bytes) = deserializer.deserialize_bytes(Encoded(std::marker::PhantomData))?;
        Ok(Self { command, bytes })
    }
}

/// Takes what is encoded within, and its bytes.
struct Encoded<T>(std::marker::PhantomData<T>);

impl<T: DeserializeOwned> Visitor<'_> for Encoded<T> {
    type Value = (T, Bytes);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something encoded")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<(T, Bytes), E> {
        Ok((rmp_serde::from_slice(bytes).map_err(E::custom)?, Bytes::copy_from_slice(bytes)))
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<(T, Bytes), E> {
        Ok((rmp_serde::from_slice(&bytes).map_err(E::custom)?, bytes.into()))
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

    fn packed(id: &str) -> Packed {
        Packed::new(command(id)).expect("it can be encoded")
    }

    #[test]
    fn what_is_read_back_is_what_was_proposed_and_is_encoded_to_the_same_bytes() {
        let proposal = Proposal::new(vec![packed("a"), packed("b")]);
        let bytes = rmp_serde::to_vec_named(&proposal).expect("encoded");
        let read: Proposal = rmp_serde::from_slice(&bytes).expect("decoded");
        assert_eq!((&read, &read.encoded), (&proposal, &proposal.encoded));
        assert_eq!(rmp_serde::to_vec_named(&read).expect("encoded again"), bytes);
        let sent = rmp_serde::to_vec_named(&packed("a")).expect("encoded");
        assert_eq!(rmp_serde::from_slice::<Packed>(&sent).expect("decoded"), packed("a"));
        assert_eq!(Packed::again(packed("a").bytes()).expect("decoded"), packed("a"));
    }

    #[test]
    fn however_many_were_packed_one_by_one_they_are_encoded_as_all_at_once() {
        for many in [0, 1, 15, 16, 255, 256, 65_535, 65_536] {
            let proposal = Proposal::new(vec![packed("a"); many]);
            assert_eq!(proposal.encoded, rmp_serde::to_vec_named(&*proposal.commands).expect("encoded"));
        }
    }

    #[test]
    fn a_proposal_may_be_appended_once_it_was_encoded_whichever_copy_was() {
        let proposal = Proposal::new(vec![packed("a")]);
        let sent = proposal.clone();
        assert!(!proposal.may_be_appended());
        rmp_serde::to_vec_named(&sent).expect("encoded");
        assert!(proposal.may_be_appended());
    }

    #[test]
    fn bytes_that_are_no_commands_are_refused() {
        let bytes = rmp_serde::to_vec_named(serde_bytes::Bytes::new(&[0xc1, 7])).expect("encoded");
        assert!(rmp_serde::from_slice::<Proposal>(&bytes).is_err());
        assert!(rmp_serde::from_slice::<Packed>(&bytes).is_err());
    }
}
