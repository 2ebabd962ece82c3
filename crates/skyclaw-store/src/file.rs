//! The files of a store, before SQLite sees them: who may have them, and whether they look like ours.
//!
//! ```text
//!   state.db        the database           state.db-wal, -shm   SQLite's own
//!   state.db.lock   held while in use      state.db.new         one that is being made
//!   *.unfinished    a copy that is being made, here or where it is to go; locked meanwhile
//! ```
//!
//! The lock comes before everything else: closing any descriptor of the database drops the locks that
//! SQLite holds on it for this process.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tempfile::TempPath;

use crate::schema::APPLICATION_ID;

/// Why the files of a store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process, or another store in this one, has it.
    #[error("{} is in use by another process; stop that one first (the lock is {})", path.display(), lock.display())]
    InUse {
        /// The database.
        path: PathBuf,
        /// The file that is locked.
        lock: PathBuf,
    },
    /// A file or directory could not be opened, made or read.
    #[error("{what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// There is a directory or a device where the database should be.
    #[error("{} is not a file; name the database file itself, such as {}/state.db", path.display(), path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// It is a SQLite database, of another program.
    #[error(
        "{} is a SQLite database of another program (such as a coordinator.db of the reference mesh) and was \
         left as it is; name another path for the database, and bring the old records over by merging them",
        path.display()
    )]
    Foreign {
        /// The path.
        path: PathBuf,
    },
    /// It is no database, or not a whole one.
    #[error(
        "{} is damaged ({detail}) and was left as it is; restore it from a backup, or on a cluster move it and \
         the files beside it away and let this node join again",
        path.display()
    )]
    Damaged {
        /// The path.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

/// The right to use a database, until it is dropped or the process ends.
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its effect")] Flock<File>);

/// What is at the path of a database.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// It has our mark; so many bytes, the write-ahead log included.
    Database {
        bytes: u64,
    },
}

/// `path` with something appended to its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes the directory of the database if there is none, and takes the lock.
pub(crate) fn lock(path: &Path) -> Result<Lock, Error> {
    let directory = directory(path);
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|source| Error::Io {
        what: "cannot make the directory",
        path: directory.into(),
        source,
    })?;
    let lock = beside(path, ".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock)
        .map_err(|source| Error::Io { what: "cannot open the lock file", path: lock.clone(), source })?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Ok(Lock(held)),
        Err((_, Errno::EWOULDBLOCK)) => Err(Error::InUse { path: path.into(), lock }),
        Err((_, errno)) => Err(Error::Io { what: "cannot lock", path: lock, source: errno.into() }),
    }
}

/// Looks at what is there, without SQLite and without writing.
pub(crate) fn look(path: &Path) -> Result<Found, Error> {
    let io = |source| Error::Io { what: "cannot read", path: path.into(), source };
    let damaged = |detail: &str| Error::Damaged { path: path.into(), detail: detail.into() };
    let log_bytes = fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len());
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound && log_bytes == 0 => return Ok(Found::Nothing),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged("it is missing, but its write-ahead log is there"));
        }
        Err(error) => return Err(io(error)),
    };
    if !metadata.is_file() {
        return Err(Error::NotAFile { path: path.into() });
    }
    let mut header = Vec::with_capacity(HEADER_BYTES);
    let file = File::open(path).map_err(io)?;
    file.take(HEADER_BYTES as u64).read_to_end(&mut header).map_err(io)?;
    match application_id(&header) {
        _ if header.is_empty() => Err(damaged("it is empty")),
        None if !header.starts_with(MAGIC) => Err(damaged("it does not begin like a SQLite database")),
        None => Err(damaged("it ends within its header")),
        Some(APPLICATION_ID) => Ok(Found::Database { bytes: metadata.len() + log_bytes }),
        Some(_) => Err(Error::Foreign { path: path.into() }),
    }
}

/// Begins a database beside its place: what a crash left there is removed, and an empty file is made.
pub(crate) fn begin(path: &Path) -> Result<PathBuf, Error> {
    let new = beside(path, ".new");
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let file = beside(&new, suffix);
        match fs::remove_file(&file) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Io { what: "cannot remove", path: file, source });
            }
            Ok(()) | Err(_) => {}
        }
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
    made.map_err(|source| Error::Io { what: "cannot make", path: new.clone(), source })?;
    Ok(new)
}

/// Puts a finished database in its place, durably and at once.
pub(crate) fn finish(new: &Path, path: &Path) -> Result<(), Error> {
    let steps = || {
        File::open(new)?.sync_all()?;
        fs::rename(new, path)?;
        File::open(directory(path))?.sync_all()
    };
    steps().map_err(|source| Error::Io { what: "cannot put in place", path: path.into(), source })
}

/// What the name of a file ends in until it is whole.
const UNFINISHED: &str = ".unfinished";

/// A file that is being made beside its place. Unless it is finished, it is gone when this is dropped.
pub(crate) struct Unfinished {
    temp: TempPath,
    to: PathBuf,
    /// Tells who cleans up that this one is not left over.
    _in_use: Flock<File>,
}

impl Unfinished {
    /// Makes an empty file beside `to`.
    pub(crate) fn begin(to: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { what: "cannot make a file beside", path: to.into(), source };
        // SQLite takes what begins with `file:` for something else, which an absolute path never does.
        let to = std::path::absolute(to).map_err(io)?;
        let name = to.file_name().ok_or_else(|| io(io::ErrorKind::IsADirectory.into()))?;
        let mut builder = tempfile::Builder::new();
        let made = builder.prefix(name).suffix(UNFINISHED).tempfile_in(directory(&to)).map_err(io)?;
        let (file, temp) = made.into_parts();
        let in_use = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| io(io::Error::from(errno)))?;
        Ok(Self { temp, to, _in_use: in_use })
    }

    /// Where it is until it is finished.
    pub(crate) fn path(&self) -> &Path {
        &self.temp
    }

    /// Puts it in its place, durably and at once; what was there is replaced.
    pub(crate) async fn finish(self) -> Result<(), Error> {
        let Self { temp, to, _in_use } = self;
        let io = |source| Error::Io { what: "cannot put in place", path: to.clone(), source };
        let sync = async |path: &Path| tokio::fs::File::open(path).await?.sync_all().await;
        sync(&temp).await.map_err(io)?;
        temp.persist(&to).map_err(|refused| io(refused.error))?;
        sync(directory(&to)).await.map_err(io)
    }
}

/// Removes the copies in a directory that a crash left unfinished, and leaves alone those that are being
/// made. Opening a store does this for the directory it is in.
///
/// # Errors
/// When the directory cannot be read or a file in it cannot be removed.
pub fn remove_unfinished(directory: &Path) -> Result<(), Error> {
    let io = |source| Error::Io { what: "cannot clean up", path: directory.into(), source };
    for entry in fs::read_dir(directory).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let left_over = ["", "-journal", "-wal", "-shm"].into_iter().any(|suffix| {
            let main = name.to_str().and_then(|name| name.strip_suffix(suffix));
            main.is_some_and(|main| main.ends_with(UNFINISHED) && !in_use(&directory.join(main)))
        });
        if left_over {
            match fs::remove_file(directory.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

fn in_use(unfinished: &Path) -> bool {
    let Ok(file) = File::open(unfinished) else { return false };
    matches!(Flock::lock(file, FlockArg::LockExclusiveNonblock), Err((_, Errno::EWOULDBLOCK)))
}

pub(crate) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// See <https://www.sqlite.org/fileformat.html#the_database_header>.
const HEADER_BYTES: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";

fn application_id(header: &[u8]) -> Option<u32> {
    let id: [u8; 4] = header.get(68..72)?.try_into().ok()?;
    (header.len() == HEADER_BYTES && header.starts_with(MAGIC)).then(|| u32::from_be_bytes(id))
}
