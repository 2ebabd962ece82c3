//! What was on disk and is not any more what it was is reported, with the file and what to do, and nothing is
//! touched; what was never acknowledged is cut off.

use std::collections::BTreeMap;
use std::fs;

use tempfile::TempDir;

use super::*;
use crate::log::spares::segment_name;

const ENTRIES: u64 = 40;
/// With its header a multiple of eight: no byte of a segment is padding.
const PAYLOAD_BYTES: usize = 200;

type Files = BTreeMap<String, Vec<u8>>;

/// A directory that is filled with files anew for each case.
struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    fn open(&self, files: &Files, must_reach: Option<u64>) -> Result<(Log, Recovered), OpenError> {
        for name in read_files(self.dir.path()).keys() {
            fs::remove_file(self.dir.path().join(name)).expect("a file of the case before");
        }
        for (name, bytes) in files {
            fs::write(self.dir.path().join(name), bytes).expect("room");
        }
        Log::open(self.dir.path(), SMALL, must_reach)
    }

    /// The error of opening these files, which must all be left as they are.
    fn refusal(&self, case: &str, files: &Files) -> OpenError {
        let error = match self.open(files, None) {
            Ok((log, recovered)) => {
                log.close().expect("a sound log");
                panic!("{case}: opened with {recovered:?}")
            }
            Err(error) => error,
        };
        assert!(read_files(self.dir.path()) == *files, "{case}: files were changed");
        error
    }

    fn opens(&self, files: &Files, must_reach: Option<u64>) -> (Vec<Record>, Recovered) {
        let (log, recovered) = self.open(files, must_reach).expect("a sound log");
        let records = everything(&log);
        log.close().expect("a sound log");
        (records, recovered)
    }
}

fn read_files(dir: &Path) -> Files {
    let entries = fs::read_dir(dir).expect("the directory").map(|entry| entry.expect("an entry").path());
    entries.map(|path| (name(&path), fs::read(&path).expect("a file"))).collect()
}

fn name(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).expect("a name of ours").to_owned()
}

/// The files of a log of three segments, each entry a batch of its own: as they are while it is open, and after
/// it was closed.
fn sample() -> (Files, Files) {
    grown(&Files::new(), 0..ENTRIES, 1)
}

/// What these files become, open and closed, when entries are appended. `seed` goes into their payloads.
fn grown(files: &Files, range: Range<u64>, seed: u8) -> (Files, Files) {
    let bench = Bench::new();
    let (log, _) = bench.open(files, None).expect("a sound log");
    for vote in ["first", "second"] {
        save(&log, Cell::Vote, vote).expect("saved");
    }
    for index in range {
        append(&log, vec![entry(index, seed)]).expect("room");
        wait_until("spares are ready", || log.inner.shared.lock().spares.len() == 2);
    }
    let open = read_files(bench.dir.path());
    log.close().expect("a sound log");
    (open, read_files(bench.dir.path()))
}

fn entry(index: u64, seed: u8) -> Record {
    let mut payload = vec![seed; PAYLOAD_BYTES];
    payload[0] = u8::try_from(index).expect("few entries");
    record(index, payload)
}

fn entries(range: Range<u64>) -> Vec<Record> {
    range.map(|index| entry(index, 1)).collect()
}

fn at(nth: usize) -> usize {
    512 + nth * (32 + PAYLOAD_BYTES)
}

fn changed(files: &Files, segment: u64, change: impl FnOnce(&mut Vec<u8>)) -> Files {
    let mut files = files.clone();
    change(files.get_mut(&segment_name(segment)).expect("a segment"));
    files
}

#[test]
fn any_byte_of_a_closed_log_that_is_not_what_it_was_is_noticed() {
    let (_, closed) = sample();
    let bench = Bench::new();
    assert_eq!(bench.opens(&closed, None).0, entries(0..ENTRIES));
    let per_segment = (4096 - 512) / (32 + PAYLOAD_BYTES);
    for segment in 1..=3 {
        let count = per_segment.min(usize::try_from(ENTRIES).expect("few") - per_segment * (segment - 1));
        for offset in (0..64).chain(512..at(count)) {
            let number = segment as u64;
            let case = format!("segment {segment}, byte {offset}");
            let error = bench.refusal(&case, &changed(&closed, number, |bytes| bytes[offset] ^= 0x10));
            let text = error.to_string();
            assert!(text.contains(".segment"), "{case}: {text}");
        }
    }
}

#[test]
fn damage_before_the_last_write_is_noticed_without_a_clean_end() {
    let (open, _) = sample();
    let bench = Bench::new();
    assert_eq!(bench.opens(&open, Some(ENTRIES - 1)).0, entries(0..ENTRIES));
    let cases: [(&str, u64, usize, usize); 8] = [
        ("header", 1, 16, 1),
        ("checksum", 1, at(3), 1),
        ("length", 2, at(3) + 4, 1),
        ("kind", 2, at(3) + 12, 1),
        ("a page", 2, 1024, 1024),
        ("a page of the last segment", 3, 1024, 1024),
        ("payload in the last segment", 3, at(2) + 50, 1),
        ("the last header", 3, 0, 64),
    ];
    for (case, segment, offset, length) in cases {
        let files = changed(&open, segment, |bytes| {
            bytes[offset..offset + length].iter_mut().for_each(|byte| *byte = !*byte & 0x55);
        });
        match bench.refusal(case, &files) {
            OpenError::Damaged { file, .. } => assert_eq!(name(&file), segment_name(segment), "{case}"),
            other => panic!("{case}: {other}"),
        }
    }
}

#[test]
fn what_the_power_cut_off_is_cut_and_the_log_goes_on() {
    let (open, _) = sample();
    let bench = Bench::new();
    let last = usize::try_from(ENTRIES).expect("few") - 1 - 2 * 15;
    let torn = changed(&open, 3, |bytes| bytes[at(last) + 100] ^= 1);
    assert!(matches!(bench.open(&torn, Some(ENTRIES - 1)), Err(OpenError::Short { .. })));
    let (log, recovered) = bench.open(&torn, Some(ENTRIES - 2)).expect("only torn");
    assert_eq!((recovered.last, recovered.cut_bytes), (Some(ENTRIES - 2), 32 + PAYLOAD_BYTES as u64));
    append(&log, vec![entry(ENTRIES - 1, 1)]).expect("room");
    log.close().expect("a sound log");
    let (log, _) = Log::open(bench.dir.path(), SMALL, None).expect("a sound log");
    assert_eq!(everything(&log), entries(0..ENTRIES));
    log.close().expect("a sound log");
}

#[test]
fn files_that_are_gone_cut_exchanged_or_older_are_noticed() {
    let (open, _) = sample();
    let bench = Bench::new();
    let segment = |files: &Files, number: u64| files[&segment_name(number)].clone();
    for number in 1..=3 {
        let mut files = open.clone();
        files.remove(&segment_name(number));
        match bench.refusal("a segment is gone", &files) {
            OpenError::Missing { file } => assert_eq!(name(&file), segment_name(number)),
            other => panic!("segment {number} is gone: {other}"),
        }
        let files = changed(&open, number, |bytes| bytes.truncate(2048));
        assert!(matches!(bench.refusal("a segment is cut", &files), OpenError::Damaged { .. }));
    }
    let mut files = open.clone();
    files.insert(segment_name(1), segment(&open, 2));
    files.insert(segment_name(2), segment(&open, 1));
    assert!(matches!(bench.refusal("two are exchanged", &files), OpenError::Damaged { .. }));
    let files = changed(&open, 2, |bytes| bytes[at(9)..].fill(0));
    assert!(matches!(bench.refusal("an older copy", &files), OpenError::Damaged { .. }));
    let mut files = open;
    files.remove(cells::FILE);
    assert!(matches!(bench.refusal("the cells are gone", &files), OpenError::Missing { .. }));
}

#[test]
fn files_of_a_copy_that_went_its_own_way_do_not_fit_in() {
    let (_, base) = grown(&Files::new(), 0..10, 1);
    let (ours, _) = grown(&base, 10..ENTRIES, 1);
    let (theirs, _) = grown(&base, 10..ENTRIES, 9);
    let bench = Bench::new();
    let with = |name: String, from: &Files| {
        let mut files = ours.clone();
        files.insert(name.clone(), from[&name].clone());
        files
    };
    let error = bench.refusal("a segment of the copy", &with(segment_name(1), &theirs));
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    let error = bench.refusal("the end of before", &with(cells::FILE.to_owned(), &base));
    assert!(error.to_string().contains("goes on behind its end"), "{error}");
    let (_, short) = grown(&base, 10..12, 9);
    let (short, _) = grown(&short, 0..0, 9);
    let error = bench.refusal("the start of the copy", &with(cells::FILE.to_owned(), &short));
    assert!(error.to_string().contains("not those of the last start"), "{error}");

    // One record of the copy at the very end is like a torn one: it does not name the one before.
    let start = at(usize::try_from(ENTRIES).expect("few") - 1 - 2 * 15);
    let spliced =
        changed(&ours, 3, |bytes| bytes[start..].copy_from_slice(&theirs[&segment_name(3)][start..]));
    assert_eq!(bench.opens(&spliced, None).0, entries(0..ENTRIES - 1));
}

#[test]
fn the_last_write_is_evidenced_once_the_log_was_opened_again() {
    let (open, _) = sample();
    let (again, _) = grown(&open, 0..0, 1);
    let last = at(usize::try_from(ENTRIES).expect("few") - 1 - 2 * 15);
    let files = changed(&again, 3, |bytes| bytes[last + 100] ^= 1);
    let error = Bench::new().refusal("the last record", &files);
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[test]
fn foreign_and_newer_files_are_named() {
    let (open, _) = sample();
    let (other, _) = sample();
    let bench = Bench::new();
    let mut files = open.clone();
    files.insert(segment_name(2), other[&segment_name(2)].clone());
    let error = bench.refusal("a foreign segment", &files);
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");

    let newer = |bytes: &mut Vec<u8>, length: usize| {
        bytes[8] = 2;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..12]);
        crc.update(&bytes[16..length]);
        bytes[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
    };
    let files = changed(&open, 3, |bytes| newer(bytes, 64));
    let error = bench.refusal("a newer segment", &files);
    assert!(matches!(error, OpenError::Newer { version: 2, .. }), "{error}");
    let mut files = open;
    newer(files.get_mut(cells::FILE).expect("cells"), 32);
    let error = bench.refusal("newer cells", &files);
    assert!(matches!(error, OpenError::Newer { version: 2, .. }), "{error}");
}

#[test]
fn a_vote_outlives_damage_to_either_copy_and_damage_to_both_is_noticed() {
    let (_, closed) = sample();
    let bench = Bench::new();
    let vote_slots = [3 * 4096 + 20, 4 * 4096 + 20];
    for slot in vote_slots {
        let mut files = closed.clone();
        files.get_mut(cells::FILE).expect("cells")[slot] ^= 1;
        let (log, _) = bench.open(&files, None).expect("the other copy is sound");
        assert_eq!(log.load(Cell::Vote).as_deref(), Some(&b"second"[..]));
        log.close().expect("a sound log");
    }
    let mut files = closed;
    vote_slots.iter().for_each(|slot| files.get_mut(cells::FILE).expect("cells")[*slot] ^= 1);
    let error = bench.refusal("both copies", &files);
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[test]
fn the_sentence_names_the_file_the_place_and_the_way_out() {
    let error = OpenError::Damaged {
        file: PathBuf::from("/data/log/0000000000000002.segment"),
        offset: 744,
        detail: "a record that was on disk is not valid".to_owned(),
    };
    assert_eq!(
        error.to_string(),
        "/data/log/0000000000000002.segment is damaged at byte 744: a record that was on disk is not valid; \
         nothing was changed: restore the node's data directory from a backup, or, if the node is one of a \
         cluster, move its data directory away and let it rejoin"
    );
}
