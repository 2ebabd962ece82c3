//! What is left after a crash is always one position and exactly the records of that position.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use skyclaw_core::{Change, Job};

use crate::support::*;

/// Batch `index` puts some new jobs and changes some old ones; what it is follows from the index alone.
fn changes(index: u64) -> Vec<Arc<Job>> {
    (1..=5).map(|n| Arc::new(job(1 + (index * 31 + n * 7) % (index * 3 + 5), index))).collect()
}

/// The state after batch `index`.
pub(crate) fn expected(index: Option<u64>) -> Dump {
    let mut jobs = BTreeMap::new();
    for job in (1..=index.unwrap_or(0)).flat_map(changes) {
        jobs.insert(job.seq, job);
    }
    Dump { position: index, jobs: jobs.into_values().collect(), ..Dump::default() }
}

pub(crate) fn write(index: u64) -> Arc<skyclaw_store::Batch> {
    batch(index, changes(index).into_iter().map(Change::Job))
}

/// Opens what a crash left, and returns its position after comparing everything else.
async fn recovered(path: &Path) -> Option<u64> {
    let running = open(path).await;
    let dump = dump(running.store()).await;
    assert_eq!(dump, expected(dump.position));
    assert_eq!(running.opened.position.as_ref().map(|position| position.index), dump.position);
    assert_eq!(
        running.opened.active_jobs,
        dump.jobs.iter().filter(|job| !job.is_ended()).cloned().collect::<Vec<_>>()
    );
    running.close().await;
    dump.position
}

#[tokio::test]
async fn a_write_ahead_log_cut_off_anywhere_gives_a_position_with_exactly_its_records() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let running = open(&path).await;
    for index in 1..=10 {
        running.store().commit(write(index)).await.expect("a commit");
    }
    running.store().checkpoint().await.expect("a checkpoint");
    for index in 11..=40 {
        running.store().commit(write(index)).await.expect("a commit");
    }
    // Since the checkpoint only the log is written to, so any beginning of it is what a crash may leave.
    let main = std::fs::read(&path).expect("the database");
    let log = std::fs::read(dir.path().join("state.db-wal")).expect("the log");
    running.close().await;
    let mut positions = Vec::new();
    for cut in (0..=log.len()).step_by(log.len() / 60).chain([log.len()]) {
        let copy = tempfile::tempdir().expect("a directory");
        let path = copy.path().join("state.db");
        std::fs::write(&path, &main).expect("a copy");
        std::fs::write(copy.path().join("state.db-wal"), &log[..cut]).expect("a copy");
        positions.push(recovered(&path).await.expect("at least the checkpoint"));
    }
    assert!(positions.is_sorted(), "more of the log never gives less: {positions:?}");
    assert_eq!((positions.first(), positions.last()), (Some(&10), Some(&40)));
}

const CHILD_PATH: &str = "STORE_CRASH_CHILD_PATH";

/// The process that is killed: writes batches without end and prints each index once it is committed.
#[tokio::test]
#[ignore = "run as a process of its own by killed_at_any_moment_nothing_committed_is_lost"]
async fn child_that_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD_PATH) else { return };
    let running = open(Path::new(&path)).await;
    let first = running.opened.position.as_ref().map_or(1, |position| position.index + 1);
    for index in first.. {
        running.store().commit(write(index)).await.expect("a commit");
        if index % 7 == 0 {
            running.store().checkpoint().await.expect("a checkpoint");
        }
        println!("\ncommitted {index}");
    }
}

#[tokio::test]
async fn killed_at_any_moment_nothing_committed_is_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let mut total = 0;
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "--nocapture", "crash::child_that_writes_until_it_is_killed"])
            .env(CHILD_PATH, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let out = BufReader::new(child.stdout.take().expect("its output"));
        let indexes = out
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("committed ")?.parse().ok());
        let told: u64 = indexes.take(5 + 11 * round).last().expect("at least one commit");
        child.kill().expect("a kill");
        child.wait().expect("an end");
        let found = recovered(&path).await.expect("a position");
        assert!(found >= told && told > total, "told {told}, found {found}, before that {total}");
        total = found;
    }
}
