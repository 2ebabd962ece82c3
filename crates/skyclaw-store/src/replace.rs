//! Replacing what a store holds by what a copy holds, in one transaction.
//!
//! Files are never exchanged: the rows are written through SQLite like any others. So a crash leaves the
//! old content or the new, readers under way finish on what they began with, those that begin later see
//! the new, and no connection has to be opened anew. Into empty tables SQLite moves rows and index
//! entries as they are, in order and without decoding them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skyclaw_core::{Counters, Freeze, Host, Job, Restore, Schedule, Service};
use skyclaw_proto::RestoreId;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection};

use crate::batch::{Batch, Position};
use crate::copy;
use crate::file::{self, Found};
use crate::load::Loaded;
use crate::open;
use crate::schema::{
    APPLIED_TABLE, EVENTS_TABLE, FREEZES_TABLE, RESTORES_TABLE, STAGED_TABLE, STATE_TABLES, TEMP_STORE,
};
use crate::store::Store;
use crate::write::{self, Failure};
use crate::writer::{Error as CommitError, Request};

/// What the store holds now.
#[derive(Debug)]
#[must_use]
pub struct Installed {
    /// All hosts, by id.
    pub hosts: Vec<Arc<Host>>,
    /// All queued, leased and lost jobs, in the order of enqueueing.
    pub active_jobs: Vec<Arc<Job>>,
    /// All services, oldest first.
    pub services: Vec<Arc<Service>>,
    /// What was gone back to, oldest first.
    pub restores: Vec<Arc<Restore>>,
    /// What is frozen, and the newest of what was, oldest first.
    pub freezes: Vec<Arc<Freeze>>,
    /// All schedules, oldest first.
    pub schedules: Vec<Arc<Schedule>>,
    /// The restore whose parts are staged.
    pub staging: Option<RestoreId>,
    /// The numbers that come next.
    pub counters: Counters,
    /// How far in the log all of this goes; `None` for the copy of a new store.
    pub position: Option<Position>,
}

/// Why a copy was not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The copy is damaged. The store is as it was.
    #[error("{} is damaged ({detail}) and was not installed; make the copy again or take another", path.display())]
    Damaged {
        /// The copy.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// There is nothing at the path. The store is as it was.
    #[error("there is no file {}", .0.display())]
    Missing(PathBuf),
    /// The copy cannot be used. The store is as it was.
    #[error(transparent)]
    Copy(open::Error),
    /// The copy was not written, or not durably: the store holds its old content or the new, whole.
    #[error("the copy cannot be written to the database")]
    Write(#[from] CommitError),
}

impl From<open::Error> for Error {
    fn from(error: open::Error) -> Self {
        match error {
            open::Error::File(file::Error::Damaged { path, detail }) => Self::Damaged { path, detail },
            other => Self::Copy(other),
        }
    }
}

/// How far the new content goes.
pub(crate) enum Reach {
    /// As far as the copy says; what is staged, what is told of changes and what is frozen come along.
    AsCopied,
    /// As far as this batch, which is written over it; nothing is staged any more, and what was gone back
    /// to before, what is told of changes and what is frozen stay.
    To(Arc<Batch>),
}

impl Store {
    /// Replaces everything this store holds by the content of a copy that [`Store::copy_to`] made, once
    /// that has been found sound. When this returns, the new content is durable. A copy of an older
    /// version is first brought up to date where it is.
    ///
    /// Handles stay valid. Reads that are under way finish on the old content, reads that begin after
    /// this returns see the new.
    ///
    /// # Errors
    /// When the copy cannot be used or not be written.
    pub async fn install(&self, path: &Path) -> Result<Installed, Error> {
        let (path, loaded) = examine(path).await?;
        self.ask(|done| Request::Replace { path, reach: Reach::AsCopied, done }).await?;
        Ok(Installed::of(loaded))
    }
}

impl Installed {
    pub(crate) fn of(loaded: Loaded) -> Self {
        let Loaded { hosts, active_jobs, services, restores, freezes, schedules, staging, applied } = loaded;
        let (position, counters) = applied.map_or((None, Counters::default()), |(p, c)| (Some(p), c));
        Self { hosts, active_jobs, services, restores, freezes, schedules, staging, counters, position }
    }
}

/// Checks a copy as a store is checked when it is opened, but always as a whole, and reads what is active.
pub(crate) async fn examine(path: &Path) -> Result<(PathBuf, Loaded), Error> {
    let io = |source| file::Error::Io { what: "cannot find", path: path.into(), source };
    let path = std::path::absolute(path).map_err(|error| Error::Copy(io(error).into()))?;
    match file::look(&path).map_err(open::Error::from)? {
        Found::Database { .. } => {}
        Found::Nothing => return Err(Error::Missing(path)),
    }
    let loaded = open::examine(&path, true).await?;
    Ok((path, loaded))
}

/// Moves the content of a copy into the database, all of it or nothing. Says how far that goes.
pub(crate) async fn content(
    conn: &mut SqliteConnection,
    from: &Path,
    reach: &Reach,
) -> Result<Option<u64>, Failure> {
    let from = copy::text(from).map_err(|error| Failure::Sqlite(sqlx::Error::Configuration(error.into())))?;
    // What a statement remembers may be as much as the database holds: that has no room in memory.
    temp_store(conn, "FILE").await?;
    sqlx::query("ATTACH DATABASE ? AS copy").bind(from.to_owned()).execute(&mut *conn).await?;
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    for table in STATE_TABLES {
        move_table(&mut tx, table).await?;
    }
    match reach {
        Reach::AsCopied => {
            move_table(&mut tx, APPLIED_TABLE).await?;
            move_table(&mut tx, STAGED_TABLE).await?;
            move_table(&mut tx, RESTORES_TABLE).await?;
            move_table(&mut tx, FREEZES_TABLE).await?;
            move_table(&mut tx, EVENTS_TABLE).await?;
        }
        Reach::To(batch) => {
            sqlx::query("DELETE FROM main.staged").execute(&mut *tx).await?;
            write::content(&mut tx, batch).await?;
            if let Some((position, counters)) = &batch.applied {
                write::applied(&mut tx, position, counters).await?;
            }
        }
    }
    let index: Option<i64> =
        sqlx::query_scalar("SELECT log_index FROM main.applied").fetch_optional(&mut *tx).await?;
    tx.commit().await?;
    sqlx::query("DETACH DATABASE copy").execute(&mut *conn).await?;
    temp_store(conn, "MEMORY").await?;
    Ok(index.and_then(|index| u64::try_from(index).ok()))
}

async fn temp_store(conn: &mut SqliteConnection, place: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(format!("PRAGMA {TEMP_STORE} = {place}"))).execute(conn).await?;
    Ok(())
}

async fn move_table(conn: &mut SqliteConnection, table: &str) -> Result<(), sqlx::Error> {
    for sql in moves(table) {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut *conn).await?;
    }
    Ok(())
}

/// In this form, and only into an empty table, rows are moved without being decoded.
fn moves(table: &str) -> [String; 2] {
    [format!("DELETE FROM main.{table}"), format!("INSERT INTO main.{table} SELECT * FROM copy.{table}")]
}

#[cfg(test)]
mod tests {
    use sqlx::Row;
    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;
    use crate::schema::{maker_options, migrator};

    /// What SQLite does otherwise takes many times as long, and looks no different.
    #[tokio::test]
    async fn rows_and_index_entries_of_every_table_are_moved_as_they_are() {
        let mut conn =
            SqliteConnection::connect_with(&SqliteConnectOptions::new()).await.expect("a database");
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("copy.db");
        let make = maker_options(&path).create_if_missing(true);
        let mut copy = SqliteConnection::connect_with(&make).await.expect("another");
        migrator().run(&mut conn).await.expect("the tables");
        migrator().run(&mut copy).await.expect("the tables");
        copy.close().await.expect("a close");
        let attach = "ATTACH DATABASE ? AS copy";
        sqlx::query(attach)
            .bind(path.to_str().map(str::to_owned))
            .execute(&mut conn)
            .await
            .expect("it is there");
        for table in STATE_TABLES.iter().chain([
            &APPLIED_TABLE,
            &STAGED_TABLE,
            &RESTORES_TABLE,
            &FREEZES_TABLE,
            &EVENTS_TABLE,
        ]) {
            let [_, insert] = moves(table);
            let explain = sqlx::query(AssertSqlSafe(format!("EXPLAIN {insert}")));
            let program = explain.fetch_all(&mut conn).await.expect("a program");
            let as_it_is = program.iter().any(|row| ["RowCell", "RowData"].contains(&row.get::<&str, _>(1)));
            assert!(as_it_is, "{table}");
        }
    }
}
