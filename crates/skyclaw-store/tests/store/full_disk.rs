//! A disk that is full refuses writes, not reads, and is forgiven once there is room.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use skyclaw_core::Change;
use skyclaw_store::{Batch, CommitError, FileError, OpenError};

use crate::support::*;

/// A file system of its own, for which the test must be run as root.
pub(crate) struct Mount(PathBuf);

impl Mount {
    pub(crate) fn new(at: &Path, options: &str) -> Option<Self> {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(at).output().ok()?;
        mounted.status.success().then(|| Self(at.into()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a failed test may still have files open there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

fn large(index: u64) -> Arc<Batch> {
    let jobs = (1..=400).map(|n| {
        let mut job = job(index * 400 + n, 1);
        job.labels.insert("filler".into(), "x".repeat(250));
        Change::Job(Arc::new(job))
    });
    batch(index, jobs)
}

#[tokio::test]
async fn a_full_disk_refuses_writes_but_not_reads_and_takes_the_same_batch_once_there_is_room() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(_mount) = Mount::new(dir.path(), "size=4m") else {
        eprintln!("not shown: mounting a tmpfs is not allowed here");
        return;
    };
    let path = dir.path().join("state.db");
    let running = open(&path).await;
    let store = running.store();
    let ballast = dir.path().join("ballast");
    store.commit(large(1)).await.expect("there is room");
    let before = dump(store).await;
    std::fs::write(&ballast, vec![1; 8 << 20]).expect_err("the disk is full");
    let refused = large(2);
    for _ in 0..3 {
        let error = store.commit(Arc::clone(&refused)).await.expect_err("the disk is full");
        assert!(matches!(error, CommitError::Full(_)), "{error:?}");
    }
    assert!(matches!(store.checkpoint().await, Ok(Some(1)) | Err(CommitError::Full(_))));
    assert_eq!(dump(store).await, before, "reads go on and see what was there");
    std::fs::remove_file(&ballast).expect("room is made");
    store.commit(refused).await.expect("there is room");
    assert_eq!(store.checkpoint().await.expect("a checkpoint"), Some(2));
    assert_eq!(dump(store).await.jobs.len(), 800);
    running.close().await;
    assert_eq!(open(&path).await.close().await, Some(2));
}

#[tokio::test]
async fn a_read_only_file_system_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(_mount) = Mount::new(dir.path(), "ro") else {
        eprintln!("not shown: mounting a tmpfs is not allowed here");
        return;
    };
    let error = try_open(&dir.path().join("state.db")).await.err().expect("a refusal");
    assert!(matches!(error, OpenError::File(FileError::Io { .. })), "{error:?}");
    assert!(error.to_string().contains("state.db"), "{error}");
}
