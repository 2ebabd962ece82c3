//! The log against a model: on a simulated disk that loses power, on real files that are damaged, and on a real
//! file system that is full.

mod damage;
mod files;
mod full_disk;
mod power;

use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use super::*;

/// Small enough that every test crosses many segments.
const SMALL: Options = Options { segment_bytes: 4096, cache_bytes: 1500, max_record_bytes: 1024 };

fn record(index: u64, payload: impl Into<Bytes>) -> Record {
    Record { index, payload: payload.into() }
}

/// Starts a request and waits for its callback.
fn wait(start: impl FnOnce(Done)) -> io::Result<()> {
    let (tell, told) = sync_channel(1);
    start(Box::new(move |result| tell.send(result).expect("the test waits")));
    told.recv().expect("every request is answered")
}

fn append(log: &Log, records: Vec<Record>) -> io::Result<()> {
    wait(|done| log.append(records, done))
}

fn truncate(log: &Log, index: u64) -> io::Result<()> {
    wait(|done| log.truncate_from(index, done))
}

fn purge(log: &Log, index: u64) -> io::Result<()> {
    let mark = Mark { index, bytes: Bytes::from(index.to_string()) };
    wait(|done| log.purge_to(mark, done))
}

fn save(log: &Log, cell: Cell, value: &'static str) -> io::Result<()> {
    wait(|done| log.save(cell, Bytes::from_static(value.as_bytes()), done))
}

fn everything(log: &Log) -> Vec<Record> {
    log.read_blocking(log.bounds(), usize::MAX).expect("the log can be read")
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
