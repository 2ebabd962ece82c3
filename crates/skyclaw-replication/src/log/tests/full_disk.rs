//! A file system without room takes nothing from the log: it says so beforehand, and goes on when there is room.

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;

use tempfile::TempDir;

use super::*;

const OPTIONS: Options = Options { segment_bytes: 16 << 10, cache_bytes: 1 << 20, max_record_bytes: 1024 };
const PAYLOAD_BYTES: usize = 1000;

/// A file system of a few pages, in memory.
struct Small {
    dir: TempDir,
}

impl Small {
    /// None without the right to mount.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=160k", "skyclaw-test"]).arg(dir.path());
        mount.stderr(std::process::Stdio::null()).status().ok()?.success().then_some(Self { dir })
    }

    fn ballast(&self) -> PathBuf {
        self.dir.path().join("ballast")
    }

    /// Fills what is left.
    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("a file");
        while ballast.write(&[1; 4096]).is_ok_and(|written| written > 0) {}
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a test that has failed may leave the log's threads at work for a moment.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn entry(index: u64) -> Record {
    record(index, vec![u8::try_from(index).expect("few entries"); PAYLOAD_BYTES])
}

#[test]
fn a_full_disk_refuses_beforehand_keeps_all_and_recovers() {
    let Some(small) = Small::mount() else {
        eprintln!("not shown: mounting a file system takes root");
        return;
    };
    let dir = small.dir.path().join("log");
    let (log, _) = Log::open(&dir, OPTIONS, None).expect("a new log");
    append(&log, vec![entry(0)]).expect("room");
    wait_until("spares are ready", || log.inner.shared.lock().spares.len() == 2);
    small.fill();

    let mut next = 1;
    while log.room() >= Log::cost(PAYLOAD_BYTES) {
        append(&log, vec![entry(next)]).expect("what there is room for is accepted");
        next += 1;
    }
    assert!(next > 40, "three segments have room for more than {next} entries");
    let refused = append(&log, vec![entry(next)]).expect_err("there is no room");
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    save(&log, Cell::Vote, "vote").expect("a vote needs no room");
    truncate(&log, next - 1).expect("a truncation has the reserve");
    assert_eq!(everything(&log), (0..next - 1).map(entry).collect::<Vec<_>>());
    log.close().expect("closing needs no room");

    let (log, recovered) = Log::open(&dir, OPTIONS, Some(next - 2)).expect("opening needs no room");
    assert_eq!(recovered.last, Some(next - 2));
    fs::remove_file(small.ballast()).expect("the ballast");
    wait_until("there is room again", || log.room() > OPTIONS.segment_bytes);
    append(&log, vec![entry(next - 1)]).expect("room");
    assert_eq!(everything(&log), (0..next).map(entry).collect::<Vec<_>>());
    log.close().expect("a sound log");
}

#[test]
fn a_purge_on_a_full_disk_makes_room() {
    let Some(small) = Small::mount() else {
        eprintln!("not shown: mounting a file system takes root");
        return;
    };
    let (log, _) = Log::open(&small.dir.path().join("log"), OPTIONS, None).expect("a new log");
    wait_until("spares are ready", || log.inner.shared.lock().spares.len() == 2);
    small.fill();
    let mut next = 0;
    while append(&log, vec![entry(next)]).is_ok() {
        next += 1;
    }
    purge(&log, next - 5).expect("a purge has the reserve");
    wait_until("the purged segment is a spare", || log.room() > 10 * Log::cost(PAYLOAD_BYTES));
    append(&log, vec![entry(next)]).expect("room");
    assert_eq!(log.bounds(), next - 4..next + 1);
    log.close().expect("a sound log");
}
