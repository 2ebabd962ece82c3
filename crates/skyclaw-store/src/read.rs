//! Looking records up. Each call reads one consistent snapshot, which may be older than the batch that
//! is being written.

use std::collections::HashMap;
use std::sync::Arc;

use skyclaw_core::{Job, StoredReply};
use skyclaw_proto::JobId;

use crate::batch::ReplyId;
use crate::damage::{Damage, Kind, classify};
use crate::row;
use crate::store::Store;

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is damaged.
    #[error("the database is damaged")]
    Damaged(#[source] Damage),
    /// All connections were busy for too long.
    #[error("too many reads are under way")]
    Busy,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// The question itself could not be encoded.
    #[error("a key cannot be encoded")]
    Encode(#[source] serde_json::Error),
    /// SQLite failed in another way.
    #[error("the database cannot be read")]
    Sqlite(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match (classify(&error), &error) {
            (Kind::Damaged(damage), _) => Self::Damaged(damage),
            (_, sqlx::Error::PoolTimedOut) => Self::Busy,
            (_, sqlx::Error::PoolClosed) => Self::Closed,
            _ => Self::Sqlite(error.into()),
        }
    }
}

impl Store {
    /// A job, in whatever state.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn job(&self, id: &JobId) -> Result<Option<Arc<Job>>, Error> {
        Ok(self.jobs(std::slice::from_ref(id)).await?.pop())
    }

    /// The jobs there are among these, in one round trip.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Arc<Job>>, Error> {
        let ids = serde_json::to_string(ids).map_err(Error::Encode)?;
        let rows = sqlx::query(
            "SELECT jobs.seq, jobs.id, jobs.status, jobs.body, jobs.crc \
             FROM json_each(?) AS wanted CROSS JOIN jobs ON jobs.id = wanted.value",
        )
        .bind(ids)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| row::job(row).map(Arc::new)).collect()
    }

    /// The greatest id among jobs whose id is a UUID of version 7 as [`JobId::from_uuid`] writes it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn greatest_job_id(&self) -> Result<Option<JobId>, Error> {
        // The bounds, one on each side of the prefix, let the index be used; the pattern picks.
        let hex = |digits: usize| "[0-9a-f]".repeat(digits);
        let (eight, four, twelve) = (hex(8), hex(4), hex(12));
        let pattern = format!("{}{eight}-{four}-7{}-{four}-{twelve}", JobId::PREFIX, hex(3));
        let row: Option<(String,)> = sqlx::query_as(
            "SELECT id FROM jobs WHERE id > 'job_' AND id < 'job`' AND id GLOB ? ORDER BY id DESC LIMIT 1",
        )
        .bind(pattern)
        .fetch_optional(&self.readers)
        .await?;
        Ok(row.and_then(|(id,)| JobId::parse(&id).ok()))
    }

    /// The replies there are under these ids, in one round trip. One that a batch not yet written
    /// [forgets](crate::Batch::forgets) is among them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn replies(&self, ids: &[ReplyId]) -> Result<HashMap<ReplyId, Arc<StoredReply>>, Error> {
        let ids: Vec<String> = ids.iter().map(ReplyId::to_string).collect();
        let ids = serde_json::to_string(&ids).map_err(Error::Encode)?;
        let rows = sqlx::query(
            "SELECT replies.id, replies.body, replies.crc \
             FROM json_each(?) AS wanted CROSS JOIN replies ON replies.id = unhex(wanted.value)",
        )
        .bind(ids)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| row::reply(row).map(|(id, reply)| (id, Arc::new(reply)))).collect()
    }
}
