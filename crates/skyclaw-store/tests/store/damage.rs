//! What is wrong with a file is told, and the file is left as it is.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use skyclaw_core::Change;
use skyclaw_store::{FileError, OpenError, ReadError};
use sqlx::{Connection, SqlSafeStr, SqliteConnection};

use crate::support::*;

/// Makes a store with a few hundred jobs, all of it in the main file.
pub(crate) async fn fill(path: &Path) {
    let running = open(path).await;
    let jobs = (1..=400).map(|n| Change::Job(Arc::new(job(n, n))));
    running
        .store()
        .commit(batch(
            1,
            jobs.chain([Change::Host(Arc::new(host(1, 1))), Change::Reply(Arc::new(reply(1, 9)))]),
        ))
        .await
        .expect("a commit");
    running.close().await;
}

/// The contents of the database and its write-ahead log; an empty log is as good as none.
fn contents(path: &Path) -> [Vec<u8>; 2] {
    ["", "-wal"].map(|suffix| std::fs::read(format!("{}{suffix}", path.display())).unwrap_or_default())
}

async fn refusal(path: &Path) -> OpenError {
    let before = contents(path);
    let error = try_open(path).await.err().expect("a refusal");
    assert!(contents(path) == before, "the files are left as they are: {error:?}");
    let sentence = error.to_string();
    assert!(sentence.contains(&path.display().to_string()), "the file is named: {sentence}");
    error
}

pub(crate) async fn sql(path: &Path, sql: impl SqlSafeStr) {
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let mut conn = SqliteConnection::connect(&url).await.expect("a connection");
    sqlx::raw_sql(sql).execute(&mut conn).await.expect("a statement");
    conn.close().await.expect("a close");
}

/// Flips a bit a little behind a text, in every place it is found: what SQLite moved about leaves copies.
pub(crate) fn flip(path: &Path, text: &[u8]) {
    let mut bytes = std::fs::read(path).expect("a file");
    let found: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(text)).collect();
    assert!(!found.is_empty(), "the text is in the file");
    for at in found {
        bytes[at + text.len() + 8] ^= 1;
    }
    std::fs::write(path, bytes).expect("a write");
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_what_to_do() {
    type Damage = fn(&Path);
    let truncate = |path: &Path, to: u64| {
        let file = std::fs::OpenOptions::new().write(true).open(path).expect("a file");
        file.set_len(to).expect("a cut");
    };
    let table: &[(&str, Damage)] = &[
        ("cut to nothing", |path| std::fs::write(path, b"").expect("a write")),
        ("cut within the header", |path| std::fs::write(path, b"SQLite format 3\0abc").expect("a write")),
        ("garbage header", |path| overwrite(path, 0, &[0xa5; 16])),
        ("no file, but its log", |path| {
            std::fs::rename(path, format!("{}-wal", path.display())).expect("a rename");
        }),
        ("page of the schema zeroed", |path| overwrite(path, 100, &[0; 3000])),
        ("pages zeroed", |path| overwrite(path, 5 * 4096, &[0; 4 * 4096])),
        ("flipped bit in an active job", |path| flip(path, br#"{"id":"job_0004""#)),
        ("flipped bit in a host", |path| flip(path, br#"{"id":"h1""#)),
    ];
    let dir = tempfile::tempdir().expect("a directory");
    for (n, (name, damage)) in table.iter().enumerate() {
        let path = dir.path().join(format!("{n}.db"));
        fill(&path).await;
        damage(&path);
        let error = refusal(&path).await;
        assert!(matches!(error, OpenError::File(FileError::Damaged { .. })), "{name}: {error:?}");
        assert!(error.to_string().contains("restore it from a backup"), "{name}: {error}");
    }
    for pages in [1, 7, 40] {
        let path = dir.path().join(format!("cut{pages}.db"));
        fill(&path).await;
        truncate(&path, pages * 4096 + 100);
        let error = refusal(&path).await;
        assert!(
            matches!(error, OpenError::File(FileError::Damaged { .. })),
            "cut to {pages} pages: {error:?}"
        );
    }
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("a file");
    file.write_all_at(bytes, at).expect("a write");
}

#[tokio::test]
async fn records_that_do_not_belong_together_are_damage() {
    let table = [
        "DELETE FROM applied",
        "UPDATE applied SET log_index = log_index + 1",
        "UPDATE applied SET position = x'00'",
        "UPDATE jobs SET status = 1 WHERE seq = 4",
        "UPDATE jobs SET id = 'job_other' WHERE seq = 4",
        "INSERT INTO jobs SELECT 20000, 'job_late', 2, NULL, NULL, body, crc, ended_at, keep_until FROM jobs WHERE seq = 6",
        "UPDATE hosts SET crc = crc + 1",
        "DROP TABLE services",
    ];
    let dir = tempfile::tempdir().expect("a directory");
    for (n, statement) in table.into_iter().enumerate() {
        let path = dir.path().join(format!("{n}.db"));
        fill(&path).await;
        sql(&path, statement).await;
        let error = refusal(&path).await;
        assert!(matches!(error, OpenError::File(FileError::Damaged { .. })), "{statement}: {error:?}");
    }
}

#[tokio::test]
async fn damage_in_the_history_is_found_when_it_is_read_and_by_verify() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    fill(&path).await;
    sql(&path, "UPDATE jobs SET body = replace(body, 'true', 'evil') WHERE seq = 6").await;
    let running = open(&path).await;
    let store = running.store();
    assert!(matches!(store.job(&id("job_0006")).await, Err(ReadError::Damaged(_))));
    assert!(matches!(store.page(&Default::default(), None, 1000).await, Err(ReadError::Damaged(_))));
    assert!(matches!(store.verify().await, Err(ReadError::Damaged(_))));
    assert!(store.job(&id("job_0007")).await.expect("a read").is_some(), "the others can be read");
    running.close().await;
}

#[tokio::test]
async fn verify_finds_what_does_not_agree_with_the_records() {
    let table = [
        "UPDATE jobs SET host = 'h9' WHERE seq = 6",
        "UPDATE jobs SET submitter = 'someone' WHERE seq = 6",
        "UPDATE replies SET body = replace(body, 'k', 'q')",
        "UPDATE replies SET expires_at = expires_at + 1",
    ];
    let dir = tempfile::tempdir().expect("a directory");
    for (n, statement) in table.into_iter().enumerate() {
        let path = dir.path().join(format!("{n}.db"));
        fill(&path).await;
        let running = open(&path).await;
        running.store().verify().await.expect("all is well");
        running.close().await;
        sql(&path, statement).await;
        let running = open(&path).await;
        assert!(matches!(running.store().verify().await, Err(ReadError::Damaged(_))), "{statement}");
        running.close().await;
    }
}

#[tokio::test]
async fn a_database_of_another_program_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("coordinator.db");
    sql(&path, "PRAGMA journal_mode = WAL; CREATE TABLE state (json TEXT); INSERT INTO state VALUES ('{}')")
        .await;
    let error = refusal(&path).await;
    assert!(matches!(error, OpenError::File(FileError::Foreign { .. })), "{error:?}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    fill(&path).await;
    sql(&path, "INSERT INTO _sqlx_migrations VALUES (99, 'later', 0, 1, x'00', 0)").await;
    let error = refusal(&path).await;
    assert!(matches!(error, OpenError::Newer { found: 99, known: 8, .. }), "{error:?}");
}

#[tokio::test]
async fn a_database_in_use_is_refused_until_it_is_closed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let running = open(&path).await;
    let error = refusal(&path).await;
    assert!(matches!(error, OpenError::File(FileError::InUse { .. })), "{error:?}");
    running.store().commit(batch(1, [])).await.expect("the first is not disturbed");
    running.close().await;
    open(&path).await.close().await;
}

#[tokio::test]
async fn a_path_that_cannot_hold_a_database_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let error = refusal(dir.path()).await;
    assert!(matches!(error, OpenError::File(FileError::NotAFile { .. })), "{error:?}");
    let file = dir.path().join("file");
    std::fs::write(&file, "x").expect("a file");
    let error = try_open(&file.join("state.db")).await.err().expect("a refusal");
    assert!(matches!(error, OpenError::File(FileError::Io { .. })), "{error:?}");
}

#[tokio::test]
async fn a_creation_that_was_cut_short_is_begun_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    std::fs::write(dir.path().join("state.db.new"), "half").expect("a file");
    std::fs::write(dir.path().join("state.db.new-journal"), "half").expect("a file");
    let running = open(&path).await;
    assert_eq!(dump(running.store()).await, Dump::default());
    running.close().await;
}
