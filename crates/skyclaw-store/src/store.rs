//! The handle: cheap to clone, usable from any task.

use std::path::Path;
use std::sync::Arc;

use sqlx::sqlite::SqlitePool;
use tokio::sync::{mpsc, oneshot};

use crate::batch::Batch;
use crate::read;
use crate::writer::{Error, Request};

/// The state machine's durable copy. Clones are handles of the same store.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) path: Arc<Path>,
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) readers: SqlitePool,
}

impl Store {
    /// Writes a batch, all of it or nothing. When this returns, it survives the loss of the process;
    /// the loss of power only after a [checkpoint](Self::checkpoint). Batches are written in the order
    /// of the calls; committing one again is harmless as long as no newer one was.
    ///
    /// # Errors
    /// When the batch was not written. The same one can be tried again.
    pub async fn commit(&self, batch: Arc<Batch>) -> Result<(), Error> {
        self.ask(|done| Request::Commit(batch, done)).await
    }

    /// Makes everything that was committed durable, and returns the log index up to which that is. The
    /// log may be purged up to there.
    ///
    /// # Errors
    /// When that could not be done; what was durable before is so still.
    pub async fn checkpoint(&self) -> Result<Option<u64>, Error> {
        self.ask(Request::Checkpoint).await
    }

    /// Makes everything durable, closes all connections and gives the file free. Reads that are under
    /// way are waited for; an [export](Self::export) is not, it keeps its snapshot.
    ///
    /// # Errors
    /// When the last checkpoint failed. The store is closed all the same.
    pub async fn close(&self) -> Result<Option<u64>, Error> {
        self.readers.close().await;
        self.ask(Request::Close).await
    }

    /// Reads the whole database and checks every page and every record. Takes time in proportion to its
    /// size, and holds nobody up meanwhile.
    ///
    /// # Errors
    /// When something is damaged or cannot be read.
    pub async fn verify(&self) -> Result<(), read::Error> {
        self.export().await?.check().await
    }

    pub(crate) async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Request,
    ) -> Result<T, Error> {
        let (done, answer) = oneshot::channel();
        self.requests.send(request(done)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}
