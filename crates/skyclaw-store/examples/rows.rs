//! Prints how many rows a second are written, into an empty store and into one with a history, and how
//! long it takes to copy the latter and to install the copy.
//!
//! `cargo run --release -p skyclaw-store --example rows -- [DIRECTORY] [JOBS OF HISTORY]`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use skyclaw_core::model::{EndStatus, Ended, Lease, Phase, Run};
use skyclaw_core::{Change, Counters, IdempotencyKey, Job, Reply, StoredReply};
use skyclaw_proto::payload::ShellPayload;
use skyclaw_proto::{Capabilities, Payload, Timestamp};
use skyclaw_store::snapshot::{self, Origin};
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
                usage: None,
                oom: false,
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
        terms: None,
        life: None,
        bonds: None,
        history: None,
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

/// Copies the store, meanwhile writing to it, and goes through everything a copy can go through.
async fn copies(store: &Store, directory: &Path) -> Result<()> {
    let [copy, taken, file] = ["copy.db", "taken.db", "a.snapshot"].map(|name| directory.join(name));
    let mut slowest = Duration::ZERO;
    let begin = Instant::now();
    let mut copying = std::pin::pin!(store.copy_to(&copy));
    let mut n = 0;
    let copied = loop {
        let beat = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let begin = Instant::now();
            write(store, n % 1_000_000, 1, |n| Ok(Change::Job(job(n, Life::Queued)?))).await?;
            anyhow::Ok(begin.elapsed())
        };
        tokio::select! {
            copied = &mut copying => break copied?,
            took = beat => slowest = slowest.max(took?),
        }
        n += BATCH;
    };
    println!("  copied {} MB in {:?}", copied.bytes >> 20, begin.elapsed());
    println!("  meanwhile {n} jobs were written, {BATCH} of them in {slowest:?} at most");
    let begin = Instant::now();
    let origin = Origin { cluster: uuid::Uuid::nil(), created_at: Timestamp::from_millis(0) };
    snapshot::write(&copy, origin, tokio::fs::File::create(&file).await?).await?;
    println!("  snapshot written {:?}", begin.elapsed());
    let begin = Instant::now();
    snapshot::inspect(&file).await?;
    println!("  inspected {:?}", begin.elapsed());
    let begin = Instant::now();
    snapshot::extract(&file, &taken).await?;
    println!("  extracted {:?}", begin.elapsed());
    for content in ["other", "same"] {
        let begin = Instant::now();
        let installed = store.install(&taken).await?;
        println!("  installed over {content} content {:?}", begin.elapsed());
        drop(installed);
    }
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
    copies(&store, dir.path()).await?;
    store.close().await?;
    tracker.close();
    tracker.wait().await;
    Ok(())
}
