//! A copy is one consistent moment; installing one is all or nothing.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use skyclaw_core::Change;
use skyclaw_store::snapshot::Extraction;
use skyclaw_store::{InstallError, Installed, OpenError, ReplyId, Store};

use crate::crash::{expected, write};
use crate::damage::{fill, flip, sql};
use crate::full_disk::Mount;
use crate::support::*;

/// A copy at `path` of a store that has come to `index`.
async fn copy_of(index: u64, path: &Path) {
    let dir = tempfile::tempdir().expect("a directory");
    let running = open(&dir.path().join("state.db")).await;
    for index in 1..=index {
        running.store().commit(write(index)).await.expect("a commit");
    }
    running.store().copy_to(path).await.expect("a copy");
    running.close().await;
}

fn same(installed: &Installed, dump: &Dump) {
    let Installed { hosts, active_jobs, services, position, .. } = installed;
    let active: Vec<_> = dump.jobs.iter().filter(|job| !job.is_ended()).cloned().collect();
    assert_eq!((hosts, active_jobs, services), (&dump.hosts, &active, &dump.services));
    assert_eq!(position.as_ref().map(|position| position.index), dump.position);
}

#[tokio::test]
async fn a_copy_made_while_batches_are_written_is_one_position_with_exactly_its_records() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = open(&dir.path().join("state.db")).await;
    let store = running.store();
    let to = dir.path().join("copy.db");
    let mut next = 1;
    let mut positions = Vec::new();
    for round in 0..5 {
        let last = next + 20;
        let writing = async {
            for index in next..last {
                store.commit(write(index)).await.expect("a commit");
                if round == 3 {
                    store.checkpoint().await.expect("a checkpoint");
                }
            }
        };
        let (copied, ()) = tokio::join!(store.copy_to(&to), writing);
        let copied = copied.expect("a copy");
        let dump = dump_copy(&to).await;
        assert_eq!(dump, expected(dump.position));
        assert_eq!(copied.position.as_ref().map(|position| position.index), dump.position);
        assert_eq!(copied.counters, copied.position.map_or_else(Default::default, |p| counters(p.index)));
        assert_eq!(copied.bytes, std::fs::metadata(&to).expect("the copy").len());
        assert!(dump.position >= (next > 1).then(|| next - 1), "what was committed before is in it");
        positions.push(dump.position);
        next = last;
    }
    assert!(positions.is_sorted(), "{positions:?}");
    assert_eq!(store.checkpoint().await.expect("a checkpoint"), Some(next - 1));
    running.close().await;
    assert_eq!(files(dir.path()), ["copy.db", "state.db", "state.db.lock"]);
}

#[tokio::test]
async fn a_copy_of_a_new_store_and_of_a_closed_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, to) = (dir.path().join("state.db"), dir.path().join("copy.db"));
    let running = open(&path).await;
    let store = running.store().clone();
    assert_eq!(store.copy_to(&to).await.expect("a copy").position, None);
    assert_eq!(dump_copy(&to).await, Dump::default());
    let installed = store.install(&to).await.expect("an installation");
    same(&installed, &Dump::default());
    running.close().await;
    assert!(matches!(store.copy_to(&to).await, Err(skyclaw_store::CopyError::Closed)));
}

#[tokio::test]
async fn a_copy_that_finds_no_room_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let small = dir.path().join("small");
    std::fs::create_dir(&small).expect("a directory");
    let Some(_mount) = Mount::new(&small, "size=64k") else {
        eprintln!("not shown: mounting a tmpfs is not allowed here");
        return;
    };
    let path = dir.path().join("state.db");
    fill(&path).await;
    let running = open(&path).await;
    let error = running.store().copy_to(&small.join("copy.db")).await.expect_err("no room");
    assert!(matches!(error, skyclaw_store::CopyError::Full(_)), "{error:?}");
    assert!(files(&small).is_empty());
    running.store().copy_to(&dir.path().join("copy.db")).await.expect("room elsewhere");
    running.close().await;
}

#[tokio::test]
async fn opening_removes_what_a_crash_left_of_copies_but_not_one_that_is_being_made() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["a.db1.unfinished", "a.db1.unfinished-journal", "b.unfinished-wal", "kept.db"] {
        std::fs::write(dir.path().join(name), "half").expect("a file");
    }
    let extraction = Extraction::begin(&dir.path().join("c.db")).await.expect("a beginning");
    open(&dir.path().join("state.db")).await.close().await;
    let left = files(dir.path());
    assert!(left[0].starts_with("c.db") && left[0].ends_with(".unfinished"), "{left:?}");
    assert_eq!(left[1..], ["kept.db", "state.db", "state.db.lock"]);
    drop(extraction);
    assert_eq!(files(dir.path()).len(), 3);
}

#[tokio::test]
async fn installing_replaces_everything_for_every_handle_and_for_good() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, to) = (dir.path().join("state.db"), dir.path().join("copy.db"));
    copy_of(40, &to).await;
    fill(&path).await;
    let running = open(&path).await;
    let store = running.store();
    let change = [Change::Service(Arc::new(service(1, 2))), Change::Reply(Arc::new(reply(5, 9)))];
    store.commit(batch(70, change)).await.expect("a commit");
    let before = dump(store).await;
    let mut under_way = store.export().await.expect("an export");

    let installed = store.install(&to).await.expect("an installation");
    same(&installed, &expected(Some(40)));
    assert_eq!(installed.counters, counters(40));
    assert_eq!(dump(store).await, expected(Some(40)));
    assert!(store.job(&id("job_0300")).await.expect("a read").is_none(), "the old jobs are gone");
    assert!(
        store.replies(&[ReplyId::of(&key(5, 9))]).await.expect("a read").is_empty(),
        "and the old replies"
    );
    let mut jobs = 0;
    while let Some(section) = under_way.next().await.expect("it reads on") {
        jobs += if let skyclaw_store::Section::Jobs(jobs) = section { jobs.len() } else { 0 };
    }
    assert_eq!((jobs, under_way.position().map(|p| p.index)), (before.jobs.len(), Some(70)));
    drop(under_way);

    assert_eq!(store.checkpoint().await.expect("a checkpoint"), Some(40));
    store.commit(write(41)).await.expect("a commit");
    store.verify().await.expect("it is whole");
    running.close().await;
    let running = open(&path).await;
    assert_eq!(dump(running.store()).await, expected(Some(41)));
    running.close().await;
}

#[tokio::test]
async fn an_installation_cut_off_anywhere_leaves_the_old_or_the_new_content_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, to) = (dir.path().join("state.db"), dir.path().join("copy.db"));
    copy_of(60, &to).await;
    let running = open(&path).await;
    for index in 1..=20 {
        running.store().commit(write(index)).await.expect("a commit");
    }
    running.close().await;
    let running = open(&path).await;
    // As long as this reads the main file, only the write-ahead log is written to.
    let mut holding = running.store().export().await.expect("an export");
    let main = std::fs::read(&path).expect("the database");
    let _installed = running.store().install(&to).await.expect("an installation");
    assert!(std::fs::read(&path).expect("the database") == main, "the main file is as it was");
    let log = std::fs::read(dir.path().join("state.db-wal")).expect("the log");
    while holding.next().await.expect("a section").is_some() {}
    drop(holding);
    running.close().await;
    let mut found = Vec::new();
    for cut in (0..=log.len()).step_by(log.len() / 40).chain([log.len()]) {
        let copy = tempfile::tempdir().expect("a directory");
        let path = copy.path().join("state.db");
        std::fs::write(&path, &main).expect("a copy");
        std::fs::write(copy.path().join("state.db-wal"), &log[..cut]).expect("a copy");
        let running = open(&path).await;
        let dump = dump(running.store()).await;
        assert_eq!(dump, expected(dump.position), "cut at {cut} of {}", log.len());
        running.close().await;
        found.push(dump.position);
    }
    assert!(found.is_sorted());
    assert_eq!((found.first(), found.last()), (Some(&Some(20)), Some(&Some(60))));
    assert!(found.iter().all(|position| [Some(20), Some(60)].contains(position)), "{found:?}");
}

const CHILD_DIR: &str = "STORE_INSTALL_CHILD_DIR";

/// The process that is killed: installs two copies in turn and prints each time.
#[tokio::test]
#[ignore = "run as a process of its own by killed_while_installing_the_old_or_the_new_content_is_there"]
async fn child_that_installs_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let dir = Path::new(&dir);
    let running = open(&dir.join("state.db")).await;
    for index in [30, 45].into_iter().cycle() {
        let _installed = running.store().install(&dir.join(format!("{index}.db"))).await.expect("it works");
        println!("\ninstalled {index}");
    }
}

#[tokio::test]
async fn killed_while_installing_the_old_or_the_new_content_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    for index in [30, 45] {
        copy_of(index, &dir.path().join(format!("{index}.db"))).await;
    }
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "--nocapture", "copies::child_that_installs_until_it_is_killed"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let out = BufReader::new(child.stdout.take().expect("its output"));
        let told = out.lines().map_while(Result::ok).filter(|line| line.starts_with("installed "));
        assert_eq!(told.take(1 + round).count(), 1 + round, "the child goes on until it is killed");
        child.kill().expect("a kill");
        child.wait().expect("an end");
        let running = open(&dir.path().join("state.db")).await;
        let dump = dump(running.store()).await;
        assert!([Some(30), Some(45)].contains(&dump.position), "{:?}", dump.position);
        assert_eq!(dump, expected(dump.position));
        running.close().await;
    }
}

async fn refusal(store: &Store, copy: &Path) -> InstallError {
    let before = dump(store).await;
    let error = store.install(copy).await.expect_err("a refusal");
    assert_eq!(dump(store).await, before, "the store is as it was");
    error
}

#[tokio::test]
async fn a_copy_that_cannot_be_used_is_refused_and_the_store_stays_as_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    fill(&at("state.db")).await;
    let running = open(&at("state.db")).await;
    let store = running.store();
    let error = refusal(store, &at("none.db")).await;
    assert!(matches!(error, InstallError::Missing(_)), "{error:?}");

    store.copy_to(&at("flipped.db")).await.expect("a copy");
    flip(&at("flipped.db"), br#"{"id":"job_0004""#);
    store.copy_to(&at("cut.db")).await.expect("a copy");
    std::fs::OpenOptions::new()
        .write(true)
        .open(at("cut.db"))
        .and_then(|f| f.set_len(30_000))
        .expect("a cut");
    std::fs::write(at("text.db"), "no database").expect("a file");
    for name in ["flipped.db", "cut.db", "text.db"] {
        let error = refusal(store, &at(name)).await;
        assert!(matches!(error, InstallError::Damaged { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }

    sql(&at("foreign.db"), "CREATE TABLE state (json TEXT)").await;
    let error = refusal(store, &at("foreign.db")).await;
    assert!(matches!(error, InstallError::Copy(OpenError::File(_))), "{error:?}");

    store.copy_to(&at("newer.db")).await.expect("a copy");
    sql(&at("newer.db"), "INSERT INTO _sqlx_migrations VALUES (99, 'later', 0, 1, x'00', 0)").await;
    let error = refusal(store, &at("newer.db")).await;
    assert!(matches!(error, InstallError::Copy(OpenError::Newer { .. })), "{error:?}");
    store.commit(write(90)).await.expect("the store goes on");
    running.close().await;
}

#[tokio::test]
async fn a_copy_of_the_schema_before_is_brought_up_to_date_and_so_is_a_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, to) = (dir.path().join("state.db"), dir.path().join("copy.db"));
    copy_of(40, &to).await;
    sql(&to, "DROP INDEX jobs_by_end; DROP INDEX jobs_by_keep; ALTER TABLE jobs DROP COLUMN ended_at; ALTER TABLE jobs DROP COLUMN keep_until; DROP TABLE restores; DROP TABLE freezes; DROP TABLE schedules; DROP TABLE events; DELETE FROM _sqlx_migrations WHERE version >= 3")
        .await;
    std::fs::copy(&to, &path).expect("a copy");
    let running = open(&path).await;
    assert_eq!(dump(running.store()).await, expected(Some(40)));
    running.store().commit(write(41)).await.expect("a commit");
    let installed = running.store().install(&to).await.expect("an installation");
    same(&installed, &expected(Some(40)));
    running.close().await;
}
