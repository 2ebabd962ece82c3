//! Calls that take a backup and bring one back. Each step of a restore may be repeated, at any coordinator:
//! the restore's id stands for it.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use skyclaw_proto::request::CommitRestoreBody;
use skyclaw_proto::response::{Restore, RestoreBody, RestoresBody};
use skyclaw_proto::{RestoreId, route};
use tokio::io::AsyncWrite;

use crate::Client;
use crate::call::Call;
use crate::error::Error;

/// How long the last step may take besides what it waits on purpose: every node writes the whole snapshot.
const COMMIT_WITHIN: Duration = Duration::from_secs(600);
/// How long a coordinator may take to make the copy that it sends.
const COPY_WITHIN: Duration = Duration::from_secs(300);

impl Client {
    /// `GET /v1/snapshot`: copies a snapshot of everything that was acknowledged before to `out`, and says how
    /// many bytes it had; `progress` is told after each piece. It is asked for again only while nothing of it
    /// was written yet.
    ///
    /// # Errors
    /// See [`Error`]. Whether the snapshot is sound, its own hash says.
    pub async fn snapshot<W: AsyncWrite + Unpin>(
        &self,
        out: &mut W,
        progress: impl FnMut(u64),
    ) -> Result<u64, Error> {
        let call = Call::get(route::SNAPSHOT).polling(COPY_WITHIN);
        self.download(&call, out, progress).await
    }

    /// `POST /v1/restores/:id/parts/:part`: has every coordinator lay a part of a snapshot by. The answer is
    /// the restore if it has been carried out already.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stage_restore(
        &self,
        id: &RestoreId,
        part: u32,
        bytes: Bytes,
    ) -> Result<Option<Restore>, Error> {
        let call =
            Call { method: Method::POST, body: Some(bytes), ..Call::get(route::restore_part(id, part)) };
        self.fetch(&call).await.map(|RestoreBody { restore }| restore)
    }

    /// `POST /v1/restores/:id/commit`: has the whole cluster go back. The answer may take as long as the body's
    /// `wait_ms`, and as long as it takes to write the snapshot.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn commit_restore(
        &self,
        id: &RestoreId,
        body: &CommitRestoreBody,
    ) -> Result<Option<Restore>, Error> {
        let poll = Duration::from_millis(body.wait_ms.unwrap_or(0)) + COMMIT_WITHIN;
        let call = Call::post(route::commit_restore(id), body)?.polling(poll);
        self.fetch(&call).await.map(|RestoreBody { restore }| restore)
    }

    /// `POST /v1/restores/:id/cancel`: drops what was laid by. The answer is the restore if it has been carried
    /// out already.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cancel_restore(&self, id: &RestoreId) -> Result<Option<Restore>, Error> {
        let call = Call::post(route::cancel_restore(id), &serde_json::json!({}))?;
        self.fetch(&call).await.map(|RestoreBody { restore }| restore)
    }

    /// `GET /v1/restores`: what the cluster went back to, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn restores(&self) -> Result<Vec<Restore>, Error> {
        self.fetch(&Call::get(route::RESTORES)).await.map(|RestoresBody { restores }| restores)
    }
}
