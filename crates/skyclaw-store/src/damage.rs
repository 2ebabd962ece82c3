//! How SQLite's own errors are told apart.

/// What in the file is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damage(pub(crate) String);

/// What an error of SQLite means to its caller.
pub(crate) enum Kind {
    /// There is no room, or the disk does not take what is written.
    Full,
    /// A sync failed: what was written before may be lost without another word.
    SyncFailed,
    /// The file is not as it was written.
    Damaged(Damage),
    /// Something else.
    Other,
}

// Primary result codes are the low byte, see https://www.sqlite.org/rescode.html.
const ERROR: i32 = 1;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const NOTADB: i32 = 26;
const IOERR_SHORT_READ: i32 = 522;
const IOERR_WRITE: i32 = 778;
const IOERR_FSYNC: i32 = 1034;
const IOERR_DIR_FSYNC: i32 = 1290;
const IOERR_TRUNCATE: i32 = 1546;
const IOERR_SHMOPEN: i32 = 4618;
const IOERR_SHMSIZE: i32 = 4874;
const IOERR_SHMMAP: i32 = 5386;

/// Tells what an error means.
pub(crate) fn classify(error: &sqlx::Error) -> Kind {
    let damaged = || Kind::Damaged(Damage(error.to_string()));
    match error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => damaged(),
        sqlx::Error::Database(database) => {
            let code = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(0);
            match (code & 0xff, code) {
                (_, IOERR_FSYNC | IOERR_DIR_FSYNC) => Kind::SyncFailed,
                (_, IOERR_WRITE | IOERR_TRUNCATE | IOERR_SHMOPEN | IOERR_SHMSIZE | IOERR_SHMMAP) => {
                    Kind::Full
                }
                // Files beside the database that cannot be made.
                (FULL | CANTOPEN, _) => Kind::Full,
                // The plain error is a table that is missing: statements are fixed, so the file is at fault.
                // The short read is a page that is not there.
                (ERROR | CORRUPT | NOTADB, _) | (_, IOERR_SHORT_READ) => damaged(),
                _ => Kind::Other,
            }
        }
        _ => Kind::Other,
    }
}
