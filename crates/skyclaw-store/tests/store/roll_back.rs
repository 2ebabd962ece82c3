//! Going back to a snapshot gives the same on every node, and loses no number.

use std::path::Path;
use std::sync::Arc;

use skyclaw_core::{Change, Counters, Restore, SnapshotOf, StagedPart};
use skyclaw_store::snapshot::Fault;
use skyclaw_store::{Batch, Refusal, RollBackError, Store};

use crate::crash::{expected, write};
use crate::snapshots::snapshot_of;
use crate::support::*;

/// The parts of a snapshot, as changes.
fn parts(restore: &str, bytes: &[u8]) -> Vec<Change> {
    let part = |(part, bytes): (usize, &[u8])| {
        let part = u32::try_from(part).expect("few parts");
        Change::Stage(Arc::new(StagedPart { restore: id(restore), part, bytes: bytes.to_vec() }))
    };
    bytes.chunks(5_000).enumerate().map(part).collect()
}

async fn snapshot_bytes(index: u64) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("a.snap");
    snapshot_of(index, &file).await;
    std::fs::read(file).expect("the snapshot")
}

async fn reopened(path: &Path) -> Dump {
    let running = open(path).await;
    let dump = dump(running.store()).await;
    let restores: Vec<_> = running.opened.restores.iter().map(|restore| restore.number).collect();
    assert_eq!((restores, &running.opened.staging), (vec![1], &None), "the record is part of the same write");
    assert_eq!(
        running.opened.counters,
        Counters { next_seq: 10_000, next_version: 99, next_fence: 50, ..Counters::default() }
    );
    running.close().await;
    dump
}

/// The place and the numbers of going back, and the record of it.
fn over(counters: Counters) -> Batch {
    let snapshot = SnapshotOf { cluster: uuid::Uuid::from_u128(7), created_at: at(8), index: 30 };
    let (requested_by, foreign, claims_held) = (None, false, true);
    let (number, id, node) = (1, id("r"), id("node_a"));
    let restore = Restore { number, id, at: at(9), node, requested_by, snapshot, foreign, claims_held };
    let mut over = Batch::default();
    over.absorb([Change::Restore(Arc::new(restore))]);
    over.reach(position(100), counters);
    over
}

async fn roll_back(store: &Store) -> Result<u64, RollBackError> {
    let assembled = store.assemble(&id("r")).await?;
    let counters =
        assembled.counters(Counters { next_seq: 9, next_version: 99, next_fence: 50, ..Counters::default() });
    assert_eq!(
        counters,
        Counters { next_seq: 10_000, next_version: 99, next_fence: 50, ..Counters::default() }
    );
    let index = assembled.snapshot.position.as_ref().map_or(0, |position| position.index);
    let installed = store.roll_back(assembled, over(counters)).await?;
    assert_eq!(installed.counters, counters);
    assert_eq!(installed.position, Some(position(100)));
    Ok(index)
}

#[tokio::test]
async fn nodes_that_staged_the_same_go_back_to_the_same_also_one_that_joined_half_way() {
    let dir = tempfile::tempdir().expect("a directory");
    let (one, two, copy) = (dir.path().join("1.db"), dir.path().join("2.db"), dir.path().join("copy.db"));
    let parts = parts("r", &snapshot_bytes(30).await);
    let running = [open(&one).await, open(&two).await];
    let [first, second] = [running[0].store(), running[1].store()];
    for index in 1..=50 {
        first.commit(write(index)).await.expect("a commit");
    }
    let (early, late) = parts.split_at(parts.len() / 2);
    first.commit(batch(51, early.to_vec())).await.expect("a commit");
    first.copy_to(&copy).await.expect("a copy");
    second.commit(batch(3, self::parts("old", b"old"))).await.expect("a commit");
    let _installed = second.install(&copy).await.expect("an installation");
    for store in [first, second] {
        // Committing again, as a replay does, changes nothing.
        for _ in 0..2 {
            store.commit(batch(52, late.to_vec())).await.expect("a commit");
        }
        let assembled = store.assemble(&id("r")).await.expect("all is there");
        assert_eq!(assembled.snapshot.position, Some(position(30)));
        assert_eq!(roll_back(store).await.expect("it goes back"), 30);
        assert!(matches!(roll_back(store).await, Err(RollBackError::Refused(Refusal::NotStaged(_)))));
    }
    let [first, second] = running;
    assert_eq!((first.close().await, second.close().await), (Some(100), Some(100)));
    let wanted = Dump { position: Some(100), ..expected(Some(30)) };
    assert_eq!(reopened(&one).await, wanted);
    assert_eq!(reopened(&two).await, wanted);
    assert_eq!(files(dir.path()), ["1.db", "1.db.lock", "2.db", "2.db.lock", "copy.db"]);
}

#[tokio::test]
async fn what_is_not_staged_as_a_whole_is_refused_and_the_store_stays_as_it_was() {
    let bytes = snapshot_bytes(10).await;
    let all = parts("r", &bytes);
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    let without = |part: usize| {
        let mut parts = all.clone();
        parts.remove(part);
        parts
    };
    let missing = |part| Refusal::Incomplete { restore: id("r"), part };
    let unstaged = Refusal::NotStaged(id("r"));
    let table = [
        (vec![], unstaged.clone()),
        (without(0), missing(0)),
        (without(2), missing(2)),
        (without(all.len() - 1), Refusal::Unusable(Fault::Truncated)),
        (parts("r", &flipped), Refusal::Unusable(Fault::Damaged)),
        (parts("r", b"something else"), Refusal::Unusable(Fault::Foreign)),
        ([all.clone(), vec![Change::DropStaged]].concat(), unstaged.clone()),
        ([all.clone(), parts("other", b"x")].concat(), unstaged),
        ([parts("r", b"x"), parts("other", b"x"), all[1..].to_vec()].concat(), missing(0)),
    ];
    for (n, (changes, wanted)) in table.into_iter().enumerate() {
        // In one batch and in one for each change, it comes to the same.
        for size in [changes.len().max(1), 1] {
            let dir = tempfile::tempdir().expect("a directory");
            let running = open(&dir.path().join("state.db")).await;
            let store = running.store();
            store.commit(write(1)).await.expect("a commit");
            for (index, changes) in (2..).zip(changes.chunks(size)) {
                store.commit(batch(index, changes.to_vec())).await.expect("a commit");
            }
            let before = dump(store).await;
            let error = roll_back(store).await.expect_err("a refusal");
            assert!(
                matches!(&error, RollBackError::Refused(refusal) if *refusal == wanted),
                "{n}: {error:?}"
            );
            assert_eq!(dump(store).await, before);
            running.close().await;
            assert_eq!(files(dir.path()), ["state.db", "state.db.lock"]);
        }
    }
}
