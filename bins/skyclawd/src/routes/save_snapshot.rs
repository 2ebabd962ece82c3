//! `GET /v1/snapshot`: everything that was acknowledged before, as one snapshot file.
//!
//! A copy is made first, so that writing goes on and nobody can hold a snapshot of the database for ever. It is
//! sent in pieces, and gone once it was sent or the client has left.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use skyclaw_replication::{Backup, BackupError};
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::sync::{oneshot, watch};

use crate::app::Shared;
use crate::error::ApiError;

/// How long this node may take to have what was acknowledged elsewhere.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may let the answer wait.
const STALL: Duration = Duration::from_secs(30);
/// What is on its way to the client at most.
const PIECE_BYTES: usize = 256 * 1024;

pub(crate) async fn handle(State(app): State<Shared>) -> Result<Response, ApiError> {
    let place = app.bulk.clone().try_acquire_owned();
    let place = place.map_err(|_| ApiError::overloaded("too many whole states at once; try again later"))?;
    let backup = app.node.backup((app.new_uuid)(), CATCH_UP_WITHIN).await.map_err(refusal)?;
    tracing::info!(index = backup.index, bytes = backup.bytes, "a backup is taken");
    let (into, out) = tokio::io::duplex(PIECE_BYTES);
    let (progress, seen) = watch::channel(0);
    let (done, ended) = oneshot::channel();
    app.tracker.spawn(async move {
        let _held = place;
        let sent = send(&backup, into, seen).await;
        if let Err(error) = &sent {
            tracing::warn!(%error, "a backup was not sent to its end");
        }
        // Nobody listens when the client has gone.
        let _ = done.send(sent);
    });
    let body = Body::from_stream(pieces(out, progress, ended));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

async fn send(backup: &Backup, into: DuplexStream, mut seen: watch::Receiver<u64>) -> io::Result<()> {
    let stalled = async {
        // It ends when nothing was taken for long, and when there is nobody to take it.
        while let Ok(Ok(())) = tokio::time::timeout(STALL, seen.changed()).await {}
    };
    // What is dropped unfinished is a copy that was made for this alone.
    tokio::select! {
        sent = backup.write(into) => sent.map(drop).map_err(io::Error::other),
        () = stalled => Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read, or has left")),
    }
}

/// What was written, piece by piece. The stream breaks off unless all of it was, so that nobody takes a part
/// for the whole.
fn pieces(
    out: DuplexStream,
    progress: watch::Sender<u64>,
    ended: oneshot::Receiver<io::Result<()>>,
) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send {
    futures_util::stream::try_unfold((out, progress, ended), |(mut out, progress, ended)| async move {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        if out.read_buf(&mut piece).await? == 0 {
            ended.await.unwrap_or_else(|_| Err(io::ErrorKind::UnexpectedEof.into()))?;
            return Ok(None);
        }
        progress.send_modify(|pieces| *pieces += 1);
        Ok(Some((Bytes::from(piece), (out, progress, ended))))
    })
}

fn refusal(error: BackupError) -> ApiError {
    match error {
        BackupError::NotNow(error) => error.into(),
        error => {
            tracing::error!(error = &error as &dyn std::error::Error, "no backup can be taken");
            ApiError::unavailable(
                skyclaw_proto::ErrorCode::StorageUnavailable,
                "the copy for the backup cannot be made: see the coordinator's log, or ask another one",
            )
        }
    }
}
