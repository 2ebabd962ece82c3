//! The one task that writes. It owns the connection that can, and the lock on the file.
//!
//! A connection on which anything failed is not trusted again: it is closed, which rolls back whatever
//! was open, and the next request opens another.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::batch::Batch;
use crate::damage::{Damage, Kind, classify};
use crate::events::Retention;
use crate::file::Lock;
use crate::replace::{self, Reach};
use crate::schema::writer_options;
use crate::tidy;
use crate::write::{self, Failure};

/// Requests that may wait for the writer; whoever sends one more waits.
pub(crate) const QUEUE: usize = 8;

/// Should nobody ask for a checkpoint, there is one after so many bytes, or the write-ahead log would grow
/// without end. Few: what is synced at once is what the log of the cluster, on the same disk, waits for meanwhile.
const CHECKPOINT_BYTES: usize = 4 * 1024 * 1024;

/// Why something was not written. Nothing of it is in the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing can be written until there is room; the same can be tried again then.
    #[error("the disk is full or refuses to be written to")]
    Full(#[source] Source),
    /// The disk could not make durable what was written. Only a restart of the process, which reads
    /// what is really there, can tell what is.
    #[error("the disk failed to make durable what was written: restart to read back what is there")]
    SyncFailed,
    /// The file is damaged.
    #[error("the database is damaged")]
    Damaged(#[source] Damage),
    /// The batch does not say how far in the log it goes.
    #[error("the batch has no place in the log")]
    NoPosition,
    /// A number in the batch is too large for the file.
    #[error("the number {0} is too large to be written")]
    Range(u64),
    /// A record could not be put into JSON.
    #[error("a record cannot be encoded")]
    Encode(#[source] Source),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// SQLite failed in another way.
    #[error("the database cannot be written")]
    Sqlite(#[source] Source),
}

type Source = Box<dyn std::error::Error + Send + Sync>;

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match classify(&error) {
            Kind::Full => Self::Full(error.into()),
            Kind::SyncFailed => Self::SyncFailed,
            Kind::Damaged(damage) => Self::Damaged(damage),
            Kind::Other => Self::Sqlite(error.into()),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Encode(error) => Self::Encode(error.into()),
            Failure::Range(number) => Self::Range(number),
            Failure::Sqlite(error) => error.into(),
        }
    }
}

pub(crate) enum Request {
    Commit(Arc<Batch>, oneshot::Sender<Result<(), Error>>),
    Checkpoint(oneshot::Sender<Result<Option<u64>, Error>>),
    Replace { path: PathBuf, reach: Reach, done: oneshot::Sender<Result<(), Error>> },
    Close(oneshot::Sender<Result<Option<u64>, Error>>),
}

pub(crate) struct Writer {
    path: Arc<Path>,
    conn: Option<SqliteConnection>,
    /// How long what is told of changes is kept.
    keep: Retention,
    /// The log index of the last commit.
    committed: Option<u64>,
    /// About how much was committed since the last checkpoint.
    unsynced_bytes: usize,
    /// A sync that failed once cannot be repeated: the kernel may have dropped what it did not write.
    sync_failed: bool,
    /// Held as long as a connection may be open.
    _lock: Lock,
}

impl Writer {
    pub(crate) fn new(
        path: Arc<Path>,
        lock: Lock,
        conn: SqliteConnection,
        keep: Retention,
        committed: Option<u64>,
    ) -> Self {
        let conn = Some(conn);
        Self { path, conn, keep, committed, unsynced_bytes: 0, sync_failed: false, _lock: lock }
    }

    /// Serves requests until it is told to close or nobody can ask any more.
    pub(crate) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut tidy_at = Instant::now() + tidy::LOOK_EVERY;
        loop {
            // Cancel-safe: a request that is received is not lost to the time.
            let request = match tokio::time::timeout_at(tidy_at, requests.recv()).await {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(_) => {
                    tidy_at = Instant::now() + self.tidy().await;
                    continue;
                }
            };
            match request {
                // Who asked may be gone; what was asked for is done all the same.
                Request::Commit(batch, done) => drop(done.send(self.commit(&batch).await)),
                Request::Checkpoint(done) => drop(done.send(self.checkpoint().await)),
                Request::Replace { path, reach, done } => {
                    drop(done.send(self.replace(&path, &reach).await));
                }
                Request::Close(done) => {
                    requests.close();
                    let durable = self.checkpoint().await;
                    self.finish().await;
                    drop(done.send(durable));
                    return;
                }
            }
        }
        self.finish().await;
    }

    /// Gives free pages back, and says when to look again.
    async fn tidy(&mut self) -> Duration {
        if self.sync_failed {
            return tidy::LOOK_EVERY;
        }
        let stepped = match self.connection().await {
            Ok(conn) => tidy::step(conn).await.map_err(Error::from),
            Err(error) => Err(error),
        };
        match stepped {
            Ok(true) => tidy::STEP_EVERY,
            Ok(false) => tidy::LOOK_EVERY,
            Err(error) => {
                debug!(%error, path = %self.path.display(), "what is free in the database is not given back now");
                self.failed(error).await;
                tidy::LOOK_EVERY
            }
        }
    }

    async fn commit(&mut self, batch: &Batch) -> Result<(), Error> {
        let (position, counters) = batch.applied.as_ref().ok_or(Error::NoPosition)?;
        let keep = self.keep;
        let conn = self.connection().await?;
        if let Err(failure) = write::batch(conn, batch, position, counters, keep).await {
            return Err(self.failed(failure.into()).await);
        }
        self.committed = Some(position.index);
        self.unsynced_bytes += batch.approx_bytes();
        if self.unsynced_bytes >= CHECKPOINT_BYTES && !self.sync_failed {
            // The batch is committed, so this is not its caller's failure.
            if let Err(error) = self.checkpoint().await {
                warn!(%error, path = %self.path.display(), "the write-ahead log cannot be folded in");
            }
        }
        Ok(())
    }

    /// Replaces everything by the content of a copy, durably.
    async fn replace(&mut self, copy: &Path, reach: &Reach) -> Result<(), Error> {
        if self.sync_failed {
            return Err(Error::SyncFailed);
        }
        let conn = self.connection().await?;
        match replace::content(conn, copy, reach).await {
            Ok(index) => self.committed = index,
            Err(failure) => return Err(self.failed(failure.into()).await),
        }
        self.checkpoint().await?;
        info!(index = ?self.committed, path = %self.path.display(), "the content was replaced by that of a copy");
        Ok(())
    }

    /// Makes everything that is committed durable.
    async fn checkpoint(&mut self) -> Result<Option<u64>, Error> {
        if self.sync_failed {
            return Err(Error::SyncFailed);
        }
        if let Err(error) = self.sync().await {
            return Err(self.failed(error).await);
        }
        self.unsynced_bytes = 0;
        debug!(index = ?self.committed, "everything committed is durable");
        Ok(self.committed)
    }

    /// Moves what is in the write-ahead log to the main file, which syncs both. What a reader's older
    /// snapshot keeps from being moved is durable once the write-ahead log itself is synced.
    async fn sync(&mut self) -> Result<(), Error> {
        let conn = self.connection().await?;
        let (_busy, pages, moved): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(conn).await?;
        if moved < pages {
            // Closing this descriptor is safe: SQLite holds no locks on the write-ahead log.
            let log = tokio::fs::File::open(crate::file::beside(&self.path, "-wal")).await;
            let synced = match log {
                Ok(log) => log.sync_all().await,
                Err(error) => Err(error),
            };
            synced.map_err(|error| {
                warn!(%error, path = %self.path.display(), "the write-ahead log cannot be synced");
                Error::SyncFailed
            })?;
        }
        Ok(())
    }

    async fn connection(&mut self) -> Result<&mut SqliteConnection, Error> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => writer_options(&self.path).connect().await?,
        };
        Ok(self.conn.insert(conn))
    }

    /// Gives the connection up after a failure.
    async fn failed(&mut self, error: Error) -> Error {
        self.sync_failed |= matches!(error, Error::SyncFailed);
        if let Some(conn) = self.conn.take() {
            // What it has to say about being closed adds nothing to why.
            drop(conn.close_hard().await);
        }
        error
    }

    /// Closes the connection; as the last one, that folds the write-ahead log into the file.
    async fn finish(mut self) {
        let Some(mut conn) = self.conn.take() else { return };
        let optimized =
            sqlx::raw_sql("PRAGMA analysis_limit = 400; PRAGMA optimize").execute(&mut conn).await;
        if let Err(error) = optimized.and(conn.close().await) {
            warn!(%error, path = %self.path.display(), "the database did not close cleanly");
        }
    }
}
