//! What is frozen stays so until a command ends it.

use std::path::Path;
use std::sync::Arc;

use skyclaw_core::{Change, Counters, Freeze, Thawed};
use skyclaw_proto::Scope;
use skyclaw_store::Batch;

use crate::snapshots::snapshot_of;
use crate::support::*;

fn freeze(number: u64, thawed: bool) -> Arc<Freeze> {
    Arc::new(Freeze {
        number,
        id: id(format!("freeze_{number}")),
        scope: Scope::default(),
        at: at(1),
        node: id("node_a"),
        reason: Some("odd".into()),
        by: None,
        thawed: thawed.then(|| Thawed { at: at(2), by: None }),
    })
}

async fn kept(path: &Path) -> Vec<Arc<Freeze>> {
    let running = open(path).await;
    let freezes = running.opened.freezes.clone();
    running.store().verify().await.expect("a sound database");
    running.close().await;
    freezes
}

#[tokio::test]
async fn freezes_are_there_after_a_restart_as_they_were_last_and_forgotten_when_they_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let running = open(&path).await;
    let all = (1..=3).map(|number| Change::Freeze(freeze(number, false)));
    running.store().commit(batch(1, all)).await.expect("a commit");
    let over = [Change::Freeze(freeze(2, true)), Change::ForgetFreeze(1)];
    running.store().commit(batch(2, over)).await.expect("a commit");
    running.close().await;
    assert_eq!(kept(&path).await, [freeze(2, true), freeze(3, false)]);
}

#[tokio::test]
async fn a_copy_brings_what_is_frozen_and_a_way_back_leaves_it_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let (one, two, copy) = (dir.path().join("1.db"), dir.path().join("2.db"), dir.path().join("copy.db"));
    let (source, target) = (open(&one).await, open(&two).await);
    source.store().commit(batch(1, [Change::Freeze(freeze(1, false))])).await.expect("a commit");
    source.store().copy_to(&copy).await.expect("a copy");
    let installed = target.store().install(&copy).await.expect("an installation");
    assert_eq!(installed.freezes, [freeze(1, false)]);
    source.close().await;

    // A snapshot of a time when nothing was frozen.
    let file = dir.path().join("a.snap");
    snapshot_of(30, &file).await;
    let part = skyclaw_core::StagedPart {
        restore: id("r"),
        part: 0,
        bytes: std::fs::read(&file).expect("the snapshot"),
    };
    target.store().commit(batch(2, [Change::Stage(Arc::new(part))])).await.expect("a commit");
    let assembled = target.store().assemble(&id("r")).await.expect("a sound snapshot");
    let mut over = Batch::default();
    over.reach(position(3), assembled.counters(Counters::default()));
    let back = target.store().roll_back(assembled, over).await.expect("a way back");
    assert!(!back.active_jobs.is_empty(), "the rest is as in the snapshot");
    target.close().await;
    assert_eq!(kept(&two).await, [freeze(1, false)]);
}
