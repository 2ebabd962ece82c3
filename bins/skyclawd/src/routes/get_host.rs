//! `GET /v1/hosts/:id`: one host.

use axum::Json;
use axum::extract::State;
use skyclaw_core::Refusal;
use skyclaw_proto::HostId;
use skyclaw_proto::response::HostBody;

use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::Id;

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<HostId>,
) -> Result<Json<HostBody>, ApiError> {
    let host = app.node.host(&id).await?.ok_or(Refusal::UnknownHost(id))?;
    Ok(Json(HostBody { host }))
}
