//! `POST /v1/restores/:id/cancel`: what was laid by for a restore is dropped. Doing so again is harmless.

use axum::Json;
use axum::extract::State;
use skyclaw_proto::RestoreId;
use skyclaw_proto::response::RestoreBody;

use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::Id;

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<RestoreId>,
) -> Result<Json<RestoreBody>, ApiError> {
    let done = app.node.cancel_restore(&id).await?;
    Ok(Json(RestoreBody { restore: done.as_deref().map(Into::into) }))
}
