//! Opening a log: what is sound, what was torn, what is damaged.
//!
//! The records are read in the order they were written, for as long as each is valid and names the one before.
//! The first that is not ends the log. If there is evidence that this place had been on disk, it is damage, and
//! the log is not opened and nothing is touched. Evidence is: a segment begun later; a valid record further on that
//! was written when this place was known to be on disk; the anchor of the last open or close; the index that the
//! caller knows to have been there. Without any, it is a write that the power cut off and that was never
//! acknowledged: it is zeroed, durably, before anything new is written behind it.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::cells::{self, Anchor, Cells, Name};
use super::disk::{Disk, DiskFile, read_all, zero_fill};
use super::error::OpenError;
use super::format::{
    ALIGN, FIRST_RECORD, Found, Frame, HEADER_BYTES, Header, Kind, NoHeader, RECORD_HEADER_BYTES, cost,
};
use super::index::{Index, Place};
use super::spares::{self, segment_name, segment_number};
use super::state::Segment;
use super::writer::Tail;

/// A log as found on disk, ready to go on.
pub(super) struct Opened {
    pub(super) cells: Cells,
    pub(super) index: Index,
    pub(super) segments: VecDeque<Segment>,
    pub(super) spares: VecDeque<Segment>,
    pub(super) tail: Tail,
    /// Bytes of a torn write that were cut off.
    pub(super) cut_bytes: u64,
}

/// A segment file and what its first sector says.
struct Candidate {
    segment: Segment,
    header: Option<(Header, u32)>,
}

/// What is to be done to the files once all of them are known to be sound.
#[derive(Default)]
struct Repairs {
    /// Parts to be zeroed.
    zero: Vec<(Arc<dyn DiskFile>, u64, u64)>,
    /// Files to be removed, in this order.
    remove: Vec<String>,
}

/// Opens the log in `disk`, or makes a new one in an empty directory.
pub(super) fn open(
    disk: &dyn Disk,
    segment_bytes: u64,
    must_reach: Option<u64>,
) -> Result<Opened, OpenError> {
    let names = disk.list().map_err(|source| failed("list", disk.path(""), source))?;
    let candidates = candidates(disk, &names)?;
    if !names.iter().any(|name| name == cells::FILE) {
        if !candidates.is_empty() {
            return Err(OpenError::Missing { file: disk.path(cells::FILE) });
        }
        return create(disk, must_reach);
    }
    let cells = Cells::open(disk)?;
    let log = cells.log();
    let anchor = cells.value(Name::Anchor).map_or_else(Anchor::default, |bytes| Anchor::decode(&bytes));
    let begun = candidates.iter().rposition(|one| one.header.is_some()).map_or(0, |last| last + 1);
    let (begun, unbegun) = candidates.split_at(begun);

    let mut repairs = Repairs::default();
    let unfinished = [cells::UNFINISHED, spares::UNFINISHED];
    repairs.remove.extend(names.into_iter().filter(|name| unfinished.contains(&name.as_str())));
    let mut walk = Walk::new(disk, log, anchor, begun);
    // All of them first: a file that does not belong here is not to be reported as damage to another.
    for candidate in begun {
        walk.check_header(candidate)?;
    }
    for candidate in begun {
        walk.segment(candidate, &mut repairs)?;
    }
    let spares = check_spares(disk, log, unbegun, segment_bytes, &mut repairs)?;
    walk.check_end(must_reach)?;
    let cut_bytes = walk.cut_bytes;
    let mut opened = Opened {
        cells,
        index: walk.index,
        segments: begun.iter().map(|one| one.segment.clone()).collect(),
        spares,
        tail: walk.tail,
        cut_bytes,
    };
    repairs.carry_out(disk).map_err(|source| failed("repair", disk.path(""), source))?;
    opened.settle(disk).map_err(|source| failed("sync", disk.path(""), source))?;
    opened.set_running().map_err(|source| failed("write", disk.path(cells::FILE), source))?;
    Ok(opened)
}

impl Opened {
    /// What was read may be in the memory of the system only, when a process died rather than the machine.
    fn settle(&self, disk: &dyn Disk) -> io::Result<()> {
        self.cells.settle()?;
        if let Some(segment) = &self.tail.segment {
            segment.file.sync()?;
        }
        disk.sync_dir()
    }

    /// From here on the log need not end where it does, but it has to reach so far.
    fn set_running(&mut self) -> io::Result<()> {
        self.cells.save(Name::Anchor, self.tail.anchor(false).encode())
    }
}

impl Repairs {
    fn carry_out(&self, disk: &dyn Disk) -> io::Result<()> {
        for (file, from, to) in &self.zero {
            zero_fill(file.as_ref(), *from, *to)?;
        }
        for name in &self.remove {
            disk.remove(name)?;
            disk.sync_dir()?;
        }
        Ok(())
    }
}

/// A new log. A directory that is known to have held one is not taken for a new one.
fn create(disk: &dyn Disk, must_reach: Option<u64>) -> Result<Opened, OpenError> {
    if let Some(must_reach) = must_reach {
        return Err(OpenError::Short { dir: disk.path(""), must_reach });
    }
    let cells = Cells::create(disk).map_err(|source| failed("create", disk.path(cells::FILE), source))?;
    Ok(Opened {
        cells,
        index: Index::default(),
        segments: VecDeque::new(),
        spares: VecDeque::new(),
        tail: Tail::default(),
        cut_bytes: 0,
    })
}

/// All segment files in order, without a gap.
fn candidates(disk: &dyn Disk, names: &[String]) -> Result<Vec<Candidate>, OpenError> {
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    if let Some(gap) = numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        return Err(OpenError::Missing { file: disk.path(&segment_name(gap[0] + 1)) });
    }
    numbers.into_iter().map(|number| candidate(disk, number)).collect()
}

fn candidate(disk: &dyn Disk, number: u64) -> Result<Candidate, OpenError> {
    let path = || disk.path(&segment_name(number));
    let read = || {
        let file = disk.open(&segment_name(number))?;
        let size = file.size()?;
        let mut bytes = vec![0; HEADER_BYTES.min(usize::try_from(size).unwrap_or(HEADER_BYTES))];
        file.read_at(&mut bytes, 0)?;
        Ok((Segment { number, size, file }, bytes))
    };
    let (segment, bytes) = read().map_err(|source| failed("read", path(), source))?;
    match Header::decode(&bytes) {
        Ok(header) => Ok(Candidate { segment, header: Some(header) }),
        Err(NoHeader::Invalid) => Ok(Candidate { segment, header: None }),
        Err(NoHeader::Newer(version)) => Err(OpenError::Newer { file: path(), version }),
    }
}

/// The segments behind the last begun one: spares, of which at most the first can have a torn beginning.
fn check_spares(
    disk: &dyn Disk,
    log: u64,
    unbegun: &[Candidate],
    segment_bytes: u64,
    repairs: &mut Repairs,
) -> Result<VecDeque<Segment>, OpenError> {
    let mut spares = VecDeque::new();
    let mut unfit = Vec::new();
    for Candidate { segment, .. } in unbegun {
        let name = segment_name(segment.number);
        let bytes =
            read_all(segment.file.as_ref()).map_err(|source| failed("read", disk.path(&name), source))?;
        let frame = Frame { log, segment: segment.number };
        if known_durable(&bytes, frame, 0) > 0 {
            return Err(damaged(disk, segment.number, 0, "the header is not valid"));
        }
        if segment.size != segment_bytes || !unfit.is_empty() {
            unfit.push(name);
            continue;
        }
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            repairs.zero.push((segment.file.clone(), 0, last as u64 + 1));
        }
        spares.push_back(segment.clone());
    }
    // The last first, so that no crash leaves a gap.
    repairs.remove.extend(unfit.into_iter().rev());
    Ok(spares)
}

/// The way through the begun segments.
struct Walk<'a> {
    disk: &'a dyn Disk,
    log: u64,
    anchor: Anchor,
    begun: &'a [Candidate],
    index: Index,
    tail: Tail,
    cut_bytes: u64,
}

impl<'a> Walk<'a> {
    fn new(disk: &'a dyn Disk, log: u64, anchor: Anchor, begun: &'a [Candidate]) -> Self {
        let next =
            begun.first().and_then(|one| one.header.as_ref()).map_or(0, |(header, _)| header.next_index);
        Self {
            disk,
            log,
            anchor,
            begun,
            index: Index::starting_at(next),
            tail: Tail::default(),
            cut_bytes: 0,
        }
    }

    fn segment(&mut self, candidate: &Candidate, repairs: &mut Repairs) -> Result<(), OpenError> {
        let segment = &candidate.segment;
        let header_crc = self.check_header(candidate)?;
        let path = || self.disk.path(&segment_name(segment.number));
        let bytes = read_all(segment.file.as_ref()).map_err(|source| failed("read", path(), source))?;
        self.tail = Tail { segment: Some(segment.clone()), end: FIRST_RECORD, crc: header_crc };
        self.records(&bytes, segment.number)?;

        let end = self.tail.end;
        let following = self.begun.iter().find(|one| one.segment.number == segment.number + 1);
        let following = following.and_then(|one| one.header.as_ref());
        let frame = Frame { log: self.log, segment: segment.number };
        let known = match following {
            Some((header, _)) => header.before_end,
            None => known_durable(&bytes, frame, end),
        };
        let anchored = if self.anchor.segment == segment.number { self.anchor.end } else { 0 };
        if known.max(anchored) > end {
            return Err(damaged(self.disk, segment.number, end, "a record that was on disk is not valid"));
        }
        match following {
            Some((header, _)) if (header.before_end, header.before_crc) != (end, self.tail.crc) => Err(
                damaged(self.disk, segment.number, end, "the records do not end as the next segment says"),
            ),
            Some(_) => Ok(()),
            None => {
                if let Some(last) = behind(&bytes, end).iter().rposition(|byte| *byte != 0) {
                    self.cut_bytes = last as u64 + 1;
                    repairs.zero.push((segment.file.clone(), end, end + self.cut_bytes));
                }
                Ok(())
            }
        }
    }

    fn check_header(&self, candidate: &Candidate) -> Result<u32, OpenError> {
        let number = candidate.segment.number;
        let bad = |detail: &str| Err(damaged(self.disk, number, 0, detail));
        let Some((header, crc)) = &candidate.header else { return bad("the header is not valid") };
        if header.frame.log != self.log {
            return Err(OpenError::Foreign { file: self.disk.path(&segment_name(number)) });
        }
        if header.frame.segment != number {
            return bad(&format!("the file is that of segment {}", segment_name(header.frame.segment)));
        }
        if header.size != candidate.segment.size {
            return bad(&format!("the file has {} bytes instead of {}", candidate.segment.size, header.size));
        }
        Ok(*crc)
    }

    /// Follows the records of a segment for as long as they are valid.
    fn records(&mut self, bytes: &[u8], number: u64) -> Result<(), OpenError> {
        let frame = Frame { log: self.log, segment: number };
        loop {
            let rest = usize::try_from(self.tail.end).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
            let found =
                Found::decode(rest, frame, self.tail.end).filter(|found| found.before == self.tail.crc);
            let Some(found) = found else { return Ok(()) };
            match found.kind {
                Kind::Entry if found.index != self.index.next() => {
                    let detail = format!("entry {} stands where {} is due", found.index, self.index.next());
                    return Err(damaged(self.disk, number, self.tail.end, &detail));
                }
                Kind::Entry => self.index.push(Place {
                    segment: number,
                    offset: self.tail.end,
                    payload_bytes: u32::try_from(found.payload.len()).unwrap_or(u32::MAX),
                }),
                Kind::Truncate => self.index.truncate(found.index),
                Kind::Purge => self.index.purge(found.index, Bytes::copy_from_slice(found.payload)),
            }
            self.tail.end += cost(found.payload.len());
            self.tail.crc = found.crc;
            // A durable anchor inside this segment must lie on the chain.
            if self.anchored_at(number) && self.tail.crc != self.anchor.crc {
                return Err(damaged(
                    self.disk,
                    number,
                    self.tail.end,
                    "the records are not those of the last start",
                ));
            }
        }
    }

    fn anchored_at(&self, number: u64) -> bool {
        self.anchor.segment == number && self.anchor.end == self.tail.end && self.anchor.end > FIRST_RECORD
    }

    fn check_end(&self, must_reach: Option<u64>) -> Result<(), OpenError> {
        let last = self.tail.segment.as_ref().map_or(0, |segment| segment.number);
        if last < self.anchor.segment {
            return Err(OpenError::Missing { file: self.disk.path(&segment_name(self.anchor.segment)) });
        }
        let anchor = self.tail.anchor(true);
        if self.anchor.clean && self.anchor != anchor {
            return Err(damaged(
                self.disk,
                last,
                self.tail.end,
                "the log goes on behind its end at shutdown",
            ));
        }
        if self.index.first() != self.index.lowest() {
            let first = self.begun.first().map_or(1, |one| one.segment.number);
            return Err(OpenError::Missing { file: self.disk.path(&segment_name(first.saturating_sub(1))) });
        }
        match must_reach {
            Some(must_reach) if self.index.next() <= must_reach => {
                Err(OpenError::Short { dir: self.disk.path(""), must_reach })
            }
            _ => Ok(()),
        }
    }
}

/// The furthest offset that any valid record at or behind `from` knows to have been on disk.
fn known_durable(bytes: &[u8], frame: Frame, from: u64) -> u64 {
    let mut known = 0;
    let mut at = from.max(FIRST_RECORD);
    loop {
        let rest = behind(bytes, at);
        match Found::decode(rest, frame, at) {
            Some(found) => {
                known = known.max(found.durable);
                at += cost(found.payload.len());
            }
            None if rest.len() < RECORD_HEADER_BYTES => return known,
            None => at += ALIGN as u64,
        }
    }
}

/// The bytes from `at` on.
fn behind(bytes: &[u8], at: u64) -> &[u8] {
    usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default()
}

fn damaged(disk: &dyn Disk, segment: u64, offset: u64, detail: &str) -> OpenError {
    OpenError::Damaged { file: disk.path(&segment_name(segment)), offset, detail: detail.to_owned() }
}

fn failed(action: &'static str, path: PathBuf, source: io::Error) -> OpenError {
    OpenError::Io { action, path, source }
}
