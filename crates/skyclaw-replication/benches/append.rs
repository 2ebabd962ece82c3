//! Appends per second of the log, next to what the disk gives: one write and one sync after the other into a file
//! of zeros. Both in the same directory, the one named as the argument or a temporary one.
//!
//! `cargo bench -p skyclaw-replication --bench append [-- DIR]`

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use skyclaw_replication::log::{Log, Options, Record};

const PAYLOAD_BYTES: usize = 256;
/// How long a measurement takes, and how many of each kind are made in turn: what else uses the disk changes.
const EACH: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;
const APPENDERS: [usize; 3] = [1, 16, 64];
const FILE_BYTES: usize = 16 << 20;

fn main() -> anyhow::Result<()> {
    // Cargo adds flags of its own.
    let parent = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).map(PathBuf::from);
    let dir = match parent {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let file = OpenOptions::new().create_new(true).write(true).open(dir.path().join("raw"))?;
    file.write_all_at(&vec![0; FILE_BYTES], 0)?;
    file.sync_all()?;
    println!("{:>9}  {:>11}  {:>11}  {:>5}", "appenders", "appends/s", "raw syncs/s", "ratio");
    for appenders in APPENDERS {
        let (log, _) = Log::open(&dir.path().join(appenders.to_string()), Options::default(), None)?;
        while log.room() < Options::default().segment_bytes {
            thread::yield_now();
        }
        let next = Mutex::new(0);
        let (mut ours, mut raws) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            raws.push(raw(&file)?);
            ours.push(round(&log, &next, appenders)?);
        }
        log.close()?;
        let (ours, raw) = (median(ours), median(raws));
        println!("{appenders:>9}  {ours:>11.0}  {raw:>11.0}  {:>5.2}", ours / raw);
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Writes and syncs records in series.
fn raw(file: &File) -> anyhow::Result<f64> {
    let record = vec![1; usize::try_from(Log::cost(PAYLOAD_BYTES))?];
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed() < EACH {
        file.write_all_at(&record, (done * record.len() % (FILE_BYTES - record.len())) as u64)?;
        file.sync_data()?;
        done += 1;
    }
    Ok(per_second(done, start))
}

/// Appends from so many threads, each waiting for one record before it appends the next.
fn round(log: &Log, next: &Mutex<u64>, appenders: usize) -> anyhow::Result<f64> {
    let start = Instant::now();
    let counts: Vec<anyhow::Result<usize>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..appenders).map(|_| scope.spawn(|| appender(log, next, start))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Ok(0))).collect()
    });
    Ok(per_second(counts.into_iter().sum::<anyhow::Result<usize>>()?, start))
}

fn appender(log: &Log, next: &Mutex<u64>, start: Instant) -> anyhow::Result<usize> {
    let payload = Bytes::from(vec![1; PAYLOAD_BYTES]);
    let (tell, told) = sync_channel(1);
    let mut done = 0;
    while start.elapsed() < EACH {
        let tell = tell.clone();
        {
            // Indexes have no gaps: who draws one appends it before the next is drawn.
            let mut index = next.lock().ok().context("another appender has panicked")?;
            let record = Record { index: *index, payload: payload.clone() };
            log.append(vec![record], move |result| drop(tell.send(result)));
            *index += 1;
        }
        told.recv()?.context("the log ran out of room")?;
        done += 1;
    }
    Ok(done)
}

fn per_second(done: usize, start: Instant) -> f64 {
    // Far below 2^52.
    #[expect(clippy::cast_precision_loss, reason = "a rate to be printed")]
    let done = done as f64;
    done / start.elapsed().as_secs_f64()
}
