//! Small durable values that are replaced rather than appended: the anchor of the log, the caller's vote, the
//! caller's committed index.
//!
//! One preallocated file, so that a save needs no room on the disk. Each cell has two slots with a sequence
//! number and a checksum. A save first goes to the slot that does not hold the newest durable value, is made
//! durable there, and is then copied to the other: a torn write costs the new value only, and damage to one
//! slot costs nothing once the copy is on disk. Both slots are valid from the moment the file exists.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::{Disk, DiskFile, read_all};
use super::error::OpenError;
use super::format::{u32_at, u64_at};

/// The file.
pub(super) const FILE: &str = "cells";
/// Its name until it is complete.
pub(super) const UNFINISHED: &str = "cells.new";
const MAGIC: [u8; 8] = *b"SKYCELL\x01";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;
const SLOT_HEADER_BYTES: usize = 16;
/// A slot has a block for itself, so that no write touches two of them.
const SLOT_BYTES: usize = 4096;
const CELLS: usize = 3;
const FILE_BYTES: usize = SLOT_BYTES * (1 + 2 * CELLS);

/// The largest value, in bytes.
pub(super) const MAX_VALUE_BYTES: usize = 1024;

/// Which value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Anchor = 0,
    Vote = 1,
    Committed = 2,
}

/// How far the log was known to reach, when it was opened or closed last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Anchor {
    /// Whether the log was closed there: then it must end exactly there.
    pub(super) clean: bool,
    /// Number of the segment, 0 for a log without any.
    pub(super) segment: u64,
    /// Where its records ended, and the checksum of the last.
    pub(super) end: u64,
    pub(super) crc: u32,
}

/// The open file and what it holds.
pub(super) struct Cells {
    file: Arc<dyn DiskFile>,
    log: u64,
    cells: [Cell; CELLS],
}

#[derive(Clone, Debug, Default)]
struct Cell {
    sequence: u64,
    value: Bytes,
    /// The slot that holds the newest durable value.
    slot: usize,
}

impl Anchor {
    pub(super) fn encode(self) -> Bytes {
        let mut bytes = vec![u8::from(self.clean)];
        bytes.extend_from_slice(&self.segment.to_le_bytes());
        bytes.extend_from_slice(&self.end.to_le_bytes());
        bytes.extend_from_slice(&self.crc.to_le_bytes());
        bytes.into()
    }

    /// The anchor of a cell; the default for a cell that was never saved.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        if bytes.len() != 21 {
            return Self::default();
        }
        Self {
            clean: bytes[0] == 1,
            segment: u64_at(bytes, 1),
            end: u64_at(bytes, 9),
            crc: u32_at(bytes, 17),
        }
    }
}

impl Cells {
    /// Makes the file of a new log. The log exists from the moment this returns.
    pub(super) fn create(disk: &dyn Disk) -> io::Result<Self> {
        let log = disk.fresh_id();
        let file = disk.create(UNFINISHED, FILE_BYTES as u64)?;
        let mut bytes = vec![0; FILE_BYTES];
        bytes[..HEADER_BYTES].copy_from_slice(&encode_header(log));
        for name in 0..CELLS {
            let slot = encode_slot(log, name, &Cell::default());
            for nth in 0..2 {
                let at = slot_offset(name, nth);
                bytes[at..at + slot.len()].copy_from_slice(&slot);
            }
        }
        file.write_at(&bytes, 0)?;
        file.sync()?;
        disk.rename(UNFINISHED, FILE)?;
        disk.sync_dir()?;
        Ok(Self { file, log, cells: Default::default() })
    }

    /// Reads the file of an existing log; writes nothing.
    ///
    /// # Errors
    /// `Damaged` when the header or both slots of a cell that matters are not valid, `Newer`, `Io`.
    pub(super) fn open(disk: &dyn Disk) -> Result<Self, OpenError> {
        let path = disk.path(FILE);
        let failed = |source| OpenError::Io { action: "read", path: path.clone(), source };
        let file = disk.open(FILE).map_err(failed)?;
        let bytes = read_all(file.as_ref()).map_err(failed)?;
        let damaged = |offset: usize, detail: &str| OpenError::Damaged {
            file: path.clone(),
            offset: offset as u64,
            detail: detail.to_owned(),
        };
        if bytes.len() != FILE_BYTES {
            return Err(damaged(bytes.len().min(FILE_BYTES), "the file has not the length it was made with"));
        }
        if bytes[0..8] != MAGIC || u32_at(&bytes, 12) != header_crc(&bytes) {
            return Err(damaged(0, "the header is not valid"));
        }
        let version = u32_at(&bytes, 8);
        if version > VERSION {
            return Err(OpenError::Newer { file: path, version });
        }
        let log = u64_at(&bytes, 16);
        let mut cells: [Cell; CELLS] = Default::default();
        for (name, cell) in cells.iter_mut().enumerate() {
            let slots = [0, 1].map(|slot| decode_slot(&bytes, log, name, slot));
            match slots.into_iter().flatten().max_by_key(|slot| slot.sequence) {
                Some(newest) => *cell = newest,
                // A hint is never made durable, so a crash can tear both of its slots.
                None if name == Name::Committed as usize => {}
                None => return Err(damaged(slot_offset(name, 0), "neither copy of a saved value is valid")),
            }
        }
        Ok(Self { file, log, cells })
    }

    /// The id that all files of the log share.
    pub(super) fn log(&self) -> u64 {
        self.log
    }

    /// The newest value, if one was ever saved.
    pub(super) fn value(&self, name: Name) -> Option<Bytes> {
        let cell = &self.cells[name as usize];
        (cell.sequence > 0).then(|| cell.value.clone())
    }

    /// Makes durable what was read. The slots of a cell may only be overwritten in turn when the other is.
    pub(super) fn settle(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// Replaces a value, durably but for [`Name::Committed`], which is a hint and waits for no disk.
    pub(super) fn save(&mut self, name: Name, value: Bytes) -> io::Result<()> {
        let nth = name as usize;
        let cell = &mut self.cells[nth];
        let other = 1 - cell.slot;
        let new = Cell { sequence: cell.sequence + 1, value, slot: other };
        let bytes = encode_slot(self.log, nth, &new);
        self.file.write_at(&bytes, slot_offset(nth, other) as u64)?;
        if name != Name::Committed {
            self.file.sync()?;
            // The copy reaches the disk by and by; until then the durable slot is the other one.
            self.file.write_at(&bytes, slot_offset(nth, 1 - other) as u64)?;
        }
        self.cells[nth] = new;
        Ok(())
    }
}

fn slot_offset(name: usize, slot: usize) -> usize {
    SLOT_BYTES * (1 + 2 * name + slot)
}

fn encode_header(log: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[0..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&log.to_le_bytes());
    let crc = header_crc(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn header_crc(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..12]);
    crc.update(&bytes[16..HEADER_BYTES]);
    crc.finalize()
}

/// `crc u32, length u32, sequence u64, value`.
fn encode_slot(log: u64, name: usize, cell: &Cell) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&u32::try_from(cell.value.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&cell.sequence.to_le_bytes());
    bytes.extend_from_slice(&cell.value);
    let crc = slot_crc(log, name, &bytes[4..]);
    bytes[0..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode_slot(file: &[u8], log: u64, name: usize, slot: usize) -> Option<Cell> {
    let at = slot_offset(name, slot);
    let bytes = file.get(at..at + SLOT_BYTES)?;
    let end = SLOT_HEADER_BYTES + usize::try_from(u32_at(bytes, 4)).ok()?;
    let body = bytes.get(4..end)?;
    (u32_at(bytes, 0) == slot_crc(log, name, body)).then(|| Cell {
        sequence: u64_at(bytes, 8),
        value: Bytes::copy_from_slice(&bytes[SLOT_HEADER_BYTES..end]),
        slot,
    })
}

fn slot_crc(log: u64, name: usize, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&log.to_le_bytes());
    crc.update(&(name as u64).to_le_bytes());
    crc.update(body);
    crc.finalize()
}
