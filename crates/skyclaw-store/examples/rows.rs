//! Prints how many rows a second are written, into an empty store and into one with a history.
//!
//! `cargo run --release -p skyclaw-store --example rows -- [DIRECTORY] [JOBS OF HISTORY]`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use skyclaw_core::model::{EndStatus, Ended, Lease, Phase, Run};
use skyclaw_core::{Change, Counters, IdempotencyKey, Job, Reply, StoredReply};
use skyclaw_proto::payload::ShellPayload;
use skyclaw_proto::{Capabilities, Payload, Timestamp};
use skyclaw_store::{Batch, JobFilter, Options, Position, Store};
use tokio_util::task::TaskTracker;

const BATCH: u64 = 1000;
const BATCHES: u64 = 20;

#[derive(Clone, Copy)]
enum Life {
    Queued,
    Leased,
    Completed,
}

fn job(seq: u64, life: Life) -> Result<Arc<Job>> {
    let host: skyclaw_proto::HostId = "host_0199a3c0-0000-7000-8000-000000000001".parse()?;
    let now = Timestamp::from_millis(1_767_225_600_000);
    let phase = match life {
        Life::Queued => Phase::Queued,
        Life::Leased => Phase::Leased(Lease { host, expires_at: now, cancel_requested_at: None }),
        Life::Completed => {
            let run = Run {
                finished_at: now,
                duration_ms: 12,
                exit_code: 0,
                stdout: "hello\n".into(),
                stderr: String::new(),
            };
            let run = Some(Arc::new(run));
            Phase::Ended(Ended { status: EndStatus::Completed, host: Some(host), run, error: None })
        }
    };
    let payload =
        ShellPayload { command: "echo".into(), args: Some(vec!["hello".into()]), ..Default::default() };
    Ok(Arc::new(Job {
        id: format!("job_0199a3c0-{:04x}-7000-8000-{seq:012x}", seq >> 16).parse()?,
        seq,
        created_at: now,
        updated_at: now,
        updated_by: "node-a".parse()?,
        version: seq,
        attempts: 0,
        priority: 50,
        required: Capabilities::new(["shell"]),
        payload: Arc::new(Payload::Shell(payload)),
        labels: BTreeMap::new(),
        submitted_by: None,
        fence: 0,
        phase,
    }))
}

fn reply(seq: u64) -> Result<Change> {
    let expires_at = Timestamp::from_millis(1_767_312_000_000);
    let (caller, route, key) = ("core".into(), "/v1/jobs".into(), format!("key-{seq}"));
    let key = IdempotencyKey { caller, route, key, fingerprint: [7; 32], expires_at };
    Ok(Change::Reply(Arc::new(StoredReply { key, reply: Reply::Job(job(seq, Life::Queued)?) })))
}

/// Commits batches of changes made from consecutive numbers, and returns rows a second.
async fn write(
    store: &Store,
    from: u64,
    batches: u64,
    change: impl Fn(u64) -> Result<Change>,
) -> Result<f64> {
    let mut all = Vec::new();
    for n in 0..batches {
        let first = from + n * BATCH;
        let changes: Vec<Change> = (first..first + BATCH).map(&change).collect::<Result<_>>()?;
        let mut batch = Batch::default();
        batch.absorb(changes);
        let counters = Counters { next_seq: u64::MAX, ..Counters::default() };
        batch.reach(Position { index: first, bytes: vec![0; 64] }, counters);
        all.push(Arc::new(batch));
    }
    let begin = Instant::now();
    for batch in all {
        store.commit(batch).await?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    Ok((batches * BATCH) as f64 / begin.elapsed().as_secs_f64())
}

async fn measure(store: &Store, from: u64) -> Result<()> {
    store.checkpoint().await?;
    let insert = write(store, from, BATCHES, |n| Ok(Change::Job(job(n, Life::Queued)?))).await?;
    let claim = write(store, from, BATCHES, |n| Ok(Change::Job(job(n, Life::Leased)?))).await?;
    let complete = write(store, from, BATCHES, |n| Ok(Change::Job(job(n, Life::Completed)?))).await?;
    let replies = write(store, from, BATCHES, reply).await?;
    println!("  jobs inserted {insert:.0}/s, leased {claim:.0}/s, completed {complete:.0}/s");
    println!("  replies inserted {replies:.0}/s");
    let begin = Instant::now();
    store.checkpoint().await?;
    println!("  checkpoint {:?}", begin.elapsed());
    let begin = Instant::now();
    let ids: Vec<_> =
        (from..from + 100).map(|n| Ok(job(n, Life::Queued)?.id.clone())).collect::<Result<_>>()?;
    let found = store.jobs(&ids).await?.len();
    println!("  {found} jobs by id {:?}", begin.elapsed());
    let begin = Instant::now();
    let host = job(1, Life::Leased)?.host().cloned();
    let page = store.page(&JobFilter { host, ..JobFilter::default() }, None, 100).await?.len();
    println!("  a page of {page} jobs of a host {:?}", begin.elapsed());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let directory = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let history: u64 = args.next().map_or(Ok(200_000), |text| text.parse())?;
    let dir = tempfile::tempdir_in(directory)?;
    let tracker = TaskTracker::new();
    let store = Store::open(&dir.path().join("state.db"), Options::default(), &tracker).await?.store;
    println!("empty:");
    measure(&store, 1).await?;
    let from = 1_000_000;
    write(&store, from, history / BATCH, |n| Ok(Change::Job(job(n, Life::Completed)?))).await?;
    write(&store, from, history / BATCH, reply).await?;
    println!("with {history} jobs and as many replies:");
    measure(&store, from + history).await?;
    store.close().await?;
    tracker.close();
    tracker.wait().await;
    Ok(())
}
