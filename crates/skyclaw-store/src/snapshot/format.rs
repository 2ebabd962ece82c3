//! The form of a snapshot file, without any input or output.
//!
//! ```text
//!   "SkySnap\n"   version: u32   length: u32 │ header: JSON │ database │ BLAKE3 of all before
//!        8             4             4       │   length     │  as told │       32
//! ```
//!
//! Numbers are big-endian. What is read is believed only at the end, when the hash is right; until then
//! no more is kept than the header may have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skyclaw_core::Counters;
use skyclaw_proto::{JobStatus, Timestamp};
use uuid::Uuid;

use crate::batch::Position;

/// What a snapshot begins with.
const MAGIC: &[u8; 8] = b"SkySnap\n";
/// The version of this form. A header may get new fields without a new version.
const VERSION: u32 = 1;
const PREAMBLE_BYTES: usize = 16;
const MAX_HEADER_BYTES: usize = 1024 * 1024;
pub(super) const HASH_BYTES: usize = blake3::OUT_LEN;

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// The cluster it was taken of.
    pub cluster: Uuid,
    /// When.
    pub created_at: Timestamp,
    /// How far in that cluster's log it goes; `None` if nothing had ever happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The numbers that come next there.
    pub counters: Counters,
    /// How many records it has.
    pub counts: Counts,
    /// The size of the database in it.
    pub database_bytes: u64,
}

/// How many records there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Hosts.
    pub hosts: u64,
    /// Services.
    pub services: u64,
    /// Jobs in each state in which there are any.
    pub jobs: BTreeMap<JobStatus, u64>,
}

/// Why something is not taken for a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It does not begin like one.
    #[error("it is no snapshot of a Skyclaw cluster")]
    Foreign,
    /// It was written by a newer version.
    #[error(
        "it was written by a newer version (its format is {found}, this program knows {VERSION}); \
         use that version or a newer one"
    )]
    Newer {
        /// Its version.
        found: u32,
    },
    /// It ends before its end.
    #[error("it is cut short: fetch it again or take another")]
    Truncated,
    /// There is more than there should be.
    #[error("something follows its end: fetch it again or take another")]
    Overlong,
    /// The hash is another.
    #[error("it is damaged: it has not the hash it was written with; fetch it again or take another")]
    Damaged,
    /// Its header makes no sense.
    #[error("its header cannot be read ({0}); fetch it again or take another")]
    Header(String),
}

/// What comes before the database.
pub(super) fn preamble(header: &Header) -> Result<Vec<u8>, serde_json::Error> {
    let json = serde_json::to_vec(header)?;
    // A header has a few hundred bytes and what the log needs to know of a place.
    let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
    Ok([MAGIC, &VERSION.to_be_bytes()[..], &length.to_be_bytes(), &json].concat())
}

/// Takes a snapshot apart as it comes in.
#[derive(Debug)]
pub(super) struct Decoder {
    hasher: blake3::Hasher,
    /// What of the present part is there, where a part is needed as a whole.
    gathered: Vec<u8>,
    header: Option<Header>,
    expected: Expected,
}

#[derive(Debug, Clone, Copy)]
enum Expected {
    Preamble,
    Header { bytes: usize },
    Database { bytes: u64 },
    Hash,
    Nothing,
}

impl Decoder {
    pub(super) fn new() -> Self {
        let hasher = blake3::Hasher::new();
        Self { hasher, gathered: Vec::new(), header: None, expected: Expected::Preamble }
    }

    /// Takes in what comes next, and returns what of it belongs to the database.
    pub(super) fn feed<'a>(&mut self, mut input: &'a [u8]) -> Result<&'a [u8], Fault> {
        let mut database: &[u8] = &[];
        while !input.is_empty() {
            match self.expected {
                Expected::Preamble => {
                    if let Some(preamble) = self.gather(&mut input, PREAMBLE_BYTES) {
                        self.expected = Expected::Header { bytes: header_bytes(&preamble)? };
                        self.hasher.update(&preamble);
                    }
                }
                Expected::Header { bytes } => {
                    if let Some(json) = self.gather(&mut input, bytes) {
                        let header: Header = serde_json::from_slice(&json)
                            .map_err(|error| Fault::Header(error.to_string()))?;
                        self.hasher.update(&json);
                        self.expected = Expected::Database { bytes: header.database_bytes };
                        self.header = Some(header);
                    }
                }
                Expected::Database { bytes: 0 } => self.expected = Expected::Hash,
                Expected::Database { bytes } => {
                    let here = usize::try_from(bytes).map_or(input.len(), |bytes| bytes.min(input.len()));
                    (database, input) = input.split_at(here);
                    self.hasher.update(database);
                    self.expected = Expected::Database { bytes: bytes - here as u64 };
                }
                Expected::Hash => {
                    if let Some(hash) = self.gather(&mut input, HASH_BYTES) {
                        if self.hasher.finalize() != *hash.as_slice() {
                            return Err(Fault::Damaged);
                        }
                        self.expected = Expected::Nothing;
                    }
                }
                Expected::Nothing => return Err(Fault::Overlong),
            }
        }
        Ok(database)
    }

    /// That was all: now it can be believed.
    pub(super) fn finish(self) -> Result<Header, Fault> {
        match (self.expected, self.header) {
            (Expected::Nothing, Some(header)) => Ok(header),
            (Expected::Preamble, _) if !MAGIC.starts_with(&self.gathered[..self.gathered.len().min(8)]) => {
                Err(Fault::Foreign)
            }
            _ => Err(Fault::Truncated),
        }
    }

    /// Takes bytes until there are `wanted`, and then returns them.
    fn gather(&mut self, input: &mut &[u8], wanted: usize) -> Option<Vec<u8>> {
        let missing = wanted.saturating_sub(self.gathered.len()).min(input.len());
        let (taken, rest) = input.split_at(missing);
        self.gathered.extend_from_slice(taken);
        *input = rest;
        (self.gathered.len() >= wanted).then(|| std::mem::take(&mut self.gathered))
    }
}

fn header_bytes(preamble: &[u8]) -> Result<usize, Fault> {
    let number = |at: usize| {
        let bytes = preamble.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        bytes.map(u32::from_be_bytes).ok_or(Fault::Truncated)
    };
    if !preamble.starts_with(MAGIC) {
        return Err(Fault::Foreign);
    }
    let (version, bytes) = (number(8)?, number(12)? as usize);
    if version != VERSION {
        return Err(Fault::Newer { found: version });
    }
    if bytes == 0 || bytes > MAX_HEADER_BYTES {
        return Err(Fault::Header(format!("it would have {bytes} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(database: &[u8]) -> (Header, Vec<u8>) {
        let header = Header {
            cluster: Uuid::from_u128(7),
            created_at: Timestamp::from_millis(5),
            position: Some(Position { index: 9, bytes: vec![0, 255, 1] }),
            counters: Counters {
                next_seq: 3,
                next_version: 4,
                next_fence: 5,
                pruned_to: None,
                own_pruned_to: None,
            },
            counts: Counts { hosts: 1, services: 2, jobs: BTreeMap::from([(JobStatus::Queued, 3)]) },
            database_bytes: database.len() as u64,
        };
        let mut bytes = preamble(&header).expect("a preamble");
        bytes.extend_from_slice(database);
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        (header, bytes)
    }

    fn read(bytes: &[u8], piece: usize) -> Result<(Header, Vec<u8>), Fault> {
        let (mut decoder, mut database) = (Decoder::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            database.extend_from_slice(decoder.feed(piece)?);
        }
        Ok((decoder.finish()?, database))
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_in_whatever_pieces_it_comes(
            database in prop::collection::vec(any::<u8>(), 0..600), piece in 1..700usize,
        ) {
            let (header, bytes) = whole(&database);
            prop_assert_eq!(read(&bytes, piece), Ok((header, database)));
        }

        #[test]
        fn no_flipped_bit_and_no_cut_goes_unseen(
            database in prop::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(), bit in 0..8u32, piece in 1..700usize,
        ) {
            let (_, bytes) = whole(&database);
            let at = at.index(bytes.len());
            prop_assert!(read(&bytes[..at], piece).is_err());
            let mut flipped = bytes;
            flipped[at] ^= 1 << bit;
            prop_assert!(read(&flipped, piece).is_err());
        }
    }

    #[test]
    fn each_fault_is_told_from_the_others() {
        let (_, bytes) = whole(b"database");
        let with = |at: usize, new: &[u8]| {
            let mut bytes = bytes.clone();
            bytes[at..at + new.len()].copy_from_slice(new);
            read(&bytes, 7).err()
        };
        assert_eq!(with(0, b"SQLite"), Some(Fault::Foreign));
        assert_eq!(with(8, &[0, 0, 0, 9]), Some(Fault::Newer { found: 9 }));
        assert!(matches!(with(12, &[255; 4]), Some(Fault::Header(_))));
        assert!(matches!(with(16, b"x"), Some(Fault::Header(_))));
        assert_eq!(with(bytes.len() - 40, b"D"), Some(Fault::Damaged));
        assert_eq!(read(&[&bytes[..], b"x"].concat(), 7), Err(Fault::Overlong));
        assert_eq!(read(&bytes[..bytes.len() - 1], 7), Err(Fault::Truncated));
        assert_eq!(read(b"PK", 7), Err(Fault::Foreign));
        assert_eq!(read(b"", 7), Err(Fault::Truncated));
    }

    /// A file that an operator has kept must be readable for ever.
    #[test]
    fn the_form_does_not_change() {
        let (_, bytes) = whole(b"database");
        let text = String::from_utf8_lossy(&bytes[..bytes.len() - HASH_BYTES]).into_owned();
        let json = "{\"cluster\":\"00000000-0000-0000-0000-000000000007\",\
            \"createdAt\":\"1970-01-01T00:00:00.005Z\",\"position\":{\"index\":9,\"bytes\":[0,255,1]},\
            \"counters\":{\"next_seq\":3,\"next_version\":4,\"next_fence\":5},\
            \"counts\":{\"hosts\":1,\"services\":2,\"jobs\":{\"queued\":3}},\"databaseBytes\":8}";
        let length = char::from(u8::try_from(json.len() - 256).expect("two bytes"));
        assert_eq!(text, format!("SkySnap\n\0\0\0\u{1}\0\0\u{1}{length}{json}database"));
    }
}
