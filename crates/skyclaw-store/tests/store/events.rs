//! What is told of changes: all of it under its id, whatever it is cut into; pruned with a mark; part of every
//! copy, and no part of what a snapshot brings back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skyclaw_core::{Change, Command, Notice, Operation};
use skyclaw_proto::record;
use skyclaw_proto::{EventId, JobId};
use skyclaw_store::{Batch, Options, Retention, Store};
use tokio_util::task::TaskTracker;

use crate::damage::sql;
use crate::support::{self, Running, at, batch, counters, id, job, position};

fn command(ms: i64) -> Command {
    let operation = Operation::Cancel { id: id::<JobId>("j") };
    Command { at: at(ms), node: id("node_a"), idempotency: None, by: None, operation }
}

/// Notes of some entries of the log, each with so many changes.
fn noted(entries: impl IntoIterator<Item = (u64, u32)>) -> Arc<Batch> {
    let (mut batch, mut last) = (Batch::default(), 0);
    for (index, changes) in entries {
        for n in 0..changes {
            let change = Change::Job(Arc::new(job(index, u64::from(n) + 1)));
            let millis = i64::try_from(index).expect("small") * 1000;
            let notice = Notice::of(&command(millis), &change).expect("it is told");
            batch.note(EventId::new(index, n), notice);
            batch.absorb([change]);
        }
        last = index;
    }
    batch.reach(position(last), counters(last + 1));
    Arc::new(batch)
}

async fn open(path: &Path, events: Retention) -> Running {
    let tracker = TaskTracker::new();
    let options = Options { events, ..Options::default() };
    let opened = Store::open(path, options, &tracker).await.expect("an open store");
    Running::new(opened, tracker)
}

fn keep(count: u64, age_ms: u64) -> Retention {
    Retention { count, age: Duration::from_millis(age_ms) }
}

/// From where on all is kept after a place, and the ids of what is.
async fn kept(store: &Store, mut after: EventId) -> (EventId, Vec<EventId>) {
    let (mut all, mut since): (Vec<record::Notice>, _) = (Vec::new(), EventId::START);
    loop {
        let page = store.notices(after).await.expect("a page");
        since = since.max(page.kept_after);
        after = page.notices.last().map_or(after, |last| last.id);
        all.extend(page.notices);
        if page.is_last {
            return (since, all.into_iter().map(|notice| notice.id).collect());
        }
    }
}

fn ids(entries: impl IntoIterator<Item = (u64, u32)>) -> Vec<EventId> {
    entries
        .into_iter()
        .flat_map(|(index, changes)| (0..changes).map(move |n| EventId::new(index, n)))
        .collect()
}

#[tokio::test]
async fn each_change_is_told_once_in_the_order_of_the_ids_however_it_is_cut() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let running = open(&path, Retention::default()).await;
    // More than fits into a row, or into a page; a batch that is written twice; one that begins earlier.
    let cuts: [&[(u64, u32)]; 4] =
        [&[(1, 700), (2, 1)], &[(3, 2), (5, 2500)], &[(3, 2), (5, 2500), (6, 1)], &[(7, 1)]];
    for cut in cuts {
        for _ in 0..2 {
            running.store().commit(noted(cut.iter().copied())).await.expect("committed");
        }
    }
    let all = ids([(1, 700), (2, 1), (3, 2), (5, 2500), (6, 1), (7, 1)]);
    assert_eq!(kept(running.store(), EventId::START).await, (EventId::START, all.clone()));
    for after in [EventId::new(1, 255), EventId::after(1), EventId::new(5, 2498), EventId::after(7)] {
        let rest: Vec<EventId> = all.iter().copied().filter(|id| *id > after).collect();
        assert_eq!(kept(running.store(), after).await, (EventId::START, rest), "after {after}");
    }
    running.store().verify().await.expect("sound");
    running.close().await;
    let again = support::open(&path).await;
    assert_eq!(kept(again.store(), EventId::START).await, (EventId::START, all), "after a restart");
    again.close().await;
}

#[tokio::test]
async fn what_is_too_much_is_pruned_from_the_oldest_on_and_leaves_a_mark() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = open(&dir.path().join("state.db"), keep(10, 1_000_000_000)).await;
    for index in 1..=30 {
        running.store().commit(noted([(index, 3)])).await.expect("committed");
    }
    // Ten and what is in one row with them.
    let kept_after = EventId::new(26, 2);
    assert_eq!(
        kept(running.store(), EventId::START).await,
        (kept_after, ids((27..=30).map(|index| (index, 3))))
    );
    assert_eq!(kept(running.store(), EventId::new(28, 1)).await.0, kept_after, "told to everybody");
    // A batch of nothing prunes nothing.
    running.store().commit(batch(31, [])).await.expect("committed");
    assert_eq!(kept(running.store(), EventId::START).await.1.len(), 12);
    running.store().verify().await.expect("sound");
    running.close().await;
}

#[tokio::test]
async fn what_is_too_old_beside_the_newest_is_pruned() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = open(&dir.path().join("state.db"), keep(1_000_000, 5_000)).await;
    for index in 1..=30 {
        running.store().commit(noted([(index, 1)])).await.expect("committed");
    }
    assert_eq!(
        kept(running.store(), EventId::START).await,
        (EventId::new(24, 0), ids((25..=30).map(|index| (index, 1))))
    );
    running.close().await;
}

#[tokio::test]
async fn under_endless_changes_the_file_stays_as_large_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let running = open(&path, keep(2_000, 1_000_000_000)).await;
    let mut sizes = Vec::new();
    for round in 0..8_u64 {
        for index in 1..=20 {
            let index = round * 20 + index;
            // The same few records again and again: what grows is what is told of them.
            let mut batch = Batch::default();
            for n in 0..200 {
                let change = Change::Job(Arc::new(job(1, index)));
                batch.note(EventId::new(index, n), Notice::of(&command(1), &change).expect("told"));
            }
            batch.reach(position(index), counters(index));
            running.store().commit(Arc::new(batch)).await.expect("committed");
        }
        running.store().checkpoint().await.expect("durable");
        sizes.push(std::fs::metadata(&path).expect("the file").len());
    }
    // Ids get longer by a digit now and then.
    assert!(sizes[7] <= sizes[2] + sizes[2] / 50, "{sizes:?}");
    running.close().await;
}

#[tokio::test]
async fn a_copy_brings_them_along_with_the_mark_and_replaces_what_was_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let from = open(&dir.path().join("from.db"), keep(5, 1_000_000_000)).await;
    for index in 1..=20 {
        from.store().commit(noted([(index, 1)])).await.expect("committed");
    }
    let copy = dir.path().join("copy.db");
    from.store().copy_to(&copy).await.expect("a copy");
    let to = open(&dir.path().join("to.db"), Retention::default()).await;
    to.store().commit(noted([(1, 1), (2, 1)])).await.expect("committed");
    let _installed = to.store().install(&copy).await.expect("installed");
    let all = kept(from.store(), EventId::START).await;
    assert_eq!(all.0, EventId::new(15, 0));
    assert_eq!(kept(to.store(), EventId::START).await, all);
    from.close().await;
    to.close().await;
}

#[tokio::test]
async fn a_database_from_before_says_that_nothing_of_that_time_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let running = support::open(&path).await;
    running.store().commit(batch(41, [Change::Job(Arc::new(job(1, 1)))])).await.expect("committed");
    running.close().await;
    let before = "DROP INDEX jobs_by_end; DROP INDEX jobs_by_keep; ALTER TABLE jobs DROP COLUMN ended_at; \
                  ALTER TABLE jobs DROP COLUMN keep_until; \
                  DROP TABLE events; DELETE FROM _sqlx_migrations WHERE version >= 6";
    sql(&path, before).await;
    let running = support::open(&path).await;
    assert_eq!(kept(running.store(), EventId::START).await, (EventId::after(41), Vec::new()));
    running.store().commit(noted([(42, 1)])).await.expect("committed");
    assert_eq!(kept(running.store(), EventId::after(41)).await, (EventId::after(41), ids([(42, 1)])));
    running.close().await;
}

#[tokio::test]
async fn what_was_written_before_it_was_compressed_is_told_as_ever() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let running = support::open(&path).await;
    running.store().commit(noted([(1, 3)])).await.expect("committed");
    let told = running.store().notices(EventId::START).await.expect("a page").notices;
    running.close().await;
    let json = serde_json::to_string(&told).expect("JSON");
    let crc = crc32fast::hash(json.as_bytes());
    let (table, _) = include_str!("../../migrations/0006_events.sql").split_once(';').expect("a statement");
    let before = format!(
        "ALTER TABLE events RENAME TO compressed; {table}; \
         INSERT INTO events SELECT last_index, last_n, count, total, at, '{json}', {crc} FROM compressed; \
         DROP TABLE compressed; DELETE FROM _sqlx_migrations WHERE version >= 8"
    );
    sql(&path, sqlx::AssertSqlSafe(before)).await;
    let running = support::open(&path).await;
    assert_eq!(running.store().notices(EventId::START).await.expect("a page").notices, told);
    running.store().verify().await.expect("sound");
    running.store().commit(noted([(2, 1)])).await.expect("committed");
    assert_eq!(kept(running.store(), EventId::START).await.1, ids([(1, 3), (2, 1)]));
    running.close().await;
}

#[tokio::test]
async fn a_damaged_row_is_found_and_never_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let running = support::open(&path).await;
    running.store().commit(noted([(1, 3)])).await.expect("committed");
    running.close().await;
    let other = "UPDATE events SET body = substr(body, 1, 20) || x'00' || substr(body, 22) WHERE count > 0";
    sql(&path, other).await;
    let running = support::open(&path).await;
    assert!(running.store().notices(EventId::START).await.is_err());
    assert!(running.store().verify().await.is_err());
    running.close().await;
}
