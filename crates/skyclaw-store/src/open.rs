//! Opening a store: lock, look, check, load; only then is anything opened for writing.
//!
//! A new database is made beside its place and renamed, so what is at the path is always a whole one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skyclaw_core::{Counters, Freeze, Host, Job, Restore, Schedule, Service};
use skyclaw_proto::RestoreId;
use sqlx::sqlite::{SqliteConnection, SqlitePoolOptions};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::batch::Position;
use crate::events::Retention;
use crate::file::{self, Found};
use crate::load::{self, Loaded};
use crate::read;
use crate::schema::{self, APPLICATION_ID, maker_options, migrator, reader_options, writer_options};
use crate::store::Store;
use crate::writer::{QUEUE, Writer};

/// Databases of an older version up to this size are rewritten when they are brought up to date, which takes a
/// second or two.
const REWRITE_BYTES: u64 = 256 * 1024 * 1024;

/// How a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How many reads may be under way at once.
    pub readers: u32,
    /// Files up to so many bytes are checked as a whole before they are used.
    pub check_bytes: u64,
    /// How long what is told of changes is kept.
    pub events: Retention,
}

impl Default for Options {
    fn default() -> Self {
        Self { readers: 4, check_bytes: 256 * 1024 * 1024, events: Retention::default() }
    }
}

/// A store, and what was in it.
#[derive(Debug)]
#[must_use]
pub struct Opened {
    /// The store.
    pub store: Store,
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
    /// How far in the log all of this goes; `None` for a new store.
    pub position: Option<Position>,
    /// Whether the whole file was checked. If not, [`Store::verify`] should be run meanwhile.
    pub checked: bool,
}

/// Why a store was not opened. What is at its path was left as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is in use, out of reach, damaged or not ours.
    #[error(transparent)]
    File(#[from] file::Error),
    /// The file was written by a newer version of this program.
    #[error(
        "{} was written by a newer version (its schema is {found}, this program knows up to {known}); \
         run that version or a newer one",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// The version of its schema.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
    /// SQLite failed for a reason that lies outside the file.
    #[error("cannot open {}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Store {
    /// Opens the database at `path`, or makes one. The task that writes runs on `tracker` until the
    /// store is [closed](Self::close) or its last handle is gone.
    ///
    /// # Errors
    /// When the file is in use, out of reach, damaged, foreign or too new.
    pub async fn open(path: &Path, options: Options, tracker: &TaskTracker) -> Result<Opened, Error> {
        let path: Arc<Path> = path.into();
        let sqlite = |error: sqlx::Error| blame(&path, error.into());
        let lock = file::lock(&path)?;
        file::remove_unfinished(file::directory(&path))?;
        let bytes = match file::look(&path)? {
            Found::Database { bytes } => bytes,
            Found::Nothing => {
                create(&path).await?;
                0
            }
        };
        let checked = bytes <= options.check_bytes;
        let loaded = examine(&path, checked).await?;
        let writer = writer_options(&path).connect().await.map_err(sqlite)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers)
            .test_before_acquire(false)
            .connect_with(reader_options(&path))
            .await
            .map_err(sqlite)?;
        let (position, counters) = match loaded.applied {
            Some((position, counters)) => (Some(position), counters),
            None => (None, Counters::default()),
        };
        let (requests, queue) = mpsc::channel(QUEUE);
        let index = position.as_ref().map(|position| position.index);
        tracker.spawn(Writer::new(Arc::clone(&path), lock, writer, options.events, index).run(queue));
        Ok(Opened {
            store: Store { path, requests, readers },
            hosts: loaded.hosts,
            active_jobs: loaded.active_jobs,
            services: loaded.services,
            restores: loaded.restores,
            freezes: loaded.freezes,
            schedules: loaded.schedules,
            staging: loaded.staging,
            counters,
            position,
            checked,
        })
    }
}

/// Makes an empty database.
async fn create(path: &Path) -> Result<(), Error> {
    let new = file::begin(path)?;
    let make = async {
        let mut conn = maker_options(&new).connect().await?;
        let mark = format!("PRAGMA application_id = {APPLICATION_ID}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(mark)).execute(&mut conn).await?;
        migrator().run(&mut conn).await.map_err(|error| sqlx::Error::Migrate(error.into()))?;
        conn.close().await
    };
    make.await.map_err(|error: sqlx::Error| blame(&new, error.into()))?;
    Ok(file::finish(&new, path)?)
}

/// Checks and loads the database without writing to it, unless its schema is an older one.
pub(crate) async fn examine(path: &Path, check: bool) -> Result<Loaded, Error> {
    let mut conn = reader_options(path).connect().await.map_err(|error| blame(path, error.into()))?;
    let examined = examine_with(&mut conn, path, check).await;
    let closed = conn.close().await.map_err(|error| blame(path, error.into()));
    let loaded = examined?;
    closed.map(|()| loaded)
}

async fn examine_with(conn: &mut SqliteConnection, path: &Path, check: bool) -> Result<Loaded, Error> {
    let version: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
        .fetch_one(&mut *conn)
        .await
        .map_err(|error| blame(path, error.into()))?;
    let found = version.unwrap_or(0);
    if found > schema::VERSION {
        return Err(Error::Newer { path: path.into(), found, known: schema::VERSION });
    }
    if check {
        load::check(conn).await.map_err(|error| blame(path, error))?;
    }
    if found < schema::VERSION {
        migrate(path).await.map_err(|error| blame(path, error.into()))?;
    }
    load::load(conn).await.map_err(|error| blame(path, error))
}

async fn migrate(path: &Path) -> Result<(), sqlx::Error> {
    let mut conn = maker_options(path).connect().await?;
    migrator().run(&mut conn).await.map_err(|error| sqlx::Error::Migrate(error.into()))?;
    give_back(&mut conn, path).await;
    conn.close().await
}

/// Has a database of before keep track of which page belongs where, so that it can give some back. That rewrites
/// it, so a large one is left as it is, and so is one for which there is no room: what is free in it is used again.
async fn give_back(conn: &mut SqliteConnection, path: &Path) {
    let is_small = std::fs::metadata(path).is_ok_and(|file| file.len() <= REWRITE_BYTES);
    let mode: Result<i64, _> = sqlx::query_scalar("PRAGMA auto_vacuum").fetch_one(&mut *conn).await;
    if !is_small || mode.is_ok_and(|mode| mode != 0) {
        return;
    }
    // The connection asks for the new mode, which takes effect with this.
    if let Err(error) = sqlx::raw_sql("VACUUM").execute(conn).await {
        tracing::warn!(%error, path = %path.display(), "the database is not rewritten, and keeps its size when jobs are forgotten");
    }
}

/// Says which file an error is about and, when it is damaged, what to do.
fn blame(path: &Path, error: read::Error) -> Error {
    match error {
        read::Error::Damaged(damage) => {
            file::Error::Damaged { path: path.into(), detail: damage.to_string() }.into()
        }
        other => Error::Sqlite { path: path.into(), source: other.into() },
    }
}
