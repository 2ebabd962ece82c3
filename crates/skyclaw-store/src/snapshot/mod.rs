//! Snapshots for operators: one file that holds a copy of a database and says what it is, for keeping
//! elsewhere and for going back to. The [form](format) can be written and read as a stream.

mod format;

use std::io;
use std::path::{Path, PathBuf};

use skyclaw_core::Counters;
use skyclaw_proto::{JobStatus, Timestamp};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnection;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use uuid::Uuid;

pub use self::format::{Counts, Fault, Header};
use self::format::{Decoder, preamble};
use crate::file::{self, Unfinished, beside};
use crate::load;
use crate::read;
use crate::schema::{reader_options, status_code};

/// How much is read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Where a snapshot comes from; all that the copy itself does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The cluster.
    pub cluster: Uuid,
    /// When it was taken.
    pub created_at: Timestamp,
}

/// Why a snapshot could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is not to be trusted.
    #[error("the snapshot {} cannot be used: {fault}", path.display())]
    Unusable {
        /// The snapshot.
        path: PathBuf,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The copy it is to be made of cannot be read.
    #[error("the copy {} cannot be read", path.display())]
    Copy {
        /// The copy.
        path: PathBuf,
        /// Why.
        #[source]
        source: read::Error,
    },
    /// The database it is to be made of is in use, so that the file alone is not all of it.
    #[error("{} is no copy but a database in use; make a copy of it first", .0.display())]
    InUse(PathBuf),
    /// A file could not be read or made.
    #[error(transparent)]
    File(#[from] file::Error),
    /// The header could not be put into JSON.
    #[error("the header cannot be encoded")]
    Encode(#[source] serde_json::Error),
    /// The snapshot could not be passed on.
    #[error("the snapshot cannot be written")]
    Write(#[source] io::Error),
}

/// Writes a snapshot made of a copy that [`Store::copy_to`](crate::Store::copy_to) made, and flushes it.
/// To have it on disk is up to the caller.
///
/// # Errors
/// When the copy cannot be read or the snapshot not be written. What was written by then is of no use.
pub async fn write(copy: &Path, origin: Origin, mut out: impl AsyncWrite + Unpin) -> Result<Header, Error> {
    let io = |source| file::Error::Io { what: "cannot read", path: copy.into(), source };
    if tokio::fs::metadata(beside(copy, "-wal")).await.is_ok_and(|log| log.len() > 0) {
        return Err(Error::InUse(copy.into()));
    }
    let mut header =
        describe(copy, origin).await.map_err(|source| Error::Copy { path: copy.into(), source })?;
    let mut file = File::open(copy).await.map_err(io)?;
    header.database_bytes = file.metadata().await.map_err(io)?.len();
    let mut hasher = blake3::Hasher::new();
    let begin = preamble(&header).map_err(Error::Encode)?;
    hasher.update(&begin);
    out.write_all(&begin).await.map_err(Error::Write)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = header.database_bytes;
    while left > 0 {
        let most = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        let bytes = match file.read(&mut piece[..most]).await.map_err(io)? {
            0 => return Err(io(io::ErrorKind::UnexpectedEof.into()).into()),
            bytes => bytes,
        };
        hasher.update(&piece[..bytes]);
        out.write_all(&piece[..bytes]).await.map_err(Error::Write)?;
        left -= bytes as u64;
    }
    out.write_all(hasher.finalize().as_bytes()).await.map_err(Error::Write)?;
    out.flush().await.map_err(Error::Write)?;
    Ok(header)
}

/// Reads a snapshot from end to end, and says what it holds.
///
/// # Errors
/// When it cannot be read or is not to be trusted.
pub async fn inspect(path: &Path) -> Result<Header, Error> {
    let mut decoder = Decoder::new();
    let mut file = open(path).await?;
    let mut piece = vec![0; PIECE_BYTES];
    while let Some(bytes) = next(&mut file, &mut piece, path).await? {
        decoder.feed(bytes).map_err(|fault| unusable(path, fault))?;
    }
    decoder.finish().map_err(|fault| unusable(path, fault))
}

/// Takes the copy out of a snapshot and puts it at `to`, on disk, once all of the snapshot has been found
/// to be right. What was there is replaced.
///
/// # Errors
/// When the snapshot cannot be read or is not to be trusted, or the copy cannot be made. There is nothing
/// new at `to` then.
pub async fn extract(path: &Path, to: &Path) -> Result<Header, Error> {
    let mut extraction = Extraction::begin(to).await?;
    let mut file = open(path).await?;
    let mut piece = vec![0; PIECE_BYTES];
    let fault = |error| match error {
        ExtractError::Fault(fault) => unusable(path, fault),
        ExtractError::File(error) => Error::File(error),
    };
    while let Some(bytes) = next(&mut file, &mut piece, path).await? {
        extraction.feed(bytes).await.map_err(fault)?;
    }
    extraction.finish().await.map_err(fault)
}

/// Why a copy was not taken out of a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// The snapshot is not to be trusted.
    #[error("the snapshot cannot be used: {0}")]
    Fault(Fault),
    /// The copy could not be made.
    #[error(transparent)]
    File(#[from] file::Error),
}

/// Takes the copy out of a snapshot that comes in piece by piece. Dropped before it is finished, it leaves
/// nothing behind.
pub struct Extraction {
    decoder: Decoder,
    file: File,
    unfinished: Unfinished,
}

impl Extraction {
    /// Begins to make a copy that will be at `to`.
    ///
    /// # Errors
    /// When no file can be made beside it.
    pub async fn begin(to: &Path) -> Result<Self, file::Error> {
        let unfinished = Unfinished::begin(to)?;
        let file = File::options().write(true).open(unfinished.path()).await;
        let io = |source| file::Error::Io { what: "cannot open", path: unfinished.path().into(), source };
        Ok(Self { decoder: Decoder::new(), file: file.map_err(io)?, unfinished })
    }

    /// Takes in what comes next, in pieces of any size.
    ///
    /// # Errors
    /// When it is not to be trusted, or the copy cannot be written.
    pub async fn feed(&mut self, bytes: &[u8]) -> Result<(), ExtractError> {
        let database = self.decoder.feed(bytes).map_err(ExtractError::Fault)?;
        let written = self.file.write_all(database).await;
        written.map_err(|source| cannot_write(&self.unfinished, source).into())
    }

    /// That was all: the copy is put in its place if it is to be trusted.
    ///
    /// # Errors
    /// When it is not, or cannot be put there.
    pub async fn finish(self) -> Result<Header, ExtractError> {
        let (header, unfinished) = self.end().await?;
        unfinished.finish().await?;
        Ok(header)
    }

    /// Like [`Extraction::finish`], but the copy stays unfinished: it is gone when it is dropped.
    pub(crate) async fn end(mut self) -> Result<(Header, Unfinished), ExtractError> {
        let header = self.decoder.finish().map_err(ExtractError::Fault)?;
        // Before that, not all may have been handed to the system.
        self.file.flush().await.map_err(|source| cannot_write(&self.unfinished, source))?;
        Ok((header, self.unfinished))
    }
}

fn cannot_write(unfinished: &Unfinished, source: io::Error) -> file::Error {
    file::Error::Io { what: "cannot write", path: unfinished.path().into(), source }
}

async fn open(path: &Path) -> Result<File, file::Error> {
    let io = |source| file::Error::Io { what: "cannot open", path: path.into(), source };
    File::open(path).await.map_err(io)
}

async fn next<'a>(
    file: &mut (impl AsyncRead + Unpin),
    piece: &'a mut [u8],
    path: &Path,
) -> Result<Option<&'a [u8]>, file::Error> {
    let io = |source| file::Error::Io { what: "cannot read", path: path.into(), source };
    let bytes = file.read(piece).await.map_err(io)?;
    Ok((bytes > 0).then(|| &piece[..bytes]))
}

fn unusable(path: &Path, fault: Fault) -> Error {
    Error::Unusable { path: path.into(), fault }
}

/// What a copy says of itself; its size is not known here.
async fn describe(copy: &Path, origin: Origin) -> Result<Header, read::Error> {
    let mut conn = reader_options(copy).connect().await?;
    let header = describe_with(&mut conn, origin).await;
    drop(sqlx::Connection::close(conn).await);
    header
}

async fn describe_with(conn: &mut SqliteConnection, origin: Origin) -> Result<Header, read::Error> {
    let (position, counters) = match load::applied(conn).await? {
        Some((position, counters)) => (Some(position), counters),
        None => (None, Counters::default()),
    };
    let mut counts = Counts::default();
    for (select, count) in [
        ("SELECT count(*) FROM hosts", &mut counts.hosts),
        ("SELECT count(*) FROM services", &mut counts.services),
    ] {
        *count = sqlx::query_scalar::<_, i64>(select).fetch_one(&mut *conn).await?.unsigned_abs();
    }
    let select = "SELECT status, count(*) FROM jobs GROUP BY status";
    let by_status: Vec<(i64, i64)> = sqlx::query_as(select).fetch_all(conn).await?;
    for (code, count) in by_status {
        let status = JobStatus::ALL.iter().copied().find(|status| status_code(*status) == code);
        counts.jobs.extend(status.map(|status| (status, count.unsigned_abs())));
    }
    let Origin { cluster, created_at } = origin;
    Ok(Header { cluster, created_at, position, counters, counts, database_bytes: 0 })
}
