//! The log on real files with its threads: random requests against a model, and what the file system shows.

use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;
use crate::log::spares::segment_number;

#[derive(Clone, Debug)]
enum Step {
    Append {
        payloads: Vec<usize>,
    },
    /// Truncate or purge at so many percent of the entries.
    Truncate(u64),
    Purge(u64),
    Read {
        from: u64,
        to: u64,
        limit_bytes: usize,
    },
    Reopen,
}

/// Of 999 bytes each: as many as the two spare segments are certain to take when the one before them is full.
const MOST_AT_ONCE: usize = 5;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => proptest::collection::vec(0..1000usize, 0..=MOST_AT_ONCE).prop_map(|payloads| Step::Append { payloads }),
        1 => (0..=100u64).prop_map(Step::Truncate),
        1 => (0..=110u64).prop_map(Step::Purge),
        3 => (0..=100u64, 0..=100u64, 0..5000usize)
            .prop_map(|(from, to, limit_bytes)| Step::Read { from, to, limit_bytes }),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

/// The log and what it must hold.
struct Pair {
    dir: tempfile::TempDir,
    log: Log,
    first: u64,
    entries: Vec<Record>,
    drawn: u8,
}

impl Pair {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (log, _) = Log::open(dir.path(), SMALL, None).expect("a new log");
        Self { dir, log, first: 0, entries: Vec::new(), drawn: 0 }
    }

    fn at(&self, percent: u64) -> u64 {
        self.first + self.entries.len() as u64 * percent / 100
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { payloads } => self.append(&payloads),
            Step::Truncate(percent) => {
                let index = self.at(percent);
                truncate(&self.log, index).expect("not purged");
                self.entries.retain(|entry| entry.index < index);
            }
            Step::Purge(percent) => {
                let index = self.at(percent);
                purge(&self.log, index).expect("a sound log");
                self.entries.retain(|entry| entry.index > index);
                self.first = index + 1;
            }
            Step::Read { from, to, limit_bytes } => self.read(self.at(from)..self.at(to), limit_bytes),
            Step::Reopen => self.reopen(),
        }
    }

    fn append(&mut self, payloads: &[usize]) {
        let next = self.first + self.entries.len() as u64;
        let records: Vec<_> = payloads
            .iter()
            .zip(next..)
            .map(|(bytes, index)| {
                self.drawn = self.drawn.wrapping_add(1);
                record(index, vec![self.drawn; *bytes])
            })
            .collect();
        let cost: u64 = records.iter().map(|record| Log::cost(record.payload.len())).sum();
        wait_until("there is room", || self.log.room() >= cost);
        append(&self.log, records.clone()).expect("room");
        self.entries.extend(records);
    }

    fn read(&self, range: Range<u64>, limit_bytes: usize) {
        let found = self.log.read_blocking(range.clone(), limit_bytes).expect("a sound log");
        let wanted: Vec<_> =
            self.entries.iter().filter(|entry| range.contains(&entry.index)).cloned().collect();
        assert_eq!(found[..], wanted[..found.len()], "a read is a prefix");
        let bytes = |records: &[Record]| records.iter().map(|record| record.payload.len()).sum::<usize>();
        assert!(bytes(&found) <= limit_bytes || found.len() == 1, "a read keeps to its limit");
        if let Some(one_more) = wanted.get(..=found.len()) {
            assert!(bytes(one_more) > limit_bytes && !found.is_empty(), "a read is as long as it may be");
        }
    }

    fn reopen(&mut self) {
        self.log.close().expect("a sound log");
        let last = self.entries.last().map(|entry| entry.index);
        let (log, recovered) = Log::open(self.dir.path(), SMALL, last).expect("a sound log");
        self.log = log;
        assert_eq!((recovered.first, recovered.last, recovered.cut_bytes), (self.first, last, 0));
        assert_eq!(recovered.purged.map_or(0, |mark| mark.index + 1), self.first);
        assert_eq!(everything(&self.log), self.entries);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_a_list_that_outlives_its_process(steps in steps()) {
        let mut pair = Pair::new();
        for step in steps {
            pair.step(step);
        }
        pair.reopen();
        pair.log.close().expect("a sound log");
    }
}

#[test]
fn the_room_of_two_segments_comes_back_however_full_the_last_one_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = Log::open(dir.path(), SMALL, None).expect("a new log");
    for index in 0..40 {
        wait_until("there is room", || log.room() >= MOST_AT_ONCE as u64 * Log::cost(999));
        append(&log, vec![record(index, vec![1; 300])]).expect("room");
    }
    log.close().expect("a sound log");
}

#[test]
fn files_are_for_their_owner_alone() {
    let parent = tempfile::tempdir().expect("a directory");
    let dir = parent.path().join("log");
    let (log, _) = Log::open(&dir, SMALL, None).expect("a new log");
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in std::fs::read_dir(&dir).expect("the directory") {
        assert_eq!(mode(&entry.expect("an entry").path()), 0o600);
    }
    log.close().expect("a sound log");
}

#[test]
fn a_log_is_open_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = Log::open(dir.path(), SMALL, None).expect("a new log");
    assert!(matches!(Log::open(dir.path(), SMALL, None), Err(OpenError::Locked { .. })));
    log.close().expect("a sound log");
    drop(log);
    let (log, _) = Log::open(dir.path(), SMALL, None).expect("it is free again");
    log.close().expect("a sound log");
}

#[test]
fn wrong_requests_are_refused_and_change_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = Log::open(dir.path(), SMALL, None).expect("a new log");
    append(&log, vec![record(0, "zero"), record(1, "one")]).expect("room");
    let refused = |result: io::Result<()>| result.expect_err("a wrong request").kind();
    assert_eq!(refused(append(&log, vec![record(3, "gap")])), io::ErrorKind::InvalidInput);
    assert_eq!(refused(append(&log, vec![record(2, vec![0; 1025])])), io::ErrorKind::InvalidInput);
    purge(&log, 0).expect("purged");
    assert_eq!(refused(truncate(&log, 0)), io::ErrorKind::InvalidInput);
    assert!(matches!(log.read_blocking(0..2, 100), Err(ReadError::Purged { first: 1 })));
    assert_eq!(everything(&log), [record(1, "one")]);
    log.close().expect("a sound log");
    assert_eq!(refused(append(&log, vec![record(2, "late")])), io::ErrorKind::BrokenPipe);
    assert_eq!(log.room(), 0);
}

#[test]
fn an_empty_directory_is_not_taken_for_a_log_that_has_to_reach_somewhere() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(matches!(Log::open(dir.path(), SMALL, Some(0)), Err(OpenError::Short { must_reach: 0, .. })));
    assert_eq!(std::fs::read_dir(dir.path()).expect("the directory").count(), 0);
}

#[test]
fn purged_segments_are_used_again_and_the_directory_stays_small() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = Log::open(dir.path(), SMALL, None).expect("a new log");
    for index in 0..100 {
        wait_until("there is room", || log.room() >= Log::cost(1000));
        append(&log, vec![record(index, vec![1; 1000])]).expect("room");
        purge(&log, index).expect("purged");
    }
    let segments = || {
        let files = std::fs::read_dir(dir.path()).expect("the directory");
        files
            .filter(|file| {
                segment_number(&file.as_ref().expect("a file").file_name().to_string_lossy()).is_some()
            })
            .count()
    };
    wait_until("retired segments are gone", || segments() <= 3);
    log.close().expect("a sound log");
}

#[tokio::test]
async fn entries_are_read_from_files_without_blocking_the_runtime() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = Log::open(dir.path(), SMALL, None).expect("a new log");
    let records: Vec<_> = (0..5).map(|index| record(index, vec![1; 1000])).collect();
    wait_until("there is room", || log.room() >= 5 * Log::cost(1000));
    append(&log, records.clone()).expect("room");
    assert!(log.inner.shared.lock().recent(0).is_none(), "the cache holds less than all of it");
    assert_eq!(log.read(0..5, usize::MAX).await.expect("a sound log"), records);
    assert_eq!(log.read(4..9, 0).await.expect("a sound log"), records[4..]);
    assert_eq!(log.read(5..9, 0).await.expect("a sound log"), []);
    log.close().expect("a sound log");
}

#[test]
fn a_hint_is_kept_over_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = Log::open(dir.path(), SMALL, None).expect("a new log");
    assert_eq!(log.load(Cell::Committed), None);
    save(&log, Cell::Committed, "7").expect("saved");
    save(&log, Cell::Committed, "8").expect("saved");
    log.close().expect("a sound log");
    drop(log);
    let (log, _) = Log::open(dir.path(), SMALL, None).expect("a sound log");
    assert_eq!(log.load(Cell::Committed).as_deref(), Some(&b"8"[..]));
    log.close().expect("a sound log");
}
