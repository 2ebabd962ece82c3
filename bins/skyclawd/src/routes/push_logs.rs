//! `POST /v1/jobs/:id/logs`: the host that runs a job brings output that it was asked for, and is told what is
//! wanted next. Nothing is written down, and a piece that comes twice does no more than one, so there is no
//! idempotency record.

use axum::Json;
use axum::extract::State;
use skyclaw_proto::JobId;
use skyclaw_proto::logs::{LogWants, PushLogsBody};

use crate::admission::Permit;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, ClientKey, Id};

pub(crate) async fn handle(
    State(app): State<Shared>,
    _permit: Permit,
    Id(id): Id<JobId>,
    _key: ClientKey,
    body: Body<PushLogsBody>,
) -> Result<Json<LogWants>, ApiError> {
    let piece = body.take().check(id)?;
    let bytes = piece.data.len();
    let logs = app.node.push_logs(piece).await?;
    app.metrics.logs().taken(bytes);
    Ok(Json(LogWants { logs }))
}
