//! A snapshot file gives back what it was made of, or says why it does not.

use std::path::Path;

use skyclaw_proto::JobStatus;
use skyclaw_store::snapshot::{self, Error, Fault, Header, Origin};

use crate::crash::write;
use crate::support::*;

/// Makes a snapshot of a store that has come to `index`; returns what the store held.
pub(crate) async fn snapshot_of(index: u64, to: &Path) -> (Header, Dump) {
    let dir = tempfile::tempdir().expect("a directory");
    let copy = dir.path().join("copy.db");
    let running = open(&dir.path().join("state.db")).await;
    for index in 1..=index {
        running.store().commit(write(index)).await.expect("a commit");
    }
    let dump = dump(running.store()).await;
    running.store().copy_to(&copy).await.expect("a copy");
    running.close().await;
    let mut bytes = Vec::new();
    let origin = Origin { cluster: uuid::Uuid::from_u128(7), created_at: at(8) };
    let header = snapshot::write(&copy, origin, &mut bytes).await.expect("a snapshot");
    std::fs::write(to, bytes).expect("a file");
    (header, dump)
}

#[tokio::test]
async fn a_snapshot_says_what_it_holds_and_gives_it_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, copy) = (dir.path().join("a.snap"), dir.path().join("copy.db"));
    let (written, dump) = snapshot_of(40, &file).await;
    let header = snapshot::inspect(&file).await.expect("a sound snapshot");
    assert_eq!(header, written);
    assert_eq!((header.cluster, header.created_at), (uuid::Uuid::from_u128(7), at(8)));
    assert_eq!((&header.position, header.counters), (&Some(position(40)), counters(40)));
    for status in JobStatus::ALL {
        let held = dump.jobs.iter().filter(|job| job.status() == *status).count();
        assert_eq!(header.counts.jobs.get(status).copied().unwrap_or(0), held as u64, "{status}");
    }
    assert_eq!(snapshot::extract(&file, &copy).await.expect("a copy"), header);
    assert_eq!(header.database_bytes, std::fs::metadata(&copy).expect("the copy").len());
    assert_eq!(dump_copy(&copy).await, dump);
    assert_eq!(files(dir.path()), ["a.snap", "copy.db"]);
}

#[tokio::test]
async fn a_file_that_is_no_sound_snapshot_is_refused_by_name_and_gives_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, copy) = (dir.path().join("a.snap"), dir.path().join("copy.db"));
    snapshot_of(20, &file).await;
    let whole = std::fs::read(&file).expect("the snapshot");
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        bytes
    };
    let table = [
        (flipped(whole.len() / 2), Fault::Damaged),
        (flipped(whole.len() - 1), Fault::Damaged),
        (whole[..whole.len() / 2].to_vec(), Fault::Truncated),
        (whole[..whole.len() - 1].to_vec(), Fault::Truncated),
        (Vec::new(), Fault::Truncated),
        ([&whole[..], b"more"].concat(), Fault::Overlong),
        (b"SQLite format 3\0 and so on".to_vec(), Fault::Foreign),
    ];
    for (bytes, expected) in table {
        std::fs::write(&file, bytes).expect("a file");
        for error in [snapshot::inspect(&file).await, snapshot::extract(&file, &copy).await] {
            let error = error.expect_err("a refusal");
            assert!(error.to_string().contains("a.snap"), "{error}");
            assert!(matches!(&error, Error::Unusable { fault, .. } if *fault == expected), "{error:?}");
        }
        assert_eq!(files(dir.path()), ["a.snap"], "{expected:?}");
    }
}

#[tokio::test]
async fn a_snapshot_is_not_made_of_a_database_in_use() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let running = open(&path).await;
    running.store().commit(write(1)).await.expect("a commit");
    let origin = Origin { cluster: uuid::Uuid::nil(), created_at: at(8) };
    let error = snapshot::write(&path, origin, Vec::new()).await.expect_err("a refusal");
    assert!(matches!(error, Error::InUse(_)), "{error:?}");
    running.close().await;
}
