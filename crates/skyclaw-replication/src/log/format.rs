//! The bytes of a segment file: a header in a sector of its own, then records, then zeros.
//!
//! What always holds:
//! - A record is valid only where it was written: its checksum covers the log, the segment and the offset.
//!   A payload that happens to contain the bytes of a record is never taken for one.
//! - Records form a chain: each names the checksum of the one before it, the first of a segment that of the
//!   segment's header, and the header that of the last record of the segment before.
//! - All integers are little endian; everything starts at a multiple of [`ALIGN`].
//!
//! The layout of version 1 is frozen by the fixtures in the tests below; a change is a new version.

/// Where the first record of a segment starts, in bytes. The header has this sector for itself, so that a torn
/// write of the first record cannot touch it.
pub(super) const FIRST_RECORD: u64 = 512;
/// Bytes of a segment header that are in use.
pub(super) const HEADER_BYTES: usize = 64;
/// Bytes of a record before its payload.
pub(super) const RECORD_HEADER_BYTES: usize = 32;
/// Records start at multiples of this many bytes.
pub(super) const ALIGN: usize = 8;
const MAGIC: [u8; 8] = *b"SKYLOG\0\x01";
const VERSION: u32 = 1;

/// Which log and which segment of it: what every checksum in a segment file is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) log: u64,
    pub(super) segment: u64,
}

/// What a segment says about itself and about the end of the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) frame: Frame,
    /// Length of the file in bytes.
    pub(super) size: u64,
    /// The index that would have been appended next when the segment was begun.
    pub(super) next_index: u64,
    /// Where the records of the segment before end, and the checksum of its last one; zeros in the first.
    pub(super) before_end: u64,
    pub(super) before_crc: u32,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// Zeros, or what a torn write or damage leaves.
    Invalid,
    /// A sound header of a version that this program does not know.
    Newer(u32),
}

/// What a record does to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// The payload becomes the entry at the index.
    Entry = 1,
    /// All entries from the index on are gone.
    Truncate = 2,
    /// All entries up to and with the index are gone; the payload is the caller's mark.
    Purge = 3,
}

/// A record to be written.
pub(super) struct Draft<'a> {
    pub(super) kind: Kind,
    pub(super) index: u64,
    /// Checksum of the record (or header) before.
    pub(super) before: u32,
    /// All bytes of the segment below this offset were known to be on disk when the record was written.
    pub(super) durable: u64,
    pub(super) payload: &'a [u8],
}

/// A valid record as found in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) kind: Kind,
    pub(super) index: u64,
    pub(super) before: u32,
    pub(super) durable: u64,
    pub(super) crc: u32,
    pub(super) payload: &'a [u8],
}

/// Bytes that a record with so long a payload takes in a segment.
pub(super) const fn cost(payload_bytes: usize) -> u64 {
    (RECORD_HEADER_BYTES + payload_bytes).next_multiple_of(ALIGN) as u64
}

impl Header {
    /// The header's bytes and its checksum.
    pub(super) fn encode(&self) -> ([u8; HEADER_BYTES], u32) {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.frame.log.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.frame.segment.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.size.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.next_index.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.before_end.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.before_crc.to_le_bytes());
        let crc = header_crc(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        (bytes, crc)
    }

    /// The header at the start of `bytes`, and its checksum.
    ///
    /// # Errors
    /// [`NoHeader`]: what is there instead.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, u32), NoHeader> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else { return Err(NoHeader::Invalid) };
        let crc = u32_at(bytes, 12);
        if bytes[0..8] != MAGIC || crc != header_crc(bytes) {
            return Err(NoHeader::Invalid);
        }
        let version = u32_at(bytes, 8);
        if version > VERSION {
            return Err(NoHeader::Newer(version));
        }
        let header = Self {
            frame: Frame { log: u64_at(bytes, 16), segment: u64_at(bytes, 24) },
            size: u64_at(bytes, 32),
            next_index: u64_at(bytes, 40),
            before_end: u64_at(bytes, 48),
            before_crc: u32_at(bytes, 56),
        };
        Ok((header, crc))
    }
}

impl Draft<'_> {
    /// Adds the record's bytes, padding included, to `out` as those of `offset` in the segment of `frame`;
    /// returns its checksum.
    pub(super) fn encode(&self, frame: Frame, offset: u64, out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        // A payload is at most `Options::max_record_bytes`, which is checked to fit.
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.before.to_le_bytes());
        out.extend_from_slice(&[self.kind as u8, 0, 0, 0]);
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&self.durable.to_le_bytes());
        out.extend_from_slice(self.payload);
        let crc = record_crc(frame, offset, &out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        out.resize(out.len().next_multiple_of(ALIGN), 0);
        crc
    }
}

impl<'a> Found<'a> {
    /// The record at the start of `bytes`, which are those of `offset` in the segment of `frame`.
    pub(super) fn decode(bytes: &'a [u8], frame: Frame, offset: u64) -> Option<Self> {
        let header = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
        let kind = match header[12..16] {
            [1, 0, 0, 0] => Kind::Entry,
            [2, 0, 0, 0] => Kind::Truncate,
            [3, 0, 0, 0] => Kind::Purge,
            _ => return None,
        };
        let durable = u64_at(header, 24);
        let end = RECORD_HEADER_BYTES.checked_add(usize::try_from(u32_at(header, 4)).ok()?)?;
        // Cheap tests first: recovery tries this at every place of a torn tail.
        let body = bytes.get(4..end).filter(|_| durable <= offset)?;
        let crc = u32_at(header, 0);
        if crc != record_crc(frame, offset, body) {
            return None;
        }
        let payload = &bytes[RECORD_HEADER_BYTES..end];
        Some(Self { kind, index: u64_at(header, 16), before: u32_at(header, 8), durable, crc, payload })
    }
}

fn header_crc(bytes: &[u8; HEADER_BYTES]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..12]);
    crc.update(&bytes[16..]);
    crc.finalize()
}

fn record_crc(frame: Frame, offset: u64, body: &[u8]) -> u32 {
    let mut place = [0; 24];
    place[0..8].copy_from_slice(&frame.log.to_le_bytes());
    place[8..16].copy_from_slice(&frame.segment.to_le_bytes());
    place[16..24].copy_from_slice(&offset.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&place);
    crc.update(body);
    crc.finalize()
}

/// The integer at `at`, which the caller knows to be inside.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

/// The integer at `at`, which the caller knows to be inside.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame = Frame { log: 0x0123_4567_89ab_cdef, segment: 7 };

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_header_of_version_1_is_frozen() {
        let header =
            Header { frame: FRAME, size: 1 << 24, next_index: 42, before_end: 4096, before_crc: 0xdead_beef };
        let (bytes, crc) = header.encode();
        assert_eq!(
            hex(&bytes),
            "534b594c4f47000101000000642d2707efcdab896745230107000000000000000000000100000000\
             2a000000000000000010000000000000efbeadde00000000"
        );
        assert_eq!(Header::decode(&bytes), Ok((header, crc)));
    }

    #[test]
    fn the_records_of_version_1_are_frozen() {
        let mut out = Vec::new();
        let entry =
            Draft { kind: Kind::Entry, index: 42, before: 0xdead_beef, durable: 512, payload: b"hello" };
        let first = entry.encode(FRAME, 512, &mut out);
        let truncate = Draft { kind: Kind::Truncate, index: 41, before: first, durable: 552, payload: b"" };
        let second = truncate.encode(FRAME, 552, &mut out);
        let purge = Draft { kind: Kind::Purge, index: 40, before: second, durable: 552, payload: b"mark" };
        purge.encode(FRAME, 584, &mut out);
        assert_eq!(
            hex(&out),
            "4dd88ab105000000efbeadde010000002a00000000000000000200000000000068656c6c6f000000\
             18af3d15000000004dd88ab10200000029000000000000002802000000000000\
             6c9f504e0400000018af3d1503000000280000000000000028020000000000006d61726b00000000"
        );
        let found = Found::decode(&out, FRAME, 512).expect("the first record");
        assert_eq!((found.kind, found.index, found.payload), (Kind::Entry, 42, &b"hello"[..]));
        assert_eq!(cost(5), 40);
    }

    #[test]
    fn any_flipped_bit_and_any_other_place_make_a_record_invalid() {
        let mut out = Vec::new();
        Draft { kind: Kind::Entry, index: 1, before: 2, durable: 3, payload: b"abc" }
            .encode(FRAME, 512, &mut out);
        assert!(Found::decode(&out, FRAME, 512).is_some());
        assert!(Found::decode(&out, FRAME, 520).is_none());
        assert!(Found::decode(&out, Frame { segment: 8, ..FRAME }, 512).is_none());
        assert!(Found::decode(&out, Frame { log: 1, ..FRAME }, 512).is_none());
        for bit in 0..(RECORD_HEADER_BYTES + 3) * 8 {
            out[bit / 8] ^= 1 << (bit % 8);
            assert!(Found::decode(&out, FRAME, 512).is_none(), "bit {bit}");
            out[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let header = Header { frame: FRAME, size: 1, next_index: 0, before_end: 0, before_crc: 0 };
        let (mut bytes, _) = header.encode();
        bytes[8] = 2;
        assert_eq!(Header::decode(&bytes), Err(NoHeader::Invalid));
        let crc = header_crc(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&bytes), Err(NoHeader::Newer(2)));
    }
}
