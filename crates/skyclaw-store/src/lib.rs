//! The durable copy of the state machine in SQLite.
//!
//! The replicated log holds every command; the state machine applies them in memory, and what changed
//! is written here some time later, many commands at once:
//!
//! ```text
//!  core::Change ──► Batch ──commit──► writer task ──► SQLite (WAL)   position, records, replies
//!                                                        │ checkpoint: fsynced, the log may be purged
//!              job, jobs, replies, page, export ◄── readers, each from one consistent snapshot
//!                       copy_to ──► a file ──► install, or a snapshot for operators
//! ```
//!
//! What always holds:
//! - the records in the file are exactly those of the position in the file: a batch and its place in the
//!   log are one transaction;
//! - committing a batch again, or one that begins earlier, does no harm: the newest record stands;
//! - what [`Store::checkpoint`] names survives the loss of power, what is only committed survives the
//!   loss of the process;
//! - nothing read is handed out unless its checksum is right;
//! - a file that is damaged, foreign or newer than this program is refused before it is written to;
//! - what replaces the content as a whole ([`Store::install`], [`Store::roll_back`]) is one transaction too;
//! - what is free in the file is used again or, when it is much, given back (`tidy`);
//! - one process has the file at a time.
//!
//! Writing a job costs the same however many ended: nothing here reads or scans history, and what is new is
//! appended. A reply's index is in the order of a digest: with very many kept, each touches a page of its
//! own, and no more than that.
//!
//! Nothing here knows of raft, HTTP, clocks or configuration files; sqlx is not seen outside.

mod batch;
mod check;
mod copy;
mod damage;
mod events;
mod export;
mod file;
mod load;
mod open;
mod page;
mod read;
mod replace;
mod retention;
mod roll_back;
mod row;
mod schema;
pub mod snapshot;
mod store;
mod tidy;
mod write;
mod writer;

pub use batch::{Batch, Position, ReplyId};
pub use copy::{Copied, Error as CopyError};
pub use damage::Damage;
pub use events::{Page as Notices, Retention};
pub use export::{Export, Section};
pub use file::{Error as FileError, remove_unfinished};
pub use open::{Error as OpenError, Opened, Options};
pub use page::JobFilter;
pub use read::Error as ReadError;
pub use replace::{Error as InstallError, Installed};
pub use retention::{EndPlace, EndedCount, EndedPage, ExpiredReplies};
pub use roll_back::{Assembled, Error as RollBackError, Refusal};
pub use store::Store;
pub use writer::Error as CommitError;
