//! Going back to a snapshot whose parts came through the log.
//!
//! ```text
//!   Change::Stage 0, 1, 2 … ──commit──► staged (a table) ──roll_back──► snapshot ──► copy ──► content
//! ```
//!
//! The parts are state like all else: written in the transaction of their place in the log, and part of
//! every copy. So every node that reaches the place of the final command has the same parts and comes to
//! the same verdict, even one that installed a copy half-way.

use std::sync::Arc;

use skyclaw_core::Counters;
use skyclaw_proto::RestoreId;
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnection;

use crate::batch::Batch;
use crate::damage::Damage;
use crate::file::{self, Unfinished};
use crate::load::Loaded;
use crate::read;
use crate::replace::{self, Installed, Reach};
use crate::row;
use crate::schema::reader_options;
use crate::snapshot::{ExtractError, Extraction, Fault, Header};
use crate::store::Store;
use crate::writer::{Error as CommitError, Request};

/// Why what is staged cannot be gone back to. Every node says the same at the same place in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Nothing is staged for this restore, or another has begun since.
    #[error("nothing is staged for {0}: another restore has begun since, or this one was called off")]
    NotStaged(RestoreId),
    /// A part is missing.
    #[error("part {part} of {restore} is missing")]
    Incomplete {
        /// The restore.
        restore: RestoreId,
        /// The first part that is not there.
        part: u32,
    },
    /// The parts are no sound snapshot.
    #[error("the snapshot cannot be used: {0}")]
    Unusable(Fault),
}

/// Why the store did not go back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It must not; the store is as it was, and the log goes on without this.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What is staged cannot be read. The store is as it was.
    #[error("what is staged cannot be read")]
    Read(#[from] read::Error),
    /// The file that the snapshot is put together in cannot be written. The store is as it was.
    #[error(transparent)]
    File(#[from] file::Error),
    /// The snapshot is sound, but the database in it is damaged or newer than this program. The store is
    /// as it was.
    #[error("the database in the snapshot cannot be used")]
    Copy(#[source] replace::Error),
    /// It was not written, or not durably: the store holds its old content or the new, whole.
    #[error("the snapshot cannot be written to the database")]
    Write(#[from] CommitError),
}

impl Store {
    /// Puts together what was staged for `restore`, and checks it. The final command is proposed only after
    /// that: what is found here is found by every node.
    ///
    /// # Errors
    /// [`Error::Refused`] is a verdict that is the same on every node. Any other error is this node's own
    /// trouble: it must not go on to the next place in the log, but try again.
    pub async fn assemble(&self, restore: &RestoreId) -> Result<Assembled, Error> {
        let mut extraction = Extraction::begin(&self.path).await?;
        let mut conn = reader_options(&self.path).connect().await.map_err(read::Error::from)?;
        let assembled = assemble(&mut conn, restore, &mut extraction).await;
        drop(sqlx::Connection::close(conn).await);
        assembled?;
        let (snapshot, unfinished) = extraction.end().await.map_err(refused)?;
        let (_, loaded) = replace::examine(unfinished.path()).await.map_err(Error::Copy)?;
        Ok(Assembled { snapshot, unfinished, loaded })
    }

    /// Replaces everything by the snapshot that was put together, and writes `over` on top of it, all in one
    /// transaction. Nothing is staged any more then; what was gone back to before stays. All batches of before
    /// the place that `over` [reaches](Batch::reach) must be committed.
    ///
    /// `over` brings the numbers that come next; see [`Assembled::counters`]. When this returns, the new
    /// content is durable; the state in memory is to be loaded anew from it. What is frozen is in force on, and
    /// is not named by what is returned. Handles stay valid.
    ///
    /// # Errors
    /// When it was not written, or not durably: the store holds its old content or the new, whole. This node
    /// must not go on to the next place in the log: try again, or restart.
    pub async fn roll_back(&self, to: Assembled, over: Batch) -> Result<Installed, Error> {
        let Assembled { unfinished, loaded, .. } = to;
        let Some((position, counters)) = over.applied.clone() else {
            return Err(Error::Write(CommitError::NoPosition));
        };
        let mut installed = Installed::of(loaded);
        // Those of the copy are another cluster's, or what this one knew then.
        (installed.restores, installed.freezes, installed.staging) = (Vec::new(), Vec::new(), None);
        (installed.counters, installed.position) = (counters, Some(position));
        let (path, reach) = (unfinished.path().to_owned(), Reach::To(Arc::new(over)));
        self.ask(|done| Request::Replace { path, reach, done }).await?;
        Ok(installed)
    }
}

/// A copy of what is staged, found sound; gone when it is dropped.
#[must_use]
pub struct Assembled {
    /// What the snapshot says of itself.
    pub snapshot: Header,
    unfinished: Unfinished,
    loaded: Loaded,
}

impl Assembled {
    /// The numbers that come next after going back: none that came before is given out a second time, so a
    /// fencing token from before is older than any from after. `floor` are those of before.
    #[must_use]
    pub fn counters(&self, floor: Counters) -> Counters {
        let own = self.loaded.applied.as_ref().map(|(_, counters)| *counters).unwrap_or_default();
        highest(own, floor)
    }
}

/// Puts the parts together, one in memory at a time.
async fn assemble(
    conn: &mut SqliteConnection,
    restore: &RestoreId,
    extraction: &mut Extraction,
) -> Result<(), Error> {
    let last: Option<i64> = sqlx::query_scalar("SELECT max(part) FROM staged WHERE restore = ?")
        .bind(restore.as_str().to_owned())
        .fetch_one(&mut *conn)
        .await
        .map_err(read::Error::from)?;
    let last = last.ok_or_else(|| Refusal::NotStaged(restore.clone()))?;
    let too_many = || read::Error::Damaged(Damage(format!("part {last} of what is staged")));
    for part in 0..=u32::try_from(last).map_err(|_| too_many())? {
        let row = sqlx::query("SELECT bytes, crc FROM staged WHERE part = ? AND restore = ?")
            .bind(i64::from(part))
            .bind(restore.as_str().to_owned())
            .fetch_optional(&mut *conn)
            .await
            .map_err(read::Error::from)?;
        let row = row.ok_or_else(|| Refusal::Incomplete { restore: restore.clone(), part })?;
        extraction.feed(row::staged(&row, part)?).await.map_err(refused)?;
    }
    Ok(())
}

fn refused(error: ExtractError) -> Error {
    match error {
        ExtractError::Fault(fault) => Refusal::Unusable(fault).into(),
        ExtractError::File(error) => Error::File(error),
    }
}

fn highest(one: Counters, other: Counters) -> Counters {
    Counters {
        next_seq: one.next_seq.max(other.next_seq),
        next_version: one.next_version.max(other.next_version),
        next_fence: one.next_fence.max(other.next_fence),
        pruned_to: one.pruned_to.max(other.pruned_to),
        own_pruned_to: one.own_pruned_to.max(other.own_pruned_to),
    }
}
