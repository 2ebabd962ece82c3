//! The shape of the file: who it belongs to, its tables, and the numbers that stand for words in it.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlSafeStr};
use std::path::Path;
use std::time::Duration;

use skyclaw_proto::JobStatus;

/// Marks a SQLite file as ours, in its header: "SkyC".
pub(crate) const APPLICATION_ID: u32 = 0x536b_7943;

/// The schema this program writes: the version of the last migration.
pub(crate) const VERSION: i64 = 8;

/// The migrations, oldest first. One that was released is never changed, only followed by another.
pub(crate) fn migrator() -> Migrator {
    let migration = |version, name: &'static str, sql: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(vec![
        migration(1, "state", include_str!("../migrations/0001_state.sql")),
        migration(2, "staged", include_str!("../migrations/0002_staged.sql")),
        migration(3, "restores", include_str!("../migrations/0003_restores.sql")),
        migration(4, "freezes", include_str!("../migrations/0004_freezes.sql")),
        migration(5, "schedules", include_str!("../migrations/0005_schedules.sql")),
        migration(6, "events", include_str!("../migrations/0006_events.sql")),
        migration(7, "retention", include_str!("../migrations/0007_retention.sql")),
        migration(VERSION, "compressed_events", include_str!("../migrations/0008_compressed_events.sql")),
    ])
}

/// The tables that a snapshot brings back: all but how far it goes, what is staged, what was gone back to,
/// what is told of changes (the log goes on), and what is frozen: a freeze ends by a command alone.
pub(crate) const STATE_TABLES: &[&str] = &["hosts", "jobs", "labels", "services", "replies", "schedules"];
/// The place in the log.
pub(crate) const APPLIED_TABLE: &str = "applied";
/// What is staged.
pub(crate) const STAGED_TABLE: &str = "staged";
/// What was gone back to.
pub(crate) const RESTORES_TABLE: &str = "restores";
/// What is frozen.
pub(crate) const FREEZES_TABLE: &str = "freezes";
/// What is told of changes.
pub(crate) const EVENTS_TABLE: &str = "events";

/// How the writer opens the file. A statement of many rows remembers what it changed until it has succeeded: in
/// [memory](TEMP_STORE), as those of a batch change little.
pub(crate) fn writer_options(path: &Path) -> SqliteConnectOptions {
    write_options(path).pragma(TEMP_STORE, "MEMORY")
}

/// What says where SQLite puts what is needed for a moment alone. By itself that is a file, once it is a little more.
pub(crate) const TEMP_STORE: &str = "temp_store";

/// `NORMAL` does not sync on commit: what is committed survives the process, and the power only after a
/// checkpoint.
fn write_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .foreign_keys(false)
        .busy_timeout(Duration::from_secs(5))
        .pragma("cache_size", WRITER_CACHE)
        // SQLite would not tell of one that failed; the writer does its own.
        .pragma("wal_autocheckpoint", "0")
        .pragma("journal_size_limit", WAL_BYTES)
        .thread_name(|_| "store-writer".into())
        .disable_statement_logging()
}

/// How who makes a database opens it, or has an older one rewritten: it is to keep track of which page belongs where, so
/// that it can give some back. To ask for it is to write to the file.
pub(crate) fn maker_options(path: &Path) -> SqliteConnectOptions {
    write_options(path).auto_vacuum(SqliteAutoVacuum::Incremental)
}

/// How a reader opens the file: unable to change it.
pub(crate) fn reader_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .foreign_keys(false)
        .busy_timeout(Duration::from_secs(5))
        .pragma("cache_size", READER_CACHE)
        .thread_name(|n| format!("store-reader-{n}"))
        .disable_statement_logging()
}

/// Negative: KiB. The upper pages of every index and the pages written to all the time stay in it.
const WRITER_CACHE: &str = "-32768";
const READER_CACHE: &str = "-8192";
/// What is left of a write-ahead log that had to grow larger, because of a reader that took long.
const WAL_BYTES: &str = "134217728";

/// The number of a status in the file. Numbers are never given a new meaning.
pub(crate) fn status_code(status: JobStatus) -> i64 {
    match status {
        JobStatus::Queued => 0,
        JobStatus::Leased => 1,
        JobStatus::Completed => 2,
        JobStatus::Failed => 3,
        JobStatus::Cancelled => 4,
        JobStatus::Expired => 5,
        JobStatus::Lost => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_status_has_a_number_of_its_own() {
        let codes: BTreeSet<i64> = JobStatus::ALL.iter().map(|status| status_code(*status)).collect();
        assert_eq!(codes.len(), JobStatus::ALL.len());
    }

    #[test]
    fn every_table_of_the_migrations_is_known_by_name() {
        // The eighth makes one of them anew.
        let sql = include_str!("../migrations/0001_state.sql").to_owned()
            + include_str!("../migrations/0002_staged.sql")
            + include_str!("../migrations/0003_restores.sql")
            + include_str!("../migrations/0004_freezes.sql")
            + include_str!("../migrations/0005_schedules.sql")
            + include_str!("../migrations/0006_events.sql")
            + include_str!("../migrations/0007_retention.sql");
        let made: BTreeSet<&str> =
            sql.lines().filter_map(|line| line.strip_prefix("CREATE TABLE ")?.strip_suffix(" (")).collect();
        let others = [APPLIED_TABLE, STAGED_TABLE, RESTORES_TABLE, FREEZES_TABLE, EVENTS_TABLE];
        let known = STATE_TABLES.iter().copied().chain(others).collect();
        assert_eq!(made, known);
    }

    #[test]
    fn the_version_is_that_of_the_last_migration() {
        assert_eq!(migrator().iter().map(|migration| migration.version).max(), Some(VERSION));
    }
}
