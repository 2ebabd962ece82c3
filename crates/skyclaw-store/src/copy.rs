//! A copy of the whole database as one file, from one consistent snapshot, while writing goes on.
//!
//! What always holds: under the name that was asked for there is a whole copy, on disk, or what was there
//! before.

use std::path::{Path, PathBuf};

use skyclaw_core::Counters;
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection};

use crate::batch::Position;
use crate::damage::{Damage, Kind, classify};
use crate::file::{self, Unfinished};
use crate::load;
use crate::read;
use crate::schema::reader_options;
use crate::store::Store;

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// How far in the log its content goes; `None` when nothing was ever written.
    pub position: Option<Position>,
    /// The numbers that come next there.
    pub counters: Counters,
    /// The size of the file.
    pub bytes: u64,
}

/// Why there is no copy. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no room for it.
    #[error("the disk has no room for a copy of the database")]
    Full(#[source] Source),
    /// The database itself is damaged.
    #[error("the database is damaged")]
    Damaged(#[source] Damage),
    /// The file could not be made or put in its place.
    #[error(transparent)]
    File(#[from] file::Error),
    /// SQLite cannot be told of a path that is no text.
    #[error("{} is not UTF-8; name another path", .0.display())]
    NotText(PathBuf),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// SQLite failed in another way.
    #[error("the database cannot be copied")]
    Sqlite(#[source] Source),
}

type Source = Box<dyn std::error::Error + Send + Sync>;

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match classify(&error) {
            Kind::Full => Self::Full(error.into()),
            Kind::Damaged(damage) => Self::Damaged(damage),
            Kind::SyncFailed | Kind::Other => Self::Sqlite(error.into()),
        }
    }
}

impl From<read::Error> for Error {
    fn from(error: read::Error) -> Self {
        match error {
            read::Error::Damaged(damage) => Self::Damaged(damage),
            other => Self::Sqlite(other.into()),
        }
    }
}

impl Store {
    /// Copies the database as it is now, with all that is committed, to `path`. Takes time in proportion
    /// to its size and holds nobody up meanwhile; the write-ahead log grows until it is done. The copy is
    /// on disk when this returns. What was at `path` is replaced.
    ///
    /// # Errors
    /// When the database cannot be read or the copy not be written.
    pub async fn copy_to(&self, path: &Path) -> Result<Copied, Error> {
        if self.readers.is_closed() {
            return Err(Error::Closed);
        }
        let unfinished = Unfinished::begin(path)?;
        let to = text(unfinished.path())?.to_owned();
        let options = reader_options(&self.path).pragma("cache_size", COPY_CACHE);
        let mut conn = options.connect().await?;
        // It syncs nothing; that is done before the copy gets its name.
        let copied = sqlx::query("VACUUM INTO ?").bind(to).execute(&mut conn).await;
        // What it has to say about being closed adds nothing to that.
        drop(conn.close().await);
        copied?;
        let (position, counters) = describe(unfinished.path()).await?;
        let bytes = bytes(unfinished.path()).await?;
        unfinished.finish().await?;
        Ok(Copied { position, counters, bytes })
    }
}

/// Negative: KiB.
const COPY_CACHE: &str = "-32768";

/// How far the copy goes, as it says itself.
async fn describe(path: &Path) -> Result<(Option<Position>, Counters), Error> {
    let mut conn: SqliteConnection = reader_options(path).connect().await?;
    let applied = load::applied(&mut conn).await;
    drop(conn.close().await);
    Ok(match applied? {
        Some((position, counters)) => (Some(position), counters),
        None => (None, Counters::default()),
    })
}

async fn bytes(path: &Path) -> Result<u64, file::Error> {
    let metadata = tokio::fs::metadata(path).await;
    let io = |source| file::Error::Io { what: "cannot read", path: path.into(), source };
    Ok(metadata.map_err(io)?.len())
}

/// A path as SQLite takes it.
pub(crate) fn text(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| Error::NotText(path.into()))
}
