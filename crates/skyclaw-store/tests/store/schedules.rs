//! Schedules are written down with all else, and a snapshot brings back those of its time.

use std::path::Path;
use std::sync::Arc;

use skyclaw_core::{Change, Counters, Schedule, ScheduleSpec, StagedPart};
use skyclaw_store::snapshot::{self, Origin};
use skyclaw_store::{Batch, Store};

use crate::support::*;

fn schedule(n: u64, submitted: u64) -> Arc<Schedule> {
    let spec = ScheduleSpec {
        name: format!("n{n}"),
        cron: "* * * * *".into(),
        time_zone: "Europe/Berlin".into(),
        overlap: skyclaw_proto::Overlap::Queue,
        catch_up_ms: 1000,
        job: r#"{"payload":{"kind":"shell","command":"true"}}"#.into(),
    };
    Arc::new(Schedule {
        id: id(format!("sched_{n}")),
        spec: Arc::new(spec),
        paused: None,
        next_at: Some(at(60)),
        waiting: None,
        last: None,
        submitted,
        skipped: 0,
        missed: 0,
        created_at: at(1),
        updated_at: at(1),
        updated_by: id("node_a"),
        version: n,
        events: Vec::new(),
    })
}

async fn kept(path: &Path) -> Vec<Arc<Schedule>> {
    let running = open(path).await;
    let schedules = running.opened.schedules.clone();
    running.store().verify().await.expect("a sound database");
    running.close().await;
    schedules
}

#[tokio::test]
async fn schedules_are_there_after_a_restart_as_they_were_last_and_gone_when_they_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let running = open(&path).await;
    let all = (1..=3).map(|n| Change::Schedule(schedule(n, 0)));
    running.store().commit(batch(1, all)).await.expect("a commit");
    let later = [Change::Schedule(schedule(2, 7)), Change::RemoveSchedule(id("sched_1"))];
    running.store().commit(batch(2, later)).await.expect("a commit");
    // One that comes and goes within a batch was never there.
    let both = [Change::Schedule(schedule(4, 0)), Change::RemoveSchedule(id("sched_4"))];
    running.store().commit(batch(3, both)).await.expect("a commit");
    running.close().await;
    assert_eq!(kept(&path).await, [schedule(2, 7), schedule(3, 0)]);
}

/// A snapshot of a store, as the parts it travels in.
async fn snapshot_of(store: &Store, dir: &Path) -> Vec<u8> {
    let copy = dir.join("of.db");
    store.copy_to(&copy).await.expect("a copy");
    let origin = Origin { cluster: uuid::Uuid::from_u128(7), created_at: at(8) };
    let mut bytes = Vec::new();
    snapshot::write(&copy, origin, &mut bytes).await.expect("a snapshot");
    bytes
}

#[tokio::test]
async fn a_copy_brings_the_schedules_and_so_does_a_way_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let (one, two, copy) = (dir.path().join("1.db"), dir.path().join("2.db"), dir.path().join("copy.db"));
    let (source, target) = (open(&one).await, open(&two).await);
    source.store().commit(batch(1, [Change::Schedule(schedule(1, 0))])).await.expect("a commit");
    source.store().copy_to(&copy).await.expect("a copy");
    let installed = target.store().install(&copy).await.expect("an installation");
    assert_eq!(installed.schedules, [schedule(1, 0)]);
    let bytes = snapshot_of(source.store(), dir.path()).await;
    source.close().await;

    let later = [Change::Schedule(schedule(1, 5)), Change::Schedule(schedule(2, 0))];
    target.store().commit(batch(2, later)).await.expect("a commit");
    let part = StagedPart { restore: id("r"), part: 0, bytes };
    target.store().commit(batch(3, [Change::Stage(Arc::new(part))])).await.expect("a commit");
    let assembled = target.store().assemble(&id("r")).await.expect("a sound snapshot");
    let mut over = Batch::default();
    over.reach(position(4), assembled.counters(Counters::default()));
    let back = target.store().roll_back(assembled, over).await.expect("a way back");
    assert_eq!(back.schedules, [schedule(1, 0)]);
    target.close().await;
    assert_eq!(kept(&two).await, [schedule(1, 0)]);
}
