//! What is written is read back.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use skyclaw_core::{Change, Job};
use skyclaw_store::{CommitError, ReadError, ReplyId};

use crate::support::*;

#[tokio::test]
async fn every_record_is_read_back_as_it_was_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("deep/er/state.db");
    let running = open(&path).await;
    assert_eq!(running.opened.position, None);
    let jobs: Vec<_> = (1..=300).map(|n| Arc::new(job(n, n))).collect();
    let hosts: Vec<_> = (0..3).map(|n| Arc::new(host(n, 1))).collect();
    let services: Vec<_> = (400..402).map(|n| Arc::new(service(n, 1))).collect();
    let replies: Vec<_> = (0..5).map(|n| Arc::new(reply(n, 50))).collect();
    let mut changes: Vec<Change> = jobs.iter().cloned().map(Change::Job).collect();
    changes.extend(hosts.iter().cloned().map(Change::Host));
    changes.extend(services.iter().cloned().map(Change::Service));
    changes.extend(replies.iter().cloned().map(Change::Reply));
    let written = batch(7, changes);
    running.store().commit(Arc::clone(&written)).await.expect("a commit");
    let before = dump(running.store()).await;
    running.store().commit(written).await.expect("the same again");
    assert_eq!(dump(running.store()).await, before, "committing again changes nothing");
    assert_eq!(running.store().checkpoint().await.expect("a checkpoint"), Some(7));
    assert_eq!(running.close().await, Some(7));

    let again = open(&path).await;
    let opened = &again.opened;
    assert_eq!(opened.position, Some(position(7)));
    assert_eq!(opened.counters, counters(7));
    assert_eq!((&opened.hosts, &opened.services), (&hosts, &services));
    let active: Vec<_> = jobs.iter().filter(|job| !job.is_ended()).cloned().collect();
    assert_eq!(opened.active_jobs, active);
    let all = dump(again.store()).await;
    assert_eq!((&all.hosts, &all.jobs, &all.services), (&hosts, &jobs, &services));
    assert_eq!(again.store().job(&id("job_0042")).await.expect("a read"), Some(Arc::clone(&jobs[41])));
    assert_eq!(again.store().job(&id("job_none")).await.expect("a read"), None);
    let ids: Vec<_> = (0..9).map(|n| ReplyId::of(&key(n, 1))).collect();
    let stored = again.store().replies(&ids).await.expect("a read");
    assert_eq!(stored, replies.into_iter().map(|reply| (ReplyId::of(&reply.key), reply)).collect());
    again.store().verify().await.expect("nothing is damaged");
    again.close().await;
}

#[tokio::test]
async fn a_job_that_ended_and_is_queued_again_is_active_under_its_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let running = open(&path).await;
    let ended = job(5, 2);
    assert!(ended.is_ended());
    running.store().commit(batch(1, vec![Change::Job(Arc::new(ended.clone()))])).await.expect("a commit");
    let again = Arc::new(Job { phase: skyclaw_core::Phase::Queued, version: 9, ..ended });
    running.store().commit(batch(2, vec![Change::Job(Arc::clone(&again))])).await.expect("a commit");
    running.close().await;
    let opened = open(&path).await;
    assert_eq!(opened.opened.active_jobs, [Arc::clone(&again)]);
    assert_eq!(opened.store().job(&again.id).await.expect("a read"), Some(again));
    opened.close().await;
}

#[tokio::test]
async fn the_greatest_id_is_that_of_a_uuid_of_version_7_whatever_else_there_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = open(&dir.path().join("state.db")).await;
    assert_eq!(running.store().greatest_job_id().await.expect("a read"), None);
    let greatest = "job_0193ffff-0000-7abc-8000-000000000002";
    let ids = [
        "job_0193ffff-0000-7abc-8000-000000000001",
        greatest,
        "job_ffffffff-0000-4abc-8000-000000000000",
        "job_FFFFFFFF-0000-7abc-8000-000000000000",
        "job_zzzz",
        "mine",
    ];
    let named = |(n, name): (u64, &&str)| Change::Job(Arc::new(Job { id: id(name), ..job(n, n) }));
    let written = batch(9, (1..).zip(&ids).map(named));
    running.store().commit(written).await.expect("a commit");
    assert_eq!(running.store().greatest_job_id().await.expect("a read"), Some(id(greatest)));
    running.close().await;
}

#[tokio::test]
async fn files_are_for_their_owner_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("made/state.db");
    let running = open(&path).await;
    running.store().commit(batch(1, [Change::Host(Arc::new(host(1, 1)))])).await.expect("a commit");
    let mode = |path: &std::path::Path| path.metadata().expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().expect("a parent")), 0o700);
    let mut names = Vec::new();
    for entry in path.parent().expect("a parent").read_dir().expect("a listing") {
        let entry = entry.expect("an entry");
        assert_eq!(mode(&entry.path()), 0o600, "{:?}", entry.path());
        names.push(entry.file_name().into_string().expect("a name"));
    }
    names.sort();
    assert_eq!(names, ["state.db", "state.db-shm", "state.db-wal", "state.db.lock"]);
    running.close().await;
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = open(&dir.path().join("state.db")).await;
    let store = running.store().clone();
    running.close().await;
    assert!(matches!(store.commit(batch(1, [])).await, Err(CommitError::Closed)));
    assert!(matches!(store.checkpoint().await, Err(CommitError::Closed)));
    assert!(matches!(store.job(&id("job_1")).await, Err(ReadError::Closed)));
    assert!(matches!(store.export().await.err(), Some(ReadError::Closed)));
}

#[tokio::test]
async fn a_batch_without_a_place_in_the_log_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = open(&dir.path().join("state.db")).await;
    let mut batch = skyclaw_store::Batch::default();
    batch.absorb([Change::Host(Arc::new(host(1, 1)))]);
    assert!(matches!(running.store().commit(Arc::new(batch)).await, Err(CommitError::NoPosition)));
    assert_eq!(dump(running.store()).await, Dump::default());
    running.close().await;
}

#[tokio::test]
async fn an_export_sees_one_moment_and_does_not_hold_up_a_checkpoint() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = open(&dir.path().join("state.db")).await;
    let store = running.store();
    store.commit(batch(1, (1..=200).map(|n| Change::Job(Arc::new(job(n, 1)))))).await.expect("a commit");
    let mut export = store.export().await.expect("an export");
    store.commit(batch(2, (1..=300).map(|n| Change::Job(Arc::new(job(n, 2)))))).await.expect("a commit");
    assert_eq!(store.checkpoint().await.expect("a checkpoint"), Some(2));
    assert_eq!(export.position(), Some(&position(1)));
    let mut seen = 0;
    while let Some(skyclaw_store::Section::Jobs(jobs)) = export.next().await.expect("a section") {
        assert!(jobs.iter().all(|job| job.version == 1));
        seen += jobs.len();
    }
    assert_eq!(seen, 200);
    drop(export);
    assert_eq!(dump(store).await.jobs.len(), 300);
    running.close().await;
}
