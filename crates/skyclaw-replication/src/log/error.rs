//! Why a log cannot be opened or read. Failures of writes are [`std::io::Error`]s of their callbacks.

use std::io;
use std::path::PathBuf;

/// What to do about files that cannot be trusted.
const ADVICE: &str = "nothing was changed: restore the node's data directory from a backup, or, if the node is \
                      one of a cluster, move its data directory away and let it rejoin";

/// Why a log was not opened. Apart from [`OpenError::Io`] nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The options contradict each other.
    #[error("the options of the log are unusable: {0}")]
    Options(&'static str),
    /// Another process, or another [`Log`](super::Log) of this one, has the directory.
    #[error("{} is in use by another process", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Bytes that were on disk are not what they were.
    #[error("{} is damaged at byte {offset}: {detail}; {ADVICE}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where the damage starts, in bytes.
        offset: u64,
        /// What is wrong there.
        detail: String,
    },
    /// A file that must be there is not.
    #[error("{} is missing; {ADVICE}", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// A file of another log lies among the files of this one.
    #[error("{} belongs to another log; {ADVICE}", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// A file was written by a newer version of this program.
    #[error(
        "{} has format version {version}, which this program is too old to read; nothing was changed: \
         start the newer program that wrote it", file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// The version of its format.
        version: u32,
    },
    /// The log ends before an index that is known to have been in it.
    #[error("the log in {} ends before index {must_reach}, which is known to have been in it; {ADVICE}", dir.display())]
    Short {
        /// The directory.
        dir: PathBuf,
        /// The index that should be there.
        must_reach: u64,
    },
}

/// Why entries cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The range starts before what the log still has.
    #[error("entries before index {first} are purged")]
    Purged {
        /// The first index that can be read.
        first: u64,
    },
    /// The file system refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An entry on disk is not what was written.
    #[error("{} is damaged at byte {offset}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the entry starts, in bytes.
        offset: u64,
    },
    /// The reading task was cancelled: the runtime is shutting down.
    #[error("the read was cancelled")]
    Cancelled,
}
